r"""Energies of a coupling that depend on its moments alone.

With features $\varphi$ of x, $\psi$ of y and signs $\sigma$, a kernel $k(x, x') = \sum_k \sigma_k
\varphi_k(x) \varphi_k(x')$ on each space gives the distortion
$$\iint (k(x, x') - k(y, y'))^2\, dQ\, dQ' = |S_x|_\sigma^2 + |S_y|_\sigma^2 - 2
|\Gamma|_\sigma^2, \qquad |\Gamma|_\sigma^2 = \sum_{lk} \sigma_l \sigma_k \Gamma_{lk}^2,$$
with the second moments of the features under the marginals of Q and their cross-moment. A batch of
couplings has a leading axis.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .moments import Moments, largest
from .regularizer import Ridged, inner


class State(NamedTuple):
    r"""The moments of couplings of mass one, on the host.

    Attributes:
      cross: $\Gamma$, shape (s, q, p).
      first, second: $S_x$ and $S_y$ of both marginals, shapes (s, p, p) and (s, q, q).
      data: the fixed part of the cost, (s,).
      lost: what the marginals pay, (s,).
      entropy: (s,).
    """

    cross: Float[np.ndarray, "s q p"]
    first: Float[np.ndarray, "s p p"]
    second: Float[np.ndarray, "s q q"]
    data: Float[np.ndarray, " s"]
    lost: Float[np.ndarray, " s"]
    entropy: Float[np.ndarray, " s"]


class Slopes(NamedTuple):
    r"""The linearised cost $\varphi^\top A \varphi + \psi^\top B \psi - \langle M \varphi, \psi
    \rangle$ of an energy: M of shape (s, q, p), A and B of shapes (s, p, p) and (s, q, q)."""

    transform: Float[np.ndarray, "s q p"]
    first: Float[np.ndarray, "s p p"]
    second: Float[np.ndarray, "s q q"]

    def at(self, state: State) -> Float[np.ndarray, " s"]:
        """The linear cost of couplings."""
        squares = inner(self.first, state.first) + inner(self.second, state.second)
        return np.asarray(squares - inner(self.transform, state.cross))


class AbstractEnergy(eqx.Module):
    """A function of the moments of a coupling of mass one."""

    @abc.abstractmethod
    def value(self, state: State) -> Float[np.ndarray, " s"]:
        """The energy of each coupling."""

    @abc.abstractmethod
    def slopes(self, state: State) -> Slopes:
        """Its gradient, as a cost between features."""

    @abc.abstractmethod
    def bend(self, change: State) -> Float[np.ndarray, " s"]:
        """An upper bound on E(Q + t D) - E(Q) - t <slope, D>, over t squared, for the moments of a
        change D."""

    @property
    @abc.abstractmethod
    def warm(self) -> "AbstractEnergy":
        """The energy while the temperature is still high."""

    @abc.abstractmethod
    def critical(self, moments: Moments) -> float:
        """The temperature below which the product of centred measures is unstable."""


class Distortion(AbstractEnergy):
    """Half the distortion of a coupling, times a weight.

    Attributes:
      signs: those of the features of x and of y.
      weight: what it is multiplied by.
      steepness: how many times the products of points its slope holds: 2 for inner products, 8 for
        squared distances.
    """

    signs: tuple[Float[np.ndarray, " p"], Float[np.ndarray, " q"]]
    weight: float
    steepness: float

    def value(self, state: State) -> Float[np.ndarray, " s"]:
        return self.bend(state)

    def slopes(self, state: State) -> Slopes:
        x, y = self.signs
        return Slopes(
            2 * self.weight * state.cross * np.outer(y, x),
            self.weight * state.first * np.outer(x, x),
            self.weight * state.second * np.outer(y, y),
        )

    def bend(self, change: State) -> Float[np.ndarray, " s"]:
        x, y = self.signs
        alone = _signed(change.first, x, x) + _signed(change.second, y, y)
        return self.weight / 2 * (alone - 2 * _signed(change.cross, y, x))

    @property
    def warm(self) -> "Distortion":
        return self

    def critical(self, moments: Moments) -> float:
        return self.steepness * self.weight * largest(moments.x) * largest(moments.y)


class Conjugate(AbstractEnergy):
    r"""$-R^*(\Gamma)$, what is left of a learnt cost after its transform is the best one; concave.

    Attributes:
      regularizer: R, with its ridge.
      weight: what it is multiplied by.
      share: how much of R but the ridge counts: nothing while it is warm, when zero attracts.
    """

    regularizer: Ridged
    weight: float
    share: float = 1.0

    def value(self, state: State) -> Float[np.ndarray, " s"]:
        best = self.regularizer.maximizer(state.cross)
        return np.asarray(self.weight * (self.regularizer.value(best) - inner(best, state.cross)))

    def slopes(self, state: State) -> Slopes:
        best = np.asarray(self.regularizer.maximizer(state.cross, self.share))
        return Slopes(self.weight * best, np.zeros_like(state.first), np.zeros_like(state.second))

    def bend(self, change: State) -> Float[np.ndarray, " s"]:
        return np.zeros(len(change.cross))

    @property
    def warm(self) -> "Conjugate":
        return Conjugate(self.regularizer, self.weight, 0.0)

    def critical(self, moments: Moments) -> float:
        return self.weight * largest(moments.x) * largest(moments.y) / self.regularizer.ridge


def _signed(matrix: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    r"""$\sum_{lk} \sigma_l \sigma_k A_{lk}^2$ of each matrix."""
    return matrix**2 @ right @ left
