"""A bound: a proved number, with its domain, its theorem and its logarithm."""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from meanfield.measure import AbstractDomain


class Bound(eqx.Module):
    """A proved bound on a Lipschitz constant. A number without a proof is not a `Bound`.

    Args:
      log_value: the natural logarithm of the bound (-inf for the bound 0).
      kind: "upper" or "lower".
      domain: where the points may lie; None where the bound holds everywhere.
      theorem: a label of the theory page, "meanfield:wasserstein-p" for instance.
    """

    log_value: float | Float[Array, ""] | Float[np.ndarray, ""]
    kind: str = eqx.field(static=True)
    domain: AbstractDomain | None
    theorem: str = eqx.field(static=True)

    @property
    def value(self) -> float:
        """The bound itself; inf where it exceeds the largest float, never NaN."""
        try:
            return math.exp(float(self.log_value))
        except OverflowError:
            return math.inf

    @property
    def log10_value(self) -> float:
        """The number of decimal digits of the bound, for printing."""
        return float(self.log_value) / math.log(10)

    def __repr__(self) -> str:
        where = "everywhere" if self.domain is None else f"on {_short(self.domain)}"
        return f"Bound({self.kind}, {self._size}, {where}, {self.theorem})"

    @property
    def _size(self) -> str:
        """The bound in digits where they are few, else as a power of ten."""
        if 1e-4 <= self.value < 1e6 or math.isinf(float(self.log_value)):
            return f"{self.value:.4g}"
        return f"10^{self.log10_value:.1f}"


def smallest(bounds: tuple[Bound, ...]) -> Bound:
    """The smallest of some upper bounds.

    Raises:
      ValueError: if there is no bound to choose from.
    """
    if not bounds:
        raise ValueError("`bounds` must hold at least one bound; got none.")
    return min(bounds, key=lambda bound: float(bound.log_value))


def _short(domain: AbstractDomain) -> str:
    name = type(domain).__name__
    if hasattr(domain, "size"):  # a ball of measures: its own radius, not that of its points
        return f"{name}(size={float(domain.size):.4g})"  # pyright: ignore
    return f"{name}(radius={float(domain.radius):.4g})"
