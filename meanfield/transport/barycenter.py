"""Barycentres of a few measures in the Wasserstein distance, with free support."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..measure import RESULTS, Measure
from ..measure.expected import told
from ..measure.wording import ending, figure
from .barycentric_weights import barycentric_weights
from .cost import PowerCost
from .exact import Exact
from .mass import same_mass
from .transport import AbstractSolver


class Barycenter(eqx.Module):
    r"""A measure with a small weighted mean squared distance from some others.

    Attributes:
      measure: the barycentre. Its points differentiate with respect to the points of the measures
        and to the weights of the barycentre, with the plans held fixed (exact where they are
        unique); with respect to the masses of atoms they are constant.
      value: $\sum_k \lambda_k W_2^2(\nu, \mu_k)$ at it. It differentiates as the minimum does, with
        the barycentre held fixed.
      steps: the iterations taken.
      result: `RESULTS.successful`, or what went wrong and what to try next.
    """

    measure: Measure
    value: Float[Array, ""]
    steps: Int[Array, ""]
    result: RESULTS

    def __repr__(self) -> str:
        return (
            f"Barycenter(value {figure(self.value)}, {figure(self.steps)} steps: "
            f"{ending(self.result)})"
        )


def barycenter(
    measures: Measure,
    weights: Any = None,
    size: int | None = None,
    *,
    key: PRNGKeyArray,
    start: Float[Array, "size d"] | None = None,
    solver: AbstractSolver = Exact(),
    rtol: float = 1e-8,
    max_steps: int = 1000,
    throw: bool = True,
) -> Barycenter:
    r"""A measure $\nu$ of equal atoms that makes $\sum_k \lambda_k W_2^2(\nu, \mu_k)$ small.

    Optimal couplings to the measures and their barycentric maps alternate, $y \leftarrow \sum_k
    \lambda_k T_k(y)$ {cite}`cuturi2014barycenters`. The objective never rises, and the iteration
    ends where it cannot lower it; the problem is not convex, so that point may depend on the
    start. On the line every start of distinct points leads to the optimum: averages of
    quantiles. So does the default start for two uniform measures of `size` atoms: to the
    geodesic between them.

    Args:
      measures: K measures of equal mass, as one with a leading axis (`mf.stack`).
      weights: $\lambda$, shape (K,), nonnegative; scaled to sum to one; equal by default.
      size: the number of atoms of the barycentre; that of the measures by default.
      key: for the start, atoms drawn from the measure of largest weight.
      start: points to start from instead.
      solver: how each coupling is found.
      rtol: the iteration ends when the points move by less, relative to their norm (in root mean
        square), but not below rounding.
      max_steps: the largest number of iterations.
      throw: whether to raise when the iteration did not settle; otherwise `.result` says it.

    Raises:
      ValueError: no leading axis, weights or a start that do not fit.
      RuntimeError: masses differ, a coupling was not found, or (with `throw=True`) the iteration
        did not settle.
    """
    if not isinstance(measures, Measure) or measures.points.ndim != 3:
        raise ValueError(
            "`measures` must hold K measures, with points of shape (K, n, d); got "
            f"{told(measures)}. Use "
            "mf.stack([mu, nu])."
        )
    shares = barycentric_weights(weights, len(measures.points), measures.points.dtype)
    if start is None:
        start = _atoms_of_the_weightiest(measures, shares, size or measures.size, key)
    if start.shape[1:] != measures.points.shape[2:] or len(start) != (size or len(start)):
        raise ValueError(
            f"`start` must have shape {(size or len(start), measures.dim)}; got {start.shape}."
        )
    return _barycenter(measures, shares, start, solver, rtol, max_steps, throw)


def _atoms_of_the_weightiest(
    measures: Measure, shares: Float[Array, " K"], size: int, key: PRNGKeyArray
) -> Float[Array, "size d"]:
    """Atoms of the measure with the largest share, as often as their mass says, up to one."""
    first = jnp.argmax(shares)
    points, levels = measures.points[first], jnp.cumsum(measures.weights[first])
    # strictly between the ends, so that atoms without mass are never met
    shift = jax.random.uniform(key, dtype=levels.dtype, minval=0.01, maxval=0.99)
    marks = (jnp.arange(size) + shift) / size * levels[-1]
    return points[jnp.searchsorted(levels, marks)]


class _State(NamedTuple):
    points: Float[Array, "size d"]
    change: Float[Array, ""]
    found: Bool[Array, ""]
    steps: Int[Array, ""]


@eqx.filter_jit
def _barycenter(
    measures: Measure,
    shares: Float[Array, " K"],
    start: Float[Array, "size d"],
    solver: AbstractSolver,
    rtol: Any,
    max_steps: int,
    throw: bool,
) -> Barycenter:
    measures = _of_one_mass(measures)
    fixed = jax.lax.stop_gradient((measures, shares))
    final = _iterate(*fixed, jax.lax.stop_gradient(start), solver, rtol, max_steps)
    points, _ = _step(measures, shares, final.points, solver)
    nu = _equal_atoms(jax.lax.stop_gradient(points), measures)
    values = jax.vmap(lambda mu: solver.solve(nu, mu, PowerCost(2)).value)(measures)
    settled = final.change <= _floor(rtol, points.dtype)
    result = RESULTS.where(settled, RESULTS.successful, RESULTS.barycenter_not_settled)
    result = RESULTS.where(final.found, result, RESULTS.solver_failed)
    value = jnp.sum(shares * values)
    if throw:
        value = result.error_if(value, result != RESULTS.successful)
    return Barycenter(_equal_atoms(points, measures), value, final.steps, result)


def _iterate(
    measures: Measure,
    shares: Float[Array, " K"],
    start: Float[Array, "size d"],
    solver: AbstractSolver,
    rtol: Any,
    max_steps: int,
) -> _State:
    def unsettled(state: _State):
        moving = state.change > _floor(rtol, start.dtype)
        return moving & state.found & (state.steps < max_steps)

    def step(state: _State) -> _State:
        points, found = _step(measures, shares, state.points, solver)
        size = jnp.linalg.norm(points)
        moved = jnp.linalg.norm(points - state.points) / jnp.where(size > 0, size, 1.0)
        return _State(points, moved, found, state.steps + 1)

    infinite = jnp.full((), jnp.inf, start.dtype)
    initial = _State(start, infinite, jnp.ones((), bool), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unsettled, step, initial)


def _step(
    measures: Measure, shares: Float[Array, " K"], points: Float[Array, "size d"], solver
) -> tuple[Float[Array, "size d"], Bool[Array, ""]]:
    r"""The points $\sum_k \lambda_k T_k(y)$, and whether all couplings were found."""
    nu = _equal_atoms(points, measures)

    def image(mu: Measure):
        sol = solver.solve(*jax.lax.stop_gradient((nu, mu)), PowerCost(2))
        return sol.coupling.barycentric(mu.points), sol.result == RESULTS.successful

    images, found = jax.vmap(image)(measures)
    return jnp.einsum("k,knd->nd", shares, images), jnp.all(found)


def _equal_atoms(points: Float[Array, "size d"], measures: Measure) -> Measure:
    """Points that share the mass of the measures."""
    mass = jax.lax.stop_gradient(measures.mass[0])
    return Measure(points, jnp.full(len(points), mass / len(points), points.dtype))


def _of_one_mass(measures: Measure) -> Measure:
    first, masses = measures.mass[0], measures.mass
    weights = eqx.error_if(
        measures.weights,
        ~jnp.all(same_mass(first, masses, measures.weights)),
        "`measures` must have equal total masses. Divide each by its own with `.normalize()`.",
    )
    return Measure(measures.points, weights)


def _floor(rtol: Any, dtype: Any) -> Any:
    return jnp.maximum(rtol, 64 * jnp.finfo(dtype).eps)
