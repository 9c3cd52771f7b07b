"""The records of bounds, attacks and certificates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GlobalBound:
    """A proved bound on a whole ball, as a base-10 logarithm, and the theorem that gives it."""

    log10: float | None
    theorem: str | None


@dataclass(frozen=True)
class PeelPoint:
    """One fraction of a token's mass, sent to the best point found; distances by exact transport.

    `ratio = distance_out / distance_in` is a lower bound on what can happen. `coupling_ratio` costs
    the coupling that keeps every part with its token. A search that `stalled` proves little.
    """

    fraction: float
    ratio: float | None
    coupling_ratio: float | None
    distance_in: float | None
    distance_out: float | None
    displacement: float | None
    stalled: bool


@dataclass(frozen=True)
class Peeling:
    """The mass-peeling attack on the worst token: ratios against fractions of its mass.

    The mass may go anywhere in `domain`: the "layernorm" range before the layer, or the "ball" of
    the observed radius; `radius` is that of the domain.
    """

    index: int
    token: str
    domain: str
    radius: float
    points: tuple[PeelPoint, ...]


@dataclass(frozen=True)
class RadiusPoint:
    """What tokens moved by at most `radius` can do: an attack from below, a certificate from above.

    `certificate` bounds the local constant at every measure of the ball, tokens split or not.
    Where tokens are more than two radii apart (`separated`) it also bounds the ratio of distances
    from the input itself, so that no attack exceeds it.
    """

    radius: float
    attack: float | None
    stalled: bool
    certificate: GlobalBound | None
    separated: bool
