r"""Unbalanced Gromov-Wasserstein, {cite}`sejourne2021`, and the mass that is matched."""

import abc
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..measure import Measure
from .cost import AbstractCrossCost, InnerProduct, SignedDistance
from .problem import AbstractMatchingProblem, checked_cost, prices
from .task import Task


class UnbalancedGromovWasserstein(AbstractMatchingProblem):
    r"""Gromov-Wasserstein for measures of any masses: what fits badly may stay unmatched,

    $$\inf_{P \ge 0} \iint |k(x, x') - k(y, y')|^2\, dP\, dP' + \rho_1 \mathrm{KL}(P_1 \otimes P_1 |
    \mu \otimes \mu) + \rho_2 \mathrm{KL}(P_2 \otimes P_2 | \nu \otimes \nu) + \varepsilon
    \mathrm{KL}(P \otimes P | (\mu \otimes \nu)^{\otimes 2})$$

    {cite}`sejourne2021`. With P = m Q and Q of mass one, the best mass m is a formula, and what is
    left is a problem for Q whose marginals are free at linear prices (theory page): it is solved
    for any masses, and `Match.coupling.mass` is m. The penalties are quadratic in the mass, like
    the distortion, so that the best coupling keeps its shape when all masses grow.

    Args:
      rho: the price of unmatched mass, in units of the distortion (squared inner products, or
        fourth powers of distances); a pair has one for each side, infinite where a marginal is
        kept.
      cost: `InnerProduct()`, `SquaredDistance()` or `SignedDistance(...)`, the quantity k.
      center: whether inner products are taken about the means of the measures.

    `FusedGromovWasserstein` has the same prices beside features that both sides share.
    The temperature of the solver is $\varepsilon$ here, half of that of `GromovWasserstein` for the
    same coupling (the entropy of pairs counts twice); a relative one means the same in both.

    Raises:
      ValueError: a setting out of range.
    """

    rho: tuple[float, float]
    cost: AbstractCrossCost
    center: bool = eqx.field(static=True)

    def __init__(
        self,
        rho: Any,
        cost: AbstractCrossCost = InnerProduct(),
        *,
        center: bool = True,
    ):
        self.rho = prices(rho)
        self.cost = cost if isinstance(cost, SignedDistance) else checked_cost(cost)
        self.center = center or not isinstance(cost, InnerProduct)

    def task(self, mu: Measure, nu: Measure) -> Task:
        from .relaxation import relaxation

        found = relaxation(self, mu, nu)
        assert found is not None
        return found.task


class AbstractMass(eqx.Module):
    """How much mass moves, and what is told of a coupling then."""

    @abc.abstractmethod
    def best(self, objective: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        """The best mass m for the objective J of a coupling Q of mass one."""

    @abc.abstractmethod
    def total(self, objective: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        """The problem's objective at m Q, with its entropy."""

    @abc.abstractmethod
    def value(self, energy: float, lost: tuple[float, float], moved: float) -> float:
        r"""The problem's value at m Q, without: for the energy of Q and the divergences of its
        marginals from shares."""


class One(AbstractMass):
    """Couplings of mass one, with linear prices."""

    rho: tuple[float, float]

    def best(self, objective: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        return np.ones_like(objective)

    def total(self, objective: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        return objective

    def value(self, energy: float, lost: tuple[float, float], moved: float) -> float:
        return energy + float(np.dot(finite(self.rho), lost))


class QuadraticMass(AbstractMass):
    r"""Prices that are quadratic in the mass, as the distortion is.

    Attributes:
      masses: those of the measures, $m_\mu$ and $m_\nu$.
      rho: the prices.
      epsilon: the temperature.
    """

    masses: tuple[float, float]
    rho: tuple[float, float]
    epsilon: float

    def best(self, objective: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        r"""$e^{-J / s}$ with $s = \rho_1 + \rho_2 + \varepsilon$, divergences in J being those to
        weights; the mass of a side that is kept."""
        for mass, rho in zip(self.masses, self.rho, strict=True):
            if np.isinf(rho):
                return np.full(np.shape(objective), mass)
        return np.exp(-self._to_weights(objective) / (sum(self.rho) + self.epsilon))

    def total(self, objective: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        m, prices_ = self.best(objective), finite(self.rho)
        rise = (prices_.sum() + self.epsilon) * (2 * np.log(m) - 1)
        constants = prices_ @ np.square(self.masses) + self.epsilon * np.prod(self.masses) ** 2
        return m**2 * (2 * self._to_weights(objective) + rise) + constants

    def value(self, energy: float, lost: tuple[float, float], moved: float) -> float:
        r"""With $\mathrm{KL}(p \otimes p | a \otimes a) = 2 m(p) \mathrm{KL}(p | a) + (m(p) -
        m(a))^2$."""
        value = 2 * moved**2 * energy
        for rho, divergence, mass in zip(finite(self.rho), lost, self.masses, strict=True):
            linear = moved * (divergence + np.log(moved / mass)) - moved + mass
            value += rho * (2 * moved * linear + (moved - mass) ** 2)
        return float(value)

    def _to_weights(self, objective: Any) -> Any:
        logs = np.log(self.masses)
        return objective - finite(self.rho) @ logs - self.epsilon * logs.sum()


def finite(rho: tuple[float, float]) -> Float[np.ndarray, "2"]:
    """The prices, zero where a marginal is kept and nothing can be paid."""
    return np.where(np.isinf(rho), 0.0, rho)
