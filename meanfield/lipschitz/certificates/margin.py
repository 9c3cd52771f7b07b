"""Margins for rounding: what makes a figure computed in float64 a bound (docs: certificates)."""

import numpy as np

from .norms import EPS


def unit(terms: int) -> float:
    """A relative error that float64 cannot exceed in sums of `terms` products, and in what is made
    of a few of them."""
    return 8 * EPS * (terms + 16)


def outward(value: float, rounding: float, slack: float) -> float:
    """A figure raised by its relative and its absolute margin."""
    return value * (1 + 64 * rounding) + 4 * slack


def longest(x: np.ndarray) -> float:
    """The largest norm of a row."""
    return float(np.linalg.norm(x, axis=-1).max(initial=0.0))
