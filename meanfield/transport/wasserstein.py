"""The Wasserstein distance, and the transport problem it comes from."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..measure import Measure
from .cost import AbstractCost, PowerCost
from .coupling import RESULTS, AbstractSolver, Plan, Status, Transport, balanced, same_mass
from .envelope import transport_cost
from .exact import Exact


def wasserstein(
    mu: Measure, nu: Measure, p: float | int = 2, solver: AbstractSolver = Exact()
) -> Float[Array, ""]:
    r"""The distance $W_p(\mu, \nu) = \min_\pi \left(\int |x - y|^p d\pi\right)^{1/p}$.

    The minimum runs over the couplings of the two measures
    {cite}`peyre2019computational`, Section 2.4. Measures of a mass M other than one count with it:
    $W_p$ is then $M^{1/p}$ times the distance of the normalised measures. Works under `jax.jit`,
    `jax.vmap` and `jax.grad`; the gradient is zero where the distance is.

    Args:
      mu, nu: measures of equal mass on the same space, of any sizes.
      p: the exponent, a number with 1 <= p < inf.
      solver: `Exact()`, in float64 on the host (in closed form in dimension one).

    Raises:
      ValueError: p < 1 or infinite; different dimensions; different masses.
    """
    cost = PowerCost(p)
    check_spaces(mu, nu)
    check_masses(mu, nu)
    return _wasserstein(mu, nu, cost, solver)


@eqx.filter_jit
def _wasserstein(
    mu: Measure, nu: Measure, cost: PowerCost, solver: AbstractSolver
) -> Float[Array, ""]:
    scale = power_of_two_above(mu.radius, nu.radius)
    near_mu, near_nu = (measure.with_points(measure.points / scale) for measure in (mu, nu))
    return scale * root(optimal_transport(near_mu, near_nu, cost, solver).value, cost.p)


def optimal_transport(
    mu: Measure,
    nu: Measure,
    cost: AbstractCost = PowerCost(2),
    solver: AbstractSolver = Exact(),
    *,
    throw: bool = True,
) -> Transport:
    r"""A coupling of mu and nu of least cost $\int c(x, y)\, d\pi(x, y)$.

    Args:
      mu, nu: measures of equal mass on the same space, of any sizes.
      cost: `PowerCost(p)` or another cost between two points.
      solver: `Exact()`, in float64 on the host.
      throw: whether to raise when the solver did not succeed; otherwise `.result` says it.

    Returns:
      a `Transport`: `.value`, `.coupling`, `.potentials`, `.gap`, `.result`.

    Raises:
      ValueError: different dimensions; different masses (where they are known, outside `jax.jit`).
      RuntimeError: the solver did not succeed (with `throw=True`).
    """
    check_spaces(mu, nu)
    check_masses(mu, nu)
    return _optimal_transport(mu, nu, cost, solver, throw)


@eqx.filter_jit
def _optimal_transport(
    mu: Measure, nu: Measure, cost: AbstractCost, solver: AbstractSolver, throw: bool
) -> Transport:
    fixed_mu, fixed_nu = jax.lax.stop_gradient((mu, nu))
    plan = solver.plan(fixed_mu.points, fixed_mu.weights, fixed_nu.points, fixed_nu.weights, cost)
    plan = balanced(plan, fixed_mu.weights, fixed_nu.weights)
    return Transport(
        value=_value(mu, nu, cost, plan, throw),
        rows=plan.rows,
        cols=plan.cols,
        masses=plan.masses,
        potentials=(plan.f, plan.g),
        result=_result(plan),
    )


def _value(mu, nu, cost: AbstractCost, plan: Plan, throw: bool) -> Float[Array, ""]:
    """The cost of the plan over the entries that have mass; NaN if there is no plan."""
    moved = (plan.masses > 0)[:, None]
    x = jnp.where(moved, mu.points[plan.rows], 0.0)
    y = jnp.where(moved, nu.points[plan.cols], 0.0)
    value = transport_cost(cost.pairs(x, y), mu.weights, nu.weights, plan)
    if throw:
        value = _result(plan).error_if(value, plan.status != Status.successful)
    return jnp.where(plan.status == Status.successful, value, jnp.nan)


def _result(plan: Plan) -> RESULTS:
    result: Any = RESULTS.failed
    for status in Status:
        result = RESULTS.where(plan.status == status, getattr(RESULTS, status.name), result)
    return result


def root(power: Float[Array, ""], p: float) -> Float[Array, ""]:
    """The p-th root, with gradient zero at zero."""
    positive = power > 0
    return jnp.where(positive, jnp.where(positive, power, 1.0) ** (1 / p), 0.0)


def power_of_two_above(*radii: Float[Array, ""]) -> Float[Array, ""]:
    """A power of two above the radii: dividing by it is exact and keeps p-th powers in range."""
    largest = jnp.stack([jax.lax.stop_gradient(radius) for radius in radii]).max()
    mantissa, exponent = jnp.frexp(largest)
    return jnp.where(
        jnp.isfinite(largest) & (mantissa > 0), jnp.ldexp(jnp.ones_like(mantissa), exponent), 1.0
    )


def check_spaces(mu, nu) -> None:
    """Raise unless mu and nu are single measures on one space."""
    for name, measure in (("mu", mu), ("nu", nu)):
        if not isinstance(measure, Measure) or measure.points.ndim != 2:
            raise ValueError(
                f"`{name}` must be one Measure with points of shape (n, d); got "
                f"{type(measure).__name__} with points of shape {measure.points.shape}. For a "
                "batch use jax.vmap; for ConditionalMeasures use conditional_wasserstein, or "
                "forget the positions with `.atoms`."
            )
    if mu.dim != nu.dim:
        raise ValueError(f"`nu` must have the dimension {mu.dim} of `mu`; got {nu.dim}.")


def check_masses(mu, nu) -> None:
    """Raise unless the masses agree, where they are known."""
    if isinstance(mu.weights, Tracer) or isinstance(nu.weights, Tracer):
        return
    first, second = (np.asarray(measure.weights, np.float64).sum() for measure in (mu, nu))
    if not same_mass(first, second, mu.weights, nu.weights):
        raise ValueError(
            f"`nu` must have the total mass {first:.9g} of `mu`; got {second:.9g}. Divide each "
            "`weights` by its sum."
        )
