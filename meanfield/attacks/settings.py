"""The settings of attacks, checked."""

import math
from typing import Any

import numpy as np


def checked_positive(name: str, value: Any) -> float:
    """The value as a float.

    Raises:
      ValueError: it is no positive, finite number.
    """
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError(f"`{name}` must be a positive number; got {value!r}.")
    return number


def checked_count(name: str, value: Any) -> int:
    """The value as an int.

    Raises:
      ValueError: it is no whole number of at least 1.
    """
    number = 0.0 if isinstance(value, bool | np.bool) else _number(value)
    if not (number.is_integer() and number >= 1):
        raise ValueError(f"`{name}` must be a whole number of at least 1; got {value!r}.")
    return int(number)


def checked_exponent(p: float | int) -> float:
    """The exponent as a float.

    Raises:
      ValueError: p is not 1, 2 or infinity.
    """
    number = _number(p)
    if number not in (1, 2, math.inf):
        raise ValueError(f"`p` must be 1, 2 or jnp.inf; got {p}.")
    return number


def _number(value: Any) -> float:
    """The value as a float, NaN for what is no number."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return math.nan
