r"""Gromov-Wasserstein by the cross-moment: no matrix of distances is ever formed."""

import equinox as eqx
import numpy as np

from ..measure import Measure
from .cost import AbstractCrossCost, InnerProduct, SignedDistance
from .dissimilarities import Dissimilarities
from .entrywise import Ridge
from .known import KnownPairs
from .moments import Cloud, cloud
from .problem import AbstractMatchingProblem, Shared, assembled, checked_cost
from .regularizer import Ridged
from .task import Task


class AbstractDistortion(AbstractMatchingProblem):
    """Problems whose value is a distortion of the coupling, alone or with a second cost.

    Attributes:
      cost: the quantity that is compared.
      alpha: the weight of the distortion; the second cost has the rest.
      shared: the second cost.
      rho: the prices of unmatched mass.
    """

    cost: eqx.AbstractVar[AbstractCrossCost]
    known: eqx.AbstractVar[KnownPairs | None]
    alpha: eqx.AbstractVar[float]
    shared: eqx.AbstractVar[Shared | None]
    rho: eqx.AbstractVar[tuple[float, float]]


class GromovWasserstein(AbstractDistortion):
    r"""The coupling that changes inner products, or squared distances, the least:

    $$\min_\pi \iint |k(x, x') - k(y, y')|^2\, d\pi(x, y)\, d\pi(x', y') + \varepsilon\,
    \mathrm{KL}(\pi \,|\, \mu \otimes \nu), \qquad k(x, x') = \langle x, x' \rangle \text{ or } |x -
    x'|^2$$

    {cite}`memoli2011,peyre2016`. Both are cost-regularized problems with a ridge: with inner
    products $R(M) = \frac18 |M|^2$, with squared distances $R(M) = \frac1{32} |M|^2$ and the fixed
    cost $-4 |x|^2 |y|^2$ (theory page). Masses count as shares.

    Args:
      cost: `InnerProduct()` or `SquaredDistance()`, the quantity k; `SignedDistance(...)` between
        the measures of signed embeddings; or `Dissimilarities(...)`, any numbers between atoms,
        with a solver of matrices.
      center: whether inner products are taken about the means (distances do not ask).
      known: as in `CostRegularized`.
    """

    cost: AbstractCrossCost
    center: bool = eqx.field(static=True)
    known: KnownPairs | None
    alpha: float
    shared: Shared | None
    rho: tuple[float, float]

    def __init__(
        self,
        cost: AbstractCrossCost = InnerProduct(),
        *,
        center: bool = True,
        known: KnownPairs | None = None,
    ):
        self.cost, self.known = checked_quantity(cost), known
        self.center = center or not isinstance(cost, InnerProduct)
        self.alpha, self.shared, self.rho = 1.0, None, (np.inf, np.inf)

    def task(self, mu: Measure, nu: Measure) -> Task:
        return of_distortion(self, mu, nu)


def checked_quantity(cost: AbstractCrossCost) -> AbstractCrossCost:
    return cost if isinstance(cost, SignedDistance | Dissimilarities) else checked_cost(cost)


def of_distortion(problem: AbstractDistortion, mu: Measure, nu: Measure) -> Task:
    """The problem as one of transforms with a ridge, both marginals fixed."""
    if isinstance(problem.cost, Dissimilarities):
        raise ValueError(
            "Dissimilarities(...) are matrices, and Alternation() matches points. Take "
            "`solver=ConditionalGradient()` or `MirrorDescent()`, or match the measures of "
            "`signed_embedding(matrix, rank)` with SignedDistance(...)."
        )
    clouds = cloud("mu", mu, problem.center), cloud("nu", nu, problem.center)
    by_products, alpha = isinstance(problem.cost, InnerProduct), problem.alpha
    return assembled(
        (mu, nu),
        clouds,
        Ridged(Ridge(), 1 / 4 if by_products else 1 / 16),
        squared=False,
        rho=(np.inf, np.inf),
        known=problem.known,
        shared=problem.shared,
        alpha=alpha,
        norms=0.0 if by_products else 4 * alpha,
        constant=alpha * _constant(clouds, by_products),
    )


def _constant(clouds: tuple[Cloud, Cloud], by_products: bool) -> float:
    """What every coupling pays: with distances, for two centred measures."""
    if by_products:
        return sum(float(np.sum(c.moment**2)) for c in clouds)
    mu, nu = clouds
    cross = 4 * np.trace(mu.moment) * np.trace(nu.moment)
    return _spread(mu) + _spread(nu) - float(cross)


def _spread(mu: Cloud) -> float:
    r"""$\iint |x - x'|^4 d\mu d\mu' = 2 E|x|^4 + 2 (E|x|^2)^2 + 4 |S|_F^2$ about the mean."""
    squares = np.sum(mu.points**2, axis=1)
    mean, fourth = mu.shares @ squares, mu.shares @ squares**2
    return float(2 * fourth + 2 * mean**2 + 4 * np.sum(mu.moment**2))
