"""The Sinkhorn divergence: entropic transport without the bias of the entropy."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from ..measure import Measure
from .cost import AbstractCost, MatrixCost, PowerCost, as_cost
from .mass import check_masses
from .sinkhorn import Sinkhorn
from .wasserstein import check_spaces, optimal_transport


def sinkhorn_divergence(
    mu: Measure, nu: Measure, cost: Any = PowerCost(2), solver: Sinkhorn = Sinkhorn()
) -> Float[Array, ""]:
    r"""How far two measures are apart, zero if they are equal, at the price of entropic transport.

    $$S_\varepsilon(\mu, \nu) = V_\varepsilon(\mu, \nu) - \tfrac12 V_\varepsilon(\mu, \mu)
    - \tfrac12 V_\varepsilon(\nu, \nu)$$

    with $V_\varepsilon$ the value of `Sinkhorn`, at one epsilon: in units of the mean cost between
    mu and nu, if it is relative. For costs $|x - y|^p$ with $p \le 2$ it is nonnegative, zero
    between equal measures only, and convex in each of them {cite}`feydy2019`. It tends to the
    exact value as epsilon falls, and differentiates twice. Each of the three values is accurate to
    the solver's tolerance, so near zero the sign is as well.

    Args:
      mu, nu: measures of equal mass on the same space.
      cost: symmetric, `PowerCost(p)` or a function of two points.
      solver: `Sinkhorn(...)`, without `start`.

    Raises:
      ValueError: a matrix as cost; different dimensions or masses; a solver with `start`.
      RuntimeError: one of the three problems was not solved.
    """
    cost = as_cost(cost)
    check_spaces(mu, nu, cost)
    check_masses(mu, nu)
    if isinstance(cost, MatrixCost):
        raise ValueError(
            "`cost` must be a function of two points: the divergence also needs costs within each "
            "measure. Use PowerCost(p) or a function."
        )
    if solver.start is not None:
        raise ValueError("`solver` must have no `start`: three different problems are solved.")
    return _divergence(mu, nu, cost, solver)


@eqx.filter_jit
def _divergence(mu: Measure, nu: Measure, cost: AbstractCost, solver: Sinkhorn) -> Float[Array, ""]:
    solver = solver.at_temperature(solver.temperature(mu, nu, cost))
    between, first, second = (
        optimal_transport(one, other, cost, solver).value
        for one, other in ((mu, nu), (mu, mu), (nu, nu))
    )
    return between - (first + second) / 2
