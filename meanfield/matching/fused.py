r"""Fused Gromov-Wasserstein, {cite}`vayer2020`: spaces that share some features and not others."""

from typing import Any

import equinox as eqx
import numpy as np

from ..measure import Measure
from .cost import AbstractCrossCost, InnerProduct, checked_alpha
from .gromov import AbstractDistortion, checked_quantity, of_distortion
from .known import KnownPairs
from .problem import Shared, prices
from .task import Task


class FusedGromovWasserstein(AbstractDistortion):
    r"""Gromov-Wasserstein beside transport between the features that both sides have,

    $$\min_\pi\ \alpha \iint |k(x, x') - k(y, y')|^2\, d\pi\, d\pi + (1 - \alpha) \int d(x, y)\,
    d\pi + \varepsilon\, \mathrm{KL}(\pi \,|\, \mu \otimes \nu)$$

    {cite}`vayer2020`, with k as in `GromovWasserstein` and $d(x_i, y_j) = |\tilde x_i - \tilde
    y_j|^2$. The weight $\alpha$ is that of POT. OTT writes this divided by $\alpha$, with the
    `fused_penalty` $(1 - \alpha) / \alpha$; its steps halve the distortion alone, so that they come
    to the same coupling with half that penalty. With $\alpha = 1$ it is `GromovWasserstein`; as
    $\alpha \to 0$ it becomes transport with the cost d, which needs no search (zero is refused).

    Args:
      shared: d, as `SharedFeatures(x, y)` or as the matrix of `SharedCost(matrix)`.
      alpha: the weight of the distortion, in (0, 1].
      cost: the quantity k, as in `GromovWasserstein`.
      rho: the price of unmatched mass, as in `UnbalancedGromovWasserstein`, which this is with
        $\alpha |k - k'|^2 + \frac{1 - \alpha}2 (d(x, y) + d(x', y'))$ in place of the distortion
        where a price is finite: measures then have any masses. Otherwise masses count as shares.
      center: whether inner products are taken about the means (distances do not ask).
      known: as in `CostRegularized`; only where both prices are infinite.

    Raises:
      ValueError: a setting out of range.
    """

    shared: Shared | None
    alpha: float
    cost: AbstractCrossCost
    rho: tuple[float, float]
    center: bool = eqx.field(static=True)
    known: KnownPairs | None

    def __init__(
        self,
        shared: Shared,
        alpha: Any = 0.5,
        cost: AbstractCrossCost = InnerProduct(),
        *,
        rho: Any = np.inf,
        center: bool = True,
        known: KnownPairs | None = None,
    ):
        self.shared, self.alpha = shared, checked_alpha(alpha)
        self.cost, self.rho, self.known = checked_quantity(cost), prices(rho), known
        self.center = center or not isinstance(cost, InnerProduct)

    def task(self, mu: Measure, nu: Measure) -> Task:
        from .relaxation import relaxation

        found = relaxation(self, mu, nu)
        return of_distortion(self, mu, nu) if found is None else found.task
