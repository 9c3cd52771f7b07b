"""In-context maps: G(mu, x) sends a point x to a point, in the context of a measure mu."""

import abc
from functools import singledispatch
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from meanfield.measure import ConditionalMeasure, Measure, check_any_measure


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
        check_any_measure(mu=mu)
        check_dim(self, mu)
        return mu.with_points(self.at(mu, mu.points))


class AbstractPointMap(AbstractInContextMap):
    """An in-context map that does not look at its context: G(mu, x) = g(x)."""

    @abc.abstractmethod
    def point(self, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        """The image of each point (along the last axis)."""

    def at(self, mu: AnyMeasure, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        return self.point(x)


def check_map(f: Any, name: str = "f") -> None:
    """Raises TypeError unless f is an in-context map; the message says how to wrap what is not."""
    if isinstance(f, AbstractInContextMap):
        return
    came = (
        f"the class {f.__name__}, not an object of it" if isinstance(f, type) else type(f).__name__
    )
    raise TypeError(
        f"`{name}` must be an in-context map such as mf.SelfAttention; got {came}. Of a model take "
        "a layer: model.layers[0].attention. Wrap a function of points in a subclass of "
        "mf.attention.AbstractPointMap whose `point(self, x)` calls it, and one that looks at its "
        "context in a subclass of mf.attention.AbstractInContextMap with `at(self, mu, x)`; both "
        "act along the last axis. Of a layer of another library take its weights, or its call if "
        "it is written in JAX."
    )


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
