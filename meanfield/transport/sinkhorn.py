"""Sinkhorn: transport with entropy, on the device, at any size."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from ..implicit import AbstractRefinement, Unrefined
from ..measure import RESULTS, Measure
from .cost import AbstractCost
from .entropic_coupling import EntropicCoupling
from .entropic_problem import EntropicProblem, cost_scales, shares
from .implicit import Potentials, entropic_value, potentials_of
from .mass import same_mass
from .pairs import MEMORY, pairs_of
from .sinkhorn_iterations import Iterate, Schedule, centred, extended, iterate
from .sinkhorn_refinement import refined
from .transport import AbstractSolver, Transport, held_constant


# Epsilon must hold this many units in the last place of the largest cost.
_UNITS = 16


class Sinkhorn(AbstractSolver):
    r"""Entropic transport, $\min_P \langle P, C \rangle + \varepsilon\, \mathrm{KL}(P \,|\, Q)$.

    The minimum runs over couplings of mass M; $Q = a b^T / M$ is the coupling of independent atoms
    {cite}`cuturi2013,peyre2019computational`. Its value exceeds that of `Exact()` by at most
    $\varepsilon M \min(H(a), H(b))$, where H is the entropy of the shares (at most the logarithm
    of their number).

    Everything is carried as logarithms, on the device. One iteration is one product of matrices
    and n m exponentials, in O((n + m) d) memory. It stops when the masses that arrive differ from
    the weights by less than `tolerance` of the mass, summed up. The value, the potentials and the
    coupling differentiate, twice and more, with respect to points, weights, costs and `epsilon`.

    Args:
      epsilon: the temperature, positive.
      relative: whether `epsilon` is in units of the mean cost between atoms, weighted by mass.
      tolerance: the marginal error to reach, as a share of the mass.
      max_steps: the largest number of iterations.
      cooling: the first iterations are at higher temperatures, each by this factor below the one
        before, from the largest cost down; zero begins at epsilon.
      memory: costs other than squared distances are kept where they take at most so many bytes.
      start: potentials (f, g) to begin with, from the `Transport` of a similar problem.
      refinement: a last step before the derivatives are taken. `implicit.Newton()` squares the
        marginal error, and the errors of all derivatives with it, for some products with the
        coupling; by default none. A step that does not lower the marginal error is not taken.
      mesh: devices to share the rows among, along the first axis of the mesh; by default one.

    Raises:
      ValueError: `epsilon` or `tolerance` not positive, `cooling` outside [0, 1), `max_steps` less
        than one.
    """

    epsilon: Any
    tolerance: Any
    cooling: Any
    start: Potentials | None
    refinement: AbstractRefinement
    relative: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    memory: int = eqx.field(static=True)
    mesh: jax.sharding.Mesh | None = eqx.field(static=True)

    def __init__(
        self,
        epsilon: Any = 0.05,
        *,
        relative: bool = True,
        tolerance: Any = 1e-4,
        max_steps: int = 2000,
        cooling: Any = 0.5,
        memory: int = MEMORY,
        start: Potentials | None = None,
        refinement: AbstractRefinement = Unrefined(),
        mesh: jax.sharding.Mesh | None = None,
    ):
        self.epsilon = _number("epsilon", epsilon, lambda value: value > 0, "positive")
        self.tolerance = _number("tolerance", tolerance, lambda value: value > 0, "positive")
        self.cooling = _number("cooling", cooling, lambda value: 0 <= value < 1, "in [0, 1)")
        if max_steps < 1:
            raise ValueError(f"`max_steps` must be at least 1; got {max_steps}.")
        self.relative, self.max_steps, self.memory = relative, max_steps, memory
        self.start, self.refinement = start, refinement
        self.mesh = None if mesh is None else jax.sharding.Mesh(mesh.devices, mesh.axis_names)

    @property
    def balanced(self) -> bool:
        return True

    @property
    def scale_free(self) -> bool:
        return self.relative and self.start is None

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        problem, largest, total = self._problem(mu, nu, cost)
        lazy = self._problem(mu, nu, cost, memory=0)[0]  # a table is not carried into the result
        fixed, scale = held_constant((problem, largest))
        last = iterate(fixed, self._first(fixed), self._schedule(fixed, scale))
        last = refined(fixed, last, self.refinement)
        found = held_constant(centred(fixed, *extended(fixed, last.f, last.g)))
        f, g = potentials_of(problem, found)
        result = self._result(
            fixed, last, scale, same_mass(mu.mass, nu.mass, mu.weights, nu.weights)
        )
        value = total * entropic_value(problem, found)
        dual = jax.lax.stop_gradient(value)
        return Transport(
            value=jnp.where(result == RESULTS.successful, value, jnp.nan),
            coupling=EntropicCoupling(lazy, f, g, total),
            potentials=(f, g),
            primal=dual + held_constant(total) * ((last.received - fixed.b) @ found[1]),
            dual=dual,
            marginal_error=last.error,
            steps=last.steps,
            result=result,
        )

    def temperature(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Float[Array, ""]:
        """Epsilon in units of the cost."""
        return self._problem(mu, nu, cost)[0].epsilon

    def at_temperature(self, epsilon: Float[Array, ""]) -> "Sinkhorn":
        """The same solver at a given epsilon, in units of the cost."""
        return Sinkhorn(
            epsilon,
            relative=False,
            tolerance=self.tolerance,
            max_steps=self.max_steps,
            cooling=self.cooling,
            memory=self.memory,
            refinement=self.refinement,
            mesh=self.mesh,
        )

    def _problem(
        self, mu: Measure, nu: Measure, cost: AbstractCost, memory: int | None = None
    ) -> tuple[EntropicProblem, Array, Array]:
        """The problem between shares, its largest cost, and the mass."""
        (a, mass), (b, other) = shares(mu.weights), shares(nu.weights)
        limit = self.memory if memory is None else memory
        pairs = pairs_of(mu, nu, cost, memory=limit, mesh=self.mesh)
        mean, largest = cost_scales(pairs, a, b)
        epsilon = jnp.asarray(self.epsilon, pairs.dtype)
        if self.relative:
            epsilon = epsilon * jnp.where(mean > 0, mean, 1.0)
        return EntropicProblem(pairs, a, b, epsilon), largest, (mass + other) / 2

    def _first(self, problem: EntropicProblem) -> Float[Array, " m"]:
        if self.start is None:
            return jnp.zeros_like(problem.b)
        g = jnp.asarray(self.start[1], problem.b.dtype)
        if g.shape != problem.b.shape:
            raise ValueError(
                f"`start` must hold potentials of shapes {problem.a.shape} and {problem.b.shape}, "
                f"the sizes of the measures; got {g.shape} for the second."
            )
        return jax.lax.stop_gradient(g)

    def _schedule(self, problem: EntropicProblem, largest: Array) -> Schedule:
        dtype = problem.epsilon.dtype
        cold = self.start is not None
        hottest = jnp.where(jnp.isfinite(largest) & (self.cooling > 0) & (not cold), largest, 0.0)
        return held_constant(
            Schedule(
                tolerance=jnp.asarray(self.tolerance, dtype),
                hottest=jnp.asarray(hottest, dtype),
                cooling=jnp.asarray(self.cooling, dtype),
                max_steps=self.max_steps,
            )
        )

    def _result(
        self, problem: EntropicProblem, last: Iterate, largest: Array, fits: Bool[Array, ""]
    ) -> RESULTS:
        """The status; rounding is blamed where it is larger than what was asked for."""
        rounding = jnp.finfo(problem.epsilon.dtype).eps * largest / problem.epsilon
        met = last.error <= self.tolerance
        coarse = (rounding * _UNITS > 1) | (~met & (rounding > self.tolerance))
        result: Any = RESULTS.where(met, RESULTS.successful, RESULTS.marginals_not_reached)
        result = RESULTS.where(coarse, RESULTS.epsilon_too_small, result)
        finite = jnp.isfinite(largest) & jnp.isfinite(problem.epsilon)
        result = RESULTS.where(finite, result, RESULTS.nonfinite_cost)
        return RESULTS.where(fits, result, RESULTS.unequal_masses)


def _number(name: str, value: Any, allowed: Any, words: str) -> Any:
    """A setting as an array, so that another value compiles nothing; checked where it is known."""
    if isinstance(value, Tracer):
        return value
    if not np.all(allowed(np.asarray(value))):
        raise ValueError(f"`{name}` must be {words}; got {value}.")
    return value if isinstance(value, Array) else np.asarray(value, float)
