"""The conditional Wasserstein distance: mass moves inside fibres, never between positions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..measure import ConditionalMeasure, Measure, check_measures
from .bottleneck import Bottleneck
from .cost import PowerCost, SteepCost
from .exact import Exact
from .mass import same_mass
from .transport import AbstractSolver
from .wasserstein import length, optimal_transport, solver_for, working_cost, working_scale


_BASES = "`nu` must have the base weights of `mu`: no mass moves between positions."


def conditional_wasserstein(
    mu: ConditionalMeasure,
    nu: ConditionalMeasure,
    p: float | int = 2,
    solver: AbstractSolver = Exact(),
) -> Float[Array, ""]:
    r"""The distance $\left(\sum_s \theta_s W_p^p(\mu_s, \nu_s)\right)^{1/p}$.

    It compares sequences position by position: theta is the common base of the two measures and
    mu_s, nu_s their fibres at position s. With p = inf it is $\max_s W_\infty(\mu_s, \nu_s)$ over
    the positions that have mass. It is never less than $W_p$ between the measures with
    positions forgotten. One atom a position needs no solver: the fibre distances are
    $|x_s - y_s|$.

    Args:
      mu, nu: conditional measures with equal bases and equal fibre masses.
      p: the exponent, a number with p >= 1, or `jnp.inf`.
      solver: `Exact()`, run once a position.

    Raises:
      ValueError: p < 1; a solver that does not solve for this p; different dimensions or bases
        (bases are compared where they are known; under `jax.jit` they raise a RuntimeError when
        the program runs).
    """
    solver = solver_for(p, solver)
    cost = PowerCost(1 if isinstance(solver, Bottleneck) else p)
    _check_spaces(mu, nu)
    size = max(mu.size, nu.size)
    mu, nu = mu.pad(size), nu.pad(size)
    _check_bases(mu, nu)
    return _conditional_wasserstein(mu, nu, cost, solver)


@eqx.filter_jit
def _conditional_wasserstein(
    mu: ConditionalMeasure, nu: ConditionalMeasure, cost: PowerCost, solver: AbstractSolver
) -> Float[Array, ""]:
    apart = jnp.any(~same_mass(mu.base, nu.base, mu.base, nu.base))
    base = eqx.error_if((mu.base + nu.base) / 2, apart, _BASES)
    scale = working_scale(solver, mu, nu)
    near_mu, near_nu = (
        Measure(measure.points / scale, jnp.where(base[:, None] > 0, measure.weights, 0.0))
        for measure in (mu, nu)
    )

    def longest() -> Float[Array, ""]:
        costs = _fibre_costs(near_mu, near_nu, PowerCost(1), Bottleneck())
        return _largest(jnp.where(base > 0, costs, 0.0))

    if isinstance(solver, Bottleneck):
        return scale * longest()
    working = working_cost(cost, solver, longest)
    return scale * length(jnp.sum(base * _fibre_costs(near_mu, near_nu, working, solver)), working)


def _largest(values: Float[Array, " s"]) -> Float[Array, ""]:
    """The maximum; of equal ones the first has all of the derivative."""
    return values[jnp.argmax(values)] if len(values) else jnp.zeros((), values.dtype)


def _fibre_costs(
    mu: Measure, nu: Measure, cost: PowerCost | SteepCost, solver: AbstractSolver
) -> Float[Array, " s"]:
    """The transport values of the fibres, stacked along the leading axis."""
    if mu.size == nu.size == 1:
        weights, costs = _dirac_costs(mu, nu, cost)
        return costs if isinstance(solver, Bottleneck) else weights * costs
    return jax.vmap(lambda one, other: optimal_transport(one, other, cost, solver).value)(mu, nu)


def _dirac_costs(
    mu: Measure, nu: Measure, cost: PowerCost | SteepCost
) -> tuple[Float[Array, " s"], Float[Array, " s"]]:
    """The masses and costs of the one move that each fibre of one atom has."""
    weights = (mu.weights[:, 0] + nu.weights[:, 0]) / 2
    weights = eqx.error_if(
        weights,
        ~jnp.all(same_mass(mu.weights, nu.weights, mu.weights, nu.weights)),
        "`nu` must have the fibre masses of `mu`. Divide each fibre's `weights` by their sum.",
    )
    moved = weights[:, None] > 0
    x, y = (jnp.where(moved, measure.points[:, 0], 0.0) for measure in (mu, nu))
    return weights, cost.pairs(x, y)


def _check_bases(mu: ConditionalMeasure, nu: ConditionalMeasure) -> None:
    """Raise unless the bases agree, where they are known."""
    if isinstance(mu.base, Tracer) or isinstance(nu.base, Tracer):
        return
    apart = np.asarray(~same_mass(mu.base, nu.base, mu.base, nu.base))
    if np.any(apart):
        s = int(np.argmax(apart))
        raise ValueError(
            f"{_BASES} At position {s}: expected {mu.base[s]:.6g}, got {nu.base[s]:.6g}."
        )


def _check_spaces(mu, nu) -> None:
    check_measures(ConditionalMeasure, mu=mu, nu=nu)
    if mu.dim != nu.dim:
        raise ValueError(f"`nu` must have the dimension {mu.dim} of `mu`; got {nu.dim}.")
