"""Numbers as people read them: few digits, powers of ten as powers, a dash for missing."""

import math


MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits; huge and tiny ones as m×10^e."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if -3 <= size < 5:
        return f"{value:.{max(digits - 1 - size, 0)}f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}×10^{int(exponent)}"


def power(log10: float | None) -> str:
    """A number given by its base-10 logarithm; it may be far beyond any float."""
    if log10 is None:
        return MISSING
    return number(10**log10) if -3 <= log10 < 4 else f"10^{log10:.1f}"


def percent(value: float | None) -> str:
    """A share in whole per cent."""
    return MISSING if value is None else f"{100 * value:.0f}%"


def interval(low: float | None, high: float | None) -> str:
    """`[low, high]`, or nothing when it is unknown."""
    return "" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"
