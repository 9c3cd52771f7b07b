"""In-context maps: G(mu, x) sends a point x to a point, in the context of a measure mu."""

import abc
from functools import singledispatch

import equinox as eqx
from jaxtyping import Array, Float

from meanfield.measure import ConditionalMeasure, Measure


AnyMeasure = Measure | ConditionalMeasure


class AbstractInContextMap(eqx.Module):
    r"""A map $G(\mu, x)$ of points in context, acting on measures by pushforward:
    $F(\mu) = G(\mu, \cdot)_\# \mu$."""

    @abc.abstractmethod
    def at(self, mu: AnyMeasure, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        """The points G(mu, x).

        Args:
          mu: the context.
          x: queries in the layout of `mu.points`: shape (m, d) or (d,) for a `Measure`, shape
            (s, m, d) for a `ConditionalMeasure` (m queries at each position).
        """

    def __call__(self, mu: AnyMeasure) -> AnyMeasure:
        """The pushforward G(mu, .)_# mu: the same masses at the points G(mu, x_i).

        Raises:
          TypeError: mu is not a measure.
          ValueError: mu lives in another dimension than the map.
        """
        if not isinstance(mu, Measure | ConditionalMeasure):
            raise TypeError(
                f"an in-context map acts on a Measure or a ConditionalMeasure; got "
                f"{type(mu).__name__}. Wrap points with mf.Measure(points)."
            )
        check_dim(self, mu)
        return mu.with_points(self.at(mu, mu.points))


class AbstractPointMap(AbstractInContextMap):
    """An in-context map that does not look at its context: G(mu, x) = g(x)."""

    @abc.abstractmethod
    def point(self, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        """The image of each point (along the last axis)."""

    def at(self, mu: AnyMeasure, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        return self.point(x)


@singledispatch
def input_dim(f: AbstractInContextMap) -> int | None:
    """The dimension of the points that f acts on; None where it takes any. A new kind of map
    registers its own."""
    return None


def check_dim(f: AbstractInContextMap, mu: AnyMeasure) -> None:
    """Raises ValueError if mu lives in another dimension than f."""
    expected = input_dim(f)
    if expected is not None and mu.dim != expected:
        raise ValueError(
            f"`mu` must have points of dimension {expected} to match the arrays of the "
            f"{type(f).__name__}; got dimension {mu.dim}."
        )
