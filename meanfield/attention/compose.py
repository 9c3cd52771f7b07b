"""Maps made of maps: a residual connection, and one map after another."""

from collections.abc import Iterable

from jaxtyping import Array, Float

from .map import AbstractInContextMap, AnyMeasure


class Residual(AbstractInContextMap):
    """x -> x + scale f(mu, x)."""

    f: AbstractInContextMap
    scale: float = 1.0

    def at(self, mu: AnyMeasure, x: Float[Array, "*m d"]) -> Float[Array, "*m d"]:
        return x + self.scale * self.f.at(mu, x)


class Composition(AbstractInContextMap):
    r"""The first map, then the second in the context that the first made, and so on:
    $(G_2 \diamond G_1)(\mu, x) = G_2(G_1(\mu, \cdot)_\# \mu,\, G_1(\mu, x))$."""

    maps: tuple[AbstractInContextMap, ...]

    def __init__(self, maps: Iterable[AbstractInContextMap]):
        self.maps = tuple(maps)

    def at(self, mu: AnyMeasure, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        for f in self.maps[:-1]:
            mu, x = f(mu), f.at(mu, x)
        return self.maps[-1].at(mu, x) if self.maps else x

    def __call__(self, mu: AnyMeasure) -> AnyMeasure:
        # the same pushforward, without evaluating each map twice
        for f in self.maps:
            mu = f(mu)
        return mu
