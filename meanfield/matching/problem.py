r"""Matching problems: a structured transform between spaces, and Gromov-Wasserstein."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..measure import Measure
from ..transport.unbalanced import positive
from .cost import (
    AbstractCrossCost,
    InnerProduct,
    SharedCost,
    SharedFeatures,
    SquaredDistance,
    checked_alpha,
    no_data,
)
from .entrywise import Ridge
from .known import KnownPairs, pinned
from .moments import Cloud, Moments, cloud, equal_masses
from .regularizer import AbstractRegularizer, Ridged, as_regularizer
from .spectral import Orthogonal
from .task import Task


Shared = SharedFeatures | SharedCost


class AbstractMatchingProblem(eqx.Module):
    """What is minimised over couplings and transforms."""

    center: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def task(self, mu: Measure, nu: Measure) -> Task:
        """The problem between two measures."""


class CostRegularized(AbstractMatchingProblem):
    r"""Optimal transport across spaces with a cost that is learnt, {cite}`sebbouh2024`:

    $$\min_M \min_\pi \int c_M(x, y)\, d\pi + R(M) + \frac{r}{2} |M|_F^2 + \varepsilon\,
    \mathrm{KL}(\pi \,|\, \mu \otimes \nu)$$

    over matrices M of shape (q, p) and couplings. With the inner product, $c_M(x, y) = -\langle
    M x, y \rangle$, M estimates the cross-moment $\Gamma = \int y x^\top d\pi$; with the squared
    distance, $c_M(x, y) = \frac12 |M x - y|^2$, the regression of y on x.

    Args:
      regularizer: R: `L1`, `ElasticNet`, `ColumnGroups`, `RowGroups`, `Nuclear`, `Rank`,
        `Orthogonal`, `Nonnegative`, `Support`, `Ridge`, or an object with `__call__(v)` and
        `prox(v, tau)` on the entries of M, as in OTT.
      cost: `InnerProduct()` or `SquaredDistance()`.
      ridge: r; by default 1 with inner products (which need it) and 0 with squared distances.
      center: whether both measures are moved to mean zero first.
      rho: the price of a unit of mass that is not matched, in units of the cost (a pair has one for
        each side): marginals are then free, with a Kullback-Leibler penalty. With inner products
        and transforms of any size, the objective would fall without bound as the mass grows: the
        coupling then has mass one, and rho is the price of shares that differ (theory page).
      known: `KnownPairs`, part of every coupling.
      shared: `SharedFeatures` or `SharedCost`, a second cost d that needs no transform.
      alpha: with `shared`, the weight of what is learnt, in (0, 1]; d has $1 - \alpha$.

    Raises:
      ValueError: a setting out of range.
    """

    regularizer: AbstractRegularizer
    cost: AbstractCrossCost
    ridge: float
    center: bool = eqx.field(static=True)
    rho: tuple[float, float]
    known: KnownPairs | None
    shared: Shared | None
    alpha: float

    def __init__(
        self,
        regularizer: Any = Ridge(),
        cost: AbstractCrossCost = InnerProduct(),
        *,
        ridge: float | None = None,
        center: bool = True,
        rho: Any = np.inf,
        known: KnownPairs | None = None,
        shared: Shared | None = None,
        alpha: Any = 0.5,
    ):
        self.regularizer, self.cost = as_regularizer(regularizer), checked_cost(cost)
        default = 1.0 if isinstance(cost, InnerProduct) else 0.0
        self.ridge = float(default if ridge is None else ridge)
        if self.ridge < 0 or (isinstance(cost, InnerProduct) and self.ridge == 0):
            raise ValueError(
                "`ridge` must be positive with InnerProduct() (without it the value is zero or "
                f"minus infinity) and nonnegative with SquaredDistance(); got {ridge}."
            )
        self.center, self.known, self.shared = center, known, shared
        self.alpha = 1.0 if shared is None else checked_alpha(alpha)
        self.rho = prices(rho)

    @property
    def bounded(self) -> bool:
        """Whether the cost is bounded below over all transforms, so that masses may grow."""
        return isinstance(self.cost, SquaredDistance) or isinstance(self.regularizer, Orthogonal)

    def task(self, mu: Measure, nu: Measure) -> Task:
        clouds = cloud("mu", mu, self.center), cloud("nu", nu, self.center)
        moments = Moments(clouds[0].moment, clouds[1].moment)
        return assembled(
            (mu, nu),
            clouds,
            Ridged(self.regularizer.absolute(moments), self.ridge),
            squared=isinstance(self.cost, SquaredDistance),
            rho=self.rho,
            known=self.known,
            shared=self.shared,
            alpha=self.alpha,
        )


def assembled(
    measures: tuple[Measure, Measure],
    clouds: tuple[Cloud, Cloud],
    regularizer: Ridged,
    *,
    squared: bool,
    rho: tuple[float, float],
    known: KnownPairs | None,
    shared: Shared | None = None,
    alpha: float = 1.0,
    norms: float = 0.0,
    constant: float = 0.0,
) -> Task:
    """The task between two clouds, with the parts of its cost that no transform changes."""
    (mu, nu), balanced = measures, bool(np.isinf(rho).all())
    if balanced:
        equal_masses(mu, nu)
    dtype = jnp.result_type(mu.points, nu.points)
    size, shared = (mu.size, nu.size), None if alpha == 1 else shared
    masses = [1.0 if balanced else float(measure.mass) for measure in measures]
    weights = [c.shares * mass for c, mass in zip(clouds, masses, strict=True)]
    known_part, a, b = pinned(known, *clouds, *weights)
    return Task(
        x=jax.device_put(clouds[0].points.astype(dtype)),
        y=jax.device_put(clouds[1].points.astype(dtype)),
        a=jax.device_put(a.astype(dtype)),
        b=jax.device_put(b.astype(dtype)),
        data=no_data(*size, dtype) if shared is None else shared.data(mu, nu, dtype, 1 - alpha),
        rho=rho,
        regularizer=regularizer,
        squared=squared,
        weight=alpha,
        norms=norms,
        pinned=known_part,
        moments=Moments(clouds[0].moment, clouds[1].moment),
        constant=constant,
    )


def checked_cost(cost: Any) -> AbstractCrossCost:
    if not isinstance(cost, InnerProduct | SquaredDistance):
        raise ValueError(f"`cost` must be InnerProduct() or SquaredDistance(); got {cost!r:.80}.")
    return cost


def prices(rho: Any) -> tuple[float, float]:
    """One price or a pair of them, positive; both finite or both infinite."""
    first, second = rho if isinstance(rho, tuple | list) else (rho, rho)
    for price in (first, second):
        positive("rho", price)
    return float(first), float(second)
