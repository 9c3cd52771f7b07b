"""The Wasserstein distance, and the transport problem it comes from."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..measure import RESULTS, Measure, check_measures
from .bottleneck import Bottleneck
from .cost import AbstractCost, MatrixCost, PowerCost, SteepCost, as_cost
from .exact import Exact
from .mass import check_masses
from .transport import AbstractSolver, Transport


def wasserstein(
    mu: Measure, nu: Measure, p: float | int = 2, solver: AbstractSolver = Exact()
) -> Float[Array, ""]:
    r"""The distance $W_p(\mu, \nu) = \min_\pi \left(\int |x - y|^p d\pi\right)^{1/p}$.

    The minimum runs over the couplings of the two measures
    {cite}`peyre2019computational`, Section 2.4, and $W_\infty$ is the least length of the longest
    move. Measures of a mass M other than one count with it: $W_p$ is then $M^{1/p}$ times the
    distance of the normalised measures. Works under `jax.jit`, `jax.vmap` and `jax.grad`; the
    gradient is zero where the distance is.

    Args:
      mu, nu: measures of equal mass on the same space, of any sizes.
      p: the exponent, a number with p >= 1, or `jnp.inf`.
      solver: `Exact()`, in float64 on the host (in closed form in dimension one); with p = inf it
        stands for `Bottleneck()`.

    Raises:
      ValueError: p < 1; a solver that does not solve for this p; different dimensions; different
        masses.
    """
    solver = solver_for(p, solver)
    cost = PowerCost(1 if isinstance(solver, Bottleneck) else p)
    check_spaces(mu, nu, cost)
    if solver.balanced:
        check_masses(mu, nu)
    return _wasserstein(mu, nu, cost, solver)


@eqx.filter_jit
def _wasserstein(
    mu: Measure, nu: Measure, cost: PowerCost, solver: AbstractSolver
) -> Float[Array, ""]:
    scale = working_scale(solver, mu, nu)
    near_mu, near_nu = (measure.with_points(measure.points / scale) for measure in (mu, nu))
    working = working_cost(cost, solver, lambda: wasserstein(near_mu, near_nu, math.inf))
    value = optimal_transport(near_mu, near_nu, working, solver).value
    return scale * length(value, working)


def optimal_transport(
    mu: Measure,
    nu: Measure,
    cost: Any = PowerCost(2),
    solver: AbstractSolver = Exact(),
    *,
    throw: bool = True,
) -> Transport:
    r"""A coupling of mu and nu of least cost $\int c(x, y)\, d\pi(x, y)$.

    Args:
      mu, nu: measures on the same space, of any sizes; of equal mass unless the solver is
        `Unbalanced`. With a matrix as cost they may live on different spaces.
      cost: `PowerCost(p)`, a function of two points that JAX can trace, or a matrix of shape
        (n, m).
      solver: `Exact()`, in float64 on the host, or another solver of this folder; `Bottleneck()`
        minimises the largest cost instead.
      throw: whether to raise when the solver did not succeed; otherwise `.result` says it.

    Returns:
      a `Transport`: `.value`, `.coupling`, `.potentials`, `.gap`, `.marginal_error`, `.result`.

    Raises:
      ValueError: different dimensions; different masses (where they are known, outside `jax.jit`);
        a matrix of another shape.
      RuntimeError: the solver did not succeed (with `throw=True`).
    """
    cost = as_cost(cost)
    check_spaces(mu, nu, cost)
    if solver.balanced:
        check_masses(mu, nu)
    return _optimal_transport(mu, nu, cost, solver, throw)


@eqx.filter_jit
def _optimal_transport(
    mu: Measure, nu: Measure, cost: AbstractCost, solver: AbstractSolver, throw: bool
) -> Transport:
    sol = solver.solve(mu, nu, cost)
    if not throw:
        return sol
    value = sol.result.error_if(sol.value, sol.result != RESULTS.successful)
    return eqx.tree_at(lambda found: found.value, sol, value)


def solver_for(p: float | int, solver: AbstractSolver) -> AbstractSolver:
    """The solver that finds W_p: at p = inf the exact one is `Bottleneck`, and only there."""
    if p != math.inf:
        if isinstance(solver, Bottleneck):
            raise ValueError(
                f"`solver` Bottleneck() finds the distance for p=jnp.inf alone; got p={p}. Use "
                "p=jnp.inf, or leave the solver out."
            )
        return solver
    if not isinstance(solver, Exact | Bottleneck):
        raise ValueError(
            "`solver` must be Exact() or Bottleneck() for p=jnp.inf; got "
            f"{type(solver).__name__}(). Leave it out, or take a finite p."
        )
    return solver if isinstance(solver, Bottleneck) else Bottleneck()


def root(power: Float[Array, ""], p: float) -> Float[Array, ""]:
    """The p-th root, with gradient zero at zero."""
    positive = power > 0
    return jnp.where(positive, jnp.where(positive, power, 1.0) ** (1 / p), 0.0)


def working_scale(solver: AbstractSolver, mu: Any, nu: Any) -> Float[Array, ""]:
    """What to divide the points by: p-th powers stay in range, if the solver lets scales change."""
    if not solver.scale_free:
        return jnp.ones((), mu.points.dtype)
    return power_of_two_above(mu.radius, nu.radius)


# Up to here distances down to 2^-60 of the radius have p-th powers that float32 can tell from zero:
# two clouds far from the origin, or with a far atom in common, are much nearer than that.
_STEEP = 2


def working_cost(
    cost: PowerCost, solver: AbstractSolver, longest: Callable[[], Float[Array, ""]]
) -> PowerCost | SteepCost:
    r"""The cost itself, or for p above 2 in the unit $W_\infty$: p-th powers of it would vanish."""
    if not isinstance(solver, Exact) or cost.p <= _STEEP:
        return cost
    unit = jax.lax.stop_gradient(longest())
    return SteepCost(cost.p, jnp.where(unit > 0, unit, 1.0))


def length(power: Float[Array, ""], cost: PowerCost | SteepCost) -> Float[Array, ""]:
    """The p-th root, in the unit of the points."""
    unit = cost.unit if isinstance(cost, SteepCost) else 1
    return unit * root(power, cost.p)


def power_of_two_above(*radii: Float[Array, ""]) -> Float[Array, ""]:
    """A power of two above the radii: dividing by it is exact and keeps p-th powers in range."""
    largest = jnp.stack([jax.lax.stop_gradient(radius) for radius in radii]).max()
    mantissa, exponent = jnp.frexp(largest)
    return jnp.where(
        jnp.isfinite(largest) & (mantissa > 0), jnp.ldexp(jnp.ones_like(mantissa), exponent), 1.0
    )


def check_spaces(mu, nu, cost: AbstractCost) -> None:
    """Raise unless mu and nu are single measures, on one space unless the cost is a matrix."""
    check_measures(mu=mu, nu=nu)
    if mu.dim != nu.dim and not isinstance(cost, MatrixCost):
        raise ValueError(f"`nu` must have the dimension {mu.dim} of `mu`; got {nu.dim}.")
