"""How results are shown: figures in a few digits, and whether all went well."""

from typing import Any

import numpy as np
from jax.core import Tracer

from .results import RESULTS


def figure(number: Any, digits: int = 5) -> str:
    """A number, or an array of them, in so many digits; tracers have none yet."""
    if isinstance(number, Tracer):
        return "traced"
    try:
        values = np.asarray(number).astype(float)
    except (TypeError, ValueError):  # what a transformation puts in place of an array
        return "unknown"
    if values.ndim == 0:
        return f"{float(values):.{digits}g}"
    return np.array2string(values, precision=digits, threshold=8)


def ending(result: RESULTS) -> str:
    """`successful`, or the first sentence of the advice; of a batch, how many were."""
    index: Any = result._value  # pyright: ignore
    if isinstance(index, Tracer) or not hasattr(index, "ndim"):
        return RESULTS[result]
    if index.ndim == 0:
        return RESULTS[result].split(". ")[0].rstrip(".")
    fine = np.asarray(result == RESULTS.successful)
    return f"{int(fine.sum())} of {fine.size} successful"
