"""What the numbers of a record cannot be below; the JSON schema and the reader share it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Least:
    """The least value of a field, taken or not."""

    strict: bool

    def holds(self, value: float | int) -> bool:
        """Whether a number is large enough."""
        return value > 0 if self.strict else value >= 0

    @property
    def rule(self) -> dict[str, int]:
        """The bound in words of JSON schema."""
        return {"exclusiveMinimum" if self.strict else "minimum": 0}

    def __str__(self) -> str:
        return "positive" if self.strict else "zero or more"


_POSITIVE = {
    *(("Growth", "lengths"), ("Growth", "constants"), ("Row", "lengths")),
    *(("PeelPoint", "fraction"), ("RadiusPoint", "radius"), ("Jump", "before"), ("Jump", "after")),
}
# What may be below zero: scores, logarithms, exponents, and what was set by somebody.
_SIGNED = {
    *("score_min", "score_max", "log10", "exponent", "low", "high", "limit"),
    *("seed", "settings", "config", "assumed", "elapsed"),
}


def least(kind: Any, name: str) -> Least | None:
    """The least value of the numbers in a field of a record; None for any."""
    if (kind.__name__, name) in _POSITIVE:
        return Least(strict=True)
    signed = name in _SIGNED or (kind.__name__, name) == ("Check", "value")
    return None if signed else Least(strict=False)
