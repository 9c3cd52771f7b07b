r"""The minimising movement of Jordan, Kinderlehrer and Otto for the conditional distance.

$\mu^+ = \arg\min_\nu\ \mathrm{risk}(\nu) + d(\nu, \mu)^2 / (2 \tau)$. For layers of equal particles
this is the proximal point of the risk in the metric of the masses: permuting them does not change
the risk, so the best pairing may be taken to be the identity (docs: theory/training).
"""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .loss import Data
from .method import AbstractMethod, Step
from .problem import TrainingProblem


class Proximal(AbstractMethod):
    r"""The implicit step $\min_\theta \mathrm{risk}(\theta) + |\theta - \theta_k|_m^2 / (2 \tau)$
    {cite}`jordan1998`, of order 1.

    Each step lowers the risk by at least $d^2 / (2 \tau)$, with d the conditional distance between
    the two measures, whatever $\tau$ is and however early the search ends. The minimum is sought by
    L-BFGS from the point itself or from the last displacement, whichever is lower, in the unit
    $\sqrt{2 \tau \cdot \mathrm{risk}}$, further than which no such step goes.

    Args:
      step: tau, in the time of the flow; any size is stable.
      tolerance: of the search, relative to that unit and to the risk.
      max_steps: the largest number of evaluations in one step.
      history: the number of directions that L-BFGS remembers.
    """

    step: float | Float[Array, ""]
    tolerance: float | Float[Array, ""] = 1e-6
    max_steps: int = eqx.field(default=1000, static=True)
    history: int = eqx.field(default=20, static=True)

    @property
    def duration(self) -> Any:
        return self.step

    def init(self, trained: PyTree) -> PyTree:
        """The last displacement, in the unit of its step."""
        return jax.tree.map(jnp.zeros_like, trained)

    def advance(self, problem: TrainingProblem, trained: PyTree, state: PyTree, data: Data) -> Step:
        import optimistix as optx

        risk, field = problem.risk_and_field(trained, data)
        size = jnp.maximum(jnp.abs(risk), jnp.finfo(risk.dtype).tiny)
        units = jax.tree.map(lambda m: _unit(2 * self.step * size, m), problem.masses)

        def point(u: PyTree) -> PyTree:
            return jax.tree.map(lambda theta, unit, v: theta + unit * v, trained, units, u)

        def energy(u: PyTree) -> Float[Array, ""]:
            """(risk + d^2 / (2 tau)) / risk_k."""
            return problem.risk(point(u), data) / size + _squared_norm(u)

        def searched(u: PyTree, _: None) -> Float[Array, ""]:
            """The same in the default precision, the one in which optimistix keeps its history."""
            return energy(_in(risk.dtype, u)).astype(float)

        tolerance = cast(Any, self.tolerance)
        solver = optx.LBFGS(tolerance, tolerance, optx.two_norm, history_length=self.history)
        start = _lower(energy, state, jax.tree.map(jnp.zeros_like, trained))
        found = optx.minimise(
            searched, solver, _in(float, start), max_steps=self.max_steps, throw=False
        )
        u = _lower(energy, _in(risk.dtype, found.value), start)
        settled = found.result == optx.RESULTS.successful
        count = 5 + found.stats["num_steps"]
        return Step(point(u), u, risk, problem.squared_length(field), count, settled)


def _unit(squared: Float[Array, ""], mass: Array) -> Array:
    """How far a number of a particle goes for one unit of length, zero without mass."""
    return jnp.where(mass > 0, jnp.sqrt(squared / jnp.where(mass > 0, mass, 1)), 0)


def _squared_norm(u: PyTree) -> Float[Array, ""]:
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(jnp.square(leaf)), u))


def _in(dtype: Any, u: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), u)


def _lower(energy, u: PyTree, otherwise: PyTree) -> PyTree:
    """The first of two points if its energy is not higher; never one that is not a number."""
    better = energy(u) <= energy(otherwise)
    return jax.tree.map(lambda a, b: jnp.where(better, a, b), u, otherwise)
