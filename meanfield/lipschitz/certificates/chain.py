"""Maps made of maps around a measure: a residual connection, one map after another."""

import math
from functools import cached_property

import numpy as np
from jaxtyping import Float

from .head import Atoms
from .margin import longest
from .model import EXPONENTS, Exponents, Known, LocalModel, Margins, times
from .norms import EPS


Array = np.ndarray


class ResidualKnown(Known):
    """x + alpha f(mu, x)."""

    def __init__(self, inner: Known, scale: float):
        self.inner, self.scale = inner, scale

    @cached_property
    def constant(self) -> Exponents:  # pyright: ignore
        return {p: 1 + self.scale * c for p, c in self.inner.constant.items()}

    @cached_property
    def rows(self) -> Float[Array, " n"]:  # pyright: ignore
        return 1 + self.scale * self.inner.rows

    @property
    def bend(self) -> Exponents:
        return {p: self.scale * b for p, b in self.inner.bend.items()}

    def bends(self, weights: Float[Array, " n"], moves: Float[Array, " n"]) -> Exponents:
        return {p: self.scale * b for p, b in self.inner.bends(weights, moves).items()}

    def pulled(self, weights: Float[Array, " n"]) -> tuple[Float[Array, " n"], Exponents]:
        most = float(weights.max())
        return np.ones_like(weights), {p: most * self.constant[p] for p in EXPONENTS}

    def carried(self, moves: Float[Array, " n"]) -> Float[Array, " n"]:
        return moves + self.scale * self.inner.carried(moves)


class ResidualModel(LocalModel):
    """x + alpha f(mu, x)."""

    def __init__(self, inner: LocalModel, scale: float):
        self.atoms, self.inner, self.scale = inner.atoms, inner, scale
        self.image = inner.atoms.points + scale * inner.image
        self.rounding, self.slack = inner.rounding, abs(scale) * inner.slack
        self.drift = abs(scale) * inner.drift + EPS * longest(self.image)

    @property
    def parts(self) -> list[LocalModel]:
        return self.inner.parts

    def known(self, t: float | Float[Array, " n"]) -> Known:
        return ResidualKnown(self.inner.known(t), abs(self.scale))

    def at_centre(self, p: float | int, splitting: bool) -> float:
        return 1 + abs(self.scale) * self.inner.at_centre(p, splitting)

    def travels(self, t: float | Float[Array, " n"]) -> Float[Array, " n"]:
        return t + abs(self.scale) * self.inner.travels(t)

    def local(self, i: int) -> Float[Array, "e d"]:
        inner = self.inner.local(i)
        return np.eye(len(inner)) + self.scale * inner

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        return moves + self.scale * self.inner.forward(moves)

    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        return pulls + self.scale * self.inner.backward(pulls)


class ChainKnown(Known):
    r"""$D^2(f_m \circ \dots)(r, u) = \sum_k S_k f_k''(P_k r, P_k u)$, the last map first."""

    def __init__(self, links: list[Known]):
        self.links = links

    @cached_property
    def rows(self) -> Float[Array, " n"]:  # pyright: ignore
        moves = np.ones_like(self.links[0].rows)
        for link in self.links:
            moves = link.carried(moves)
        return moves

    @cached_property
    def heads(self) -> list[Exponents]:
        """The constants of what comes before each map."""
        found = [dict.fromkeys(EXPONENTS, 1.0)]
        for link in self.links:
            found.append({p: times(link.constant[p], found[-1][p]) for p in EXPONENTS})
        return found

    @cached_property
    def constant(self) -> Exponents:  # pyright: ignore
        weights, factor = self.pulled(np.ones_like(self.links[-1].rows))
        pulled = {p: times(factor[p], float(weights.max())) for p in EXPONENTS}
        return {p: min(pulled[p], self.heads[-1][p]) for p in EXPONENTS}

    def bends(self, weights: Float[Array, " n"], moves: Float[Array, " n"]) -> Exponents:
        carried = [moves]
        for link in self.links[:-1]:
            carried.append(link.carried(carried[-1]))
        total, factor = dict.fromkeys(EXPONENTS, 0.0), dict.fromkeys(EXPONENTS, 1.0)
        for k in reversed(range(len(self.links))):
            bent = self.links[k].bends(weights, carried[k])
            for p in EXPONENTS:
                total[p] += times(factor[p], times(bent[p], self.heads[k][p]))
            weights, more = self.links[k].pulled(weights)
            factor = {p: times(factor[p], more[p]) for p in EXPONENTS}
        return total

    def pulled(self, weights: Float[Array, " n"]) -> tuple[Float[Array, " n"], Exponents]:
        factor = dict.fromkeys(EXPONENTS, 1.0)
        for link in reversed(self.links):
            weights, more = link.pulled(weights)
            factor = {p: times(factor[p], more[p]) for p in EXPONENTS}
        return weights, factor

    def carried(self, moves: Float[Array, " n"]) -> Float[Array, " n"]:
        for link in self.links:
            moves = link.carried(moves)
        return moves


class ChainModel(LocalModel):
    """Each map at the image of the measure under those before it."""

    def __init__(self, models: list[LocalModel], atoms: Atoms):
        self.atoms, self.models = atoms, models
        self.image = models[-1].image
        margins = Margins(models)
        self.rounding, self.slack = margins.rounding, margins.slack
        self.drift, self.drifts = margins.drift, margins.drifts

    @property
    def parts(self) -> list[LocalModel]:
        return [part for model in self.models for part in model.parts]

    def known(self, t: float | Float[Array, " n"]) -> Known:
        links = []
        for k, model in enumerate(self.models):
            links.append(model.known(t))
            t = self._beyond(k, t)
        return ChainKnown(links)

    def at_centre(self, p: float | int, splitting: bool) -> float:
        return math.prod(model.at_centre(p, splitting) for model in self.models)

    def travels(self, t: float | Float[Array, " n"]) -> Float[Array, " n"]:
        for k in range(len(self.models)):
            t = self._beyond(k, t)
        return np.asarray(t)

    def _beyond(self, k: int, t: float | Float[Array, " n"]) -> Float[Array, " n"]:
        """The radii around the computed image that hold the image of the ball."""
        far = self.models[k].travels(t)
        return far * (1 + 64 * self.rounding) + 4 * self.drifts[k]

    def local(self, i: int) -> Float[Array, "e d"]:
        matrix = np.eye(self.atoms.points.shape[1])
        for model in self.models:
            matrix = model.local(i) @ matrix
        return matrix

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        for model in self.models:
            moves = model.forward(moves)
        return moves

    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        for model in reversed(self.models):
            pulls = model.backward(pulls)
        return pulls
