"""Maps made of maps around a measure: a residual connection, one map after another."""

import math

import numpy as np
from jaxtyping import Float

from .head import Atoms
from .margin import longest
from .model import Known, LocalModel
from .norms import EPS
from .points import EXPONENTS


Array = np.ndarray


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

    def known(self, t: float) -> Known:
        inner, size = self.inner.known(t), abs(self.scale)
        return Known(
            {p: 1 + size * c for p, c in inner.constant.items()},
            {p: size * b for p, b in inner.bend.items()},
        )

    def at_centre(self, p: float | int, splitting: bool) -> float:
        return 1 + abs(self.scale) * self.inner.at_centre(p, splitting)

    def travel(self, t: float) -> float:
        return t + abs(self.scale) * self.inner.travel(t)

    def local(self, i: int) -> Float[Array, "e d"]:
        inner = self.inner.local(i)
        return np.eye(len(inner)) + self.scale * inner

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        return moves + self.scale * self.inner.forward(moves)

    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        return pulls + self.scale * self.inner.backward(pulls)


class ChainModel(LocalModel):
    """Each map at the image of the measure under those before it."""

    def __init__(self, models: list[LocalModel], atoms: Atoms):
        self.atoms, self.models = atoms, models
        self.image = models[-1].image if models else atoms.points
        self.rounding = sum(model.rounding for model in models)
        self.slack, self.drift = 0.0, 0.0
        before = dict.fromkeys(EXPONENTS, 1.0)
        for model in models:  # the error of each part, and what a base that drifted does to it
            here = model.known(self.drift)
            off = max(
                before[p] * (model.slack + _times(here.bend[p], self.drift)) for p in EXPONENTS
            )
            self.slack = max(here.constant.values()) * self.slack + off
            before = {p: _times(before[p], here.constant[p]) for p in EXPONENTS}
            self.drift = model.drift + _times(here.constant[math.inf], self.drift)

    @property
    def parts(self) -> list[LocalModel]:
        return [part for model in self.models for part in model.parts]

    def known(self, t: float) -> Known:
        constant, bend = dict.fromkeys(EXPONENTS, 1.0), dict.fromkeys(EXPONENTS, 0.0)
        for model in self.models:
            here = model.known(t)
            for p in EXPONENTS:  # D^2 (g o f)(r, u) = D^2 g (Df r, Df u) + Dg D^2 f (r, u)
                turned = _times(here.bend[p], constant[math.inf] * constant[p])
                bend[p] = turned + _times(here.constant[p], bend[p])
            # constant[inf] is needed above as it was before this map
            constant = {p: _times(here.constant[p], constant[p]) for p in EXPONENTS}
            t = self._beyond(model, t)
        return Known(constant, bend)

    def at_centre(self, p: float | int, splitting: bool) -> float:
        return math.prod(model.at_centre(p, splitting) for model in self.models)

    def travel(self, t: float) -> float:
        for model in self.models:
            t = self._beyond(model, t)
        return t

    def _beyond(self, model: LocalModel, t: float) -> float:
        """The radius around the computed image that holds the image of the ball."""
        return model.travel(t) * (1 + 64 * self.rounding) + 4 * self.drift

    def local(self, i: int) -> Float[Array, "e d"]:
        product = np.eye(self.atoms.points.shape[1])
        for model in self.models:
            product = model.local(i) @ product
        return product

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        for model in self.models:
            moves = model.forward(moves)
        return moves

    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        for model in reversed(self.models):
            pulls = model.backward(pulls)
        return pulls


def _times(a: float, b: float) -> float:
    """A product in which zero times infinity is zero: a map that is constant stays so."""
    return 0.0 if a == 0 or b == 0 else a * b
