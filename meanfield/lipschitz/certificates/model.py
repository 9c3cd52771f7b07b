"""What is known of a map around a measure: constants at it, and constants in every ball."""

import abc
import math

import numpy as np
from jaxtyping import Float

from .head import Atoms


Array = np.ndarray
INFINITY = float("inf")


class Known:
    """Numbers about a map in the ball of radius t, for the exponent p and for p = inf.

    Attributes:
      constant: p -> a coupling constant on the ball.
      bend: p -> a bound on the second derivative, |D^2(r, u)|_p <= bend |r|_inf |u|_p.
    """

    def __init__(self, constant: dict[float | int, float], bend: dict[float | int, float]):
        self.constant = {p: _finite(x) for p, x in constant.items()}
        self.bend = {p: _finite(x) for p, x in bend.items()}


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
    settled: dict[float | int, float]

    @abc.abstractmethod
    def known(self, t: float) -> Known:
        """Constants on the ball of radius t."""

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

    def travel(self, t: float) -> float:
        """How far any output particle can be from that of its atom, in the ball of radius t."""
        return t * self.known(t).constant[math.inf] if t else 0.0


def _finite(x: float) -> float:
    return float(x) if np.isfinite(x) else INFINITY
