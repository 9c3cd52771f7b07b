"""Margins for rounding: what makes a figure computed in float64 a bound (docs: certificates)."""

import numpy as np

from .norms import EPS


def unit(terms: int, score: float = 0.0) -> float:
    """A relative error that float64 cannot exceed in sums of products of `terms` numbers, in what
    is made of a few of them, and in shares whose scores are made of parts as large as `score`."""
    return 8 * EPS * (terms + 16) * (1 + score)


def outward(value: float, rounding: float, slack: float) -> float:
    """A figure raised by its relative and its absolute margin."""
    return value * (1 + 64 * rounding) + 64 * slack


def longest(x: np.ndarray) -> float:
    """The largest norm of a row."""
    return float(np.linalg.norm(x, axis=-1).max(initial=0.0))
