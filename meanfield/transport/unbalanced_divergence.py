"""The unbalanced Sinkhorn divergence: entropic transport without the bias of the entropy."""

from typing import Any

import equinox as eqx
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..measure import Measure
from .cost import AbstractCost, MatrixCost, PowerCost, as_cost
from .unbalanced import Unbalanced
from .wasserstein import check_spaces, optimal_transport


def unbalanced_sinkhorn_divergence(
    mu: Measure, nu: Measure, solver: Unbalanced, cost: Any = PowerCost(2)
) -> Float[Array, ""]:
    r"""How far two measures of any masses are apart, zero if they are equal.

    $$S(\mu, \nu) = V(\mu, \nu) - \tfrac12 V(\mu, \mu) - \tfrac12 V(\nu, \nu) +
    \tfrac{\varepsilon}{2} (m_\mu - m_\nu)^2$$

    with V the value of `Unbalanced`, at one epsilon: in units of the mean cost between mu and nu,
    if it is relative. It is nonnegative, and zero only between equal measures, where $e^{-c /
    \varepsilon}$ is a positive definite universal kernel, as for $|x - y|$ and $|x - y|^2$, and the
    divergence is strict as Kullback-Leibler is {cite}`sejourne2019`. It differentiates once.

    Args:
      mu, nu: measures on the same space.
      solver: `Unbalanced(rho, ...)` with the same rho and divergence on both sides.
      cost: symmetric, `PowerCost(p)` or a function of two points.

    Raises:
      ValueError: sides that differ; a matrix as cost; different dimensions.
      RuntimeError: one of the three problems was not solved.
    """
    cost = as_cost(cost)
    check_spaces(mu, nu, cost)
    _check_symmetry(solver, cost)
    return _divergence(mu, nu, solver, cost)


@eqx.filter_jit
def _divergence(
    mu: Measure, nu: Measure, solver: Unbalanced, cost: AbstractCost
) -> Float[Array, ""]:
    epsilon = solver.temperature(mu, nu, cost)
    solver = solver.at_temperature(epsilon)
    between, first, second = (
        optimal_transport(one, other, cost, solver).value
        for one, other in ((mu, nu), (mu, mu), (nu, nu))
    )
    return between - (first + second) / 2 + epsilon * (mu.mass - nu.mass) ** 2 / 2


def _check_symmetry(solver: Unbalanced, cost: AbstractCost) -> None:
    if isinstance(cost, MatrixCost):
        raise ValueError(
            "`cost` must be a function of two points: the divergence also needs costs within each "
            "measure, which a matrix between them does not hold."
        )
    first, second = solver.rho
    known = not (isinstance(first, Tracer) or isinstance(second, Tracer))
    if solver.divergence[0] != solver.divergence[1] or (known and not np.all(first == second)):
        raise ValueError(
            "`solver` must have one rho and one divergence for both sides; got "
            f"rho={solver.rho} and {solver.divergence}."
        )
