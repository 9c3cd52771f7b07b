"""The settings of attacks, checked."""

import math
from typing import Any


def checked_positive(name: str, value: Any) -> float:
    """The value as a float.

    Raises:
      ValueError: it is no positive, finite number.
    """
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"`{name}` must be a positive number; got {value!r}.")
    return number


def checked_count(name: str, value: Any) -> int:
    """The value as an int.

    Raises:
      ValueError: it is no whole number of at least 1.
    """
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    if not whole or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1; got {value!r}.")
    return int(value)


def checked_exponent(p: float | int) -> float:
    """The exponent as a float.

    Raises:
      ValueError: p is not 1, 2 or infinity.
    """
    if p not in (1, 2, math.inf):
        raise ValueError(f"`p` must be 1, 2 or jnp.inf; got {p}.")
    return float(p)
