"""What is known of a map around a measure: constants at it, and constants in every ball."""

import abc
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from .head import Atoms


Array = np.ndarray
Exponents = dict[float | int, float]
EXPONENTS = (1, 2, math.inf)
INFINITY = float("inf")


class Known(abc.ABC):
    """Numbers about a map f in the ball in which label i moves by at most t_i, for the exponents p.

    Attributes:
      constant: p -> a coupling constant on the ball.
      rows: shape (n,), |(Df r)_i| <= rows_i where all |r_j| <= 1.
    """

    constant: Exponents
    rows: Float[Array, " n"]

    @abc.abstractmethod
    def bends(self, weights: Float[Array, " n"], moves: Float[Array, " n"]) -> Exponents:
        """p -> a number B such that |w D^2 f(r, u)|_p <= B |u|_p wherever |r_i| <= moves_i, with a
        weight for each label."""

    @abc.abstractmethod
    def pulled(self, weights: Float[Array, " n"]) -> tuple[Float[Array, " n"], Exponents]:
        """Weights w' and numbers c_p with |w Df u|_p <= c_p |w' u|_p."""

    @abc.abstractmethod
    def carried(self, moves: Float[Array, " n"]) -> Float[Array, " n"]:
        """How large (Df r)_i can be wherever |r_i| <= moves_i."""

    @property
    def bend(self) -> Exponents:
        """p -> a bound on the second derivative, |D^2(r, u)|_p <= bend |r|_inf |u|_p."""
        ones = np.ones_like(self.rows)
        return self.bends(ones, ones)


class LocalModel(abc.ABC):
    """A map at a measure. `local(i)` is the matrix D_i; `forward`, `backward` apply J.

    Attributes:
      atoms, image: the atoms of the measure, and where they go.
      rounding: the relative error of what is computed.
      slack: the rounding error of the constants at the measure; drift: that of the image.
      exact: whether the constant for p = 2 at the measure is proved nearly exactly.
    """

    atoms: Atoms
    image: Float[Array, "n e"]
    rounding: float
    slack: float
    drift: float
    exact: bool = False
    settled: Exponents

    @abc.abstractmethod
    def known(self, t: float | Float[Array, " n"]) -> Known:
        """Constants on the ball of radius t, or of a radius for each label."""

    @abc.abstractmethod
    def at_centre(self, p: float | int, splitting: bool) -> float:
        """A cheap upper bound on the constant at the measure itself."""

    @property
    def parts(self) -> "list[LocalModel]":
        """The attentions that a map is made of;
        `settled` takes the constants of one at its measure where they are known well."""
        return []

    def local_bounds(self, t: float) -> Float[Array, " n"]:
        """Bounds on ||D_i|| that come with the ball of radius t."""
        return np.full(len(self.atoms.points), INFINITY)

    @abc.abstractmethod
    def local(self, i: int) -> Float[Array, "e d"]:
        """D_i: the derivative at atom i in a frozen context."""

    @abc.abstractmethod
    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        """J applied to some moves of the atoms."""

    @abc.abstractmethod
    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        """J transposed."""

    def travels(self, t: float | Float[Array, " n"]) -> Float[Array, " n"]:
        """How far an output particle of each label can be from that of its atom, in the ball."""
        radii = np.broadcast_to(np.asarray(t, float), len(self.atoms.points))
        if not radii.any():
            return radii
        return times(self.known(t).carried(np.ones_like(radii)), float(radii.max()))

    def travel(self, t: float) -> float:
        """How far any output particle can be from that of its atom, in the ball of radius t."""
        return float(self.travels(t).max())


class Margins:
    """The rounding errors of maps made one after another: of constants (`slack`), of the last
    image (`drift`, and `drifts` for each), and relative ones (`rounding`)."""

    def __init__(self, models: list[LocalModel]):
        self.rounding = sum(model.rounding for model in models)
        self.slack, self.drift, self.drifts = 0.0, 0.0, []
        before = dict.fromkeys(EXPONENTS, 1.0)
        for model in models:  # the error of each part, and what a base that drifted does to it
            here = model.known(self.drift)
            bend = here.bend if self.drift else dict.fromkeys(EXPONENTS, 0.0)
            off = max(before[p] * (model.slack + times(bend[p], self.drift)) for p in EXPONENTS)
            self.slack = max(here.constant.values()) * self.slack + off
            before = {p: times(before[p], here.constant[p]) for p in EXPONENTS}
            self.drift = model.drift + times(here.constant[math.inf], self.drift)
            self.drifts.append(self.drift)


def times(x: Any, y: Any) -> Any:
    """A product that is zero where a factor is: what does not move is not bent."""
    with np.errstate(invalid="ignore"):
        product = np.where((np.asarray(x) == 0) | (np.asarray(y) == 0), 0.0, np.multiply(x, y))
    return float(product) if product.ndim == 0 else product


def finite(x: float) -> float:
    """A bound that could not be computed is infinite."""
    return float(x) if np.isfinite(x) else INFINITY
