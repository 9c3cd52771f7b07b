"""Unbalanced transport: mass may be made and lost at a price, with entropy, on the device."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..measure import RESULTS, Measure
from .cost import AbstractCost
from .divergence import AbstractDivergence, KullbackLeibler, Side
from .entropic_coupling import EntropicCoupling
from .entropic_problem import EntropicProblem, cost_scales, log_shares, shares
from .mass import same_mass
from .pairs import MEMORY, pairs_of
from .softmin import softmin
from .translation import Sides, translated
from .transport import AbstractSolver, Transport, held_constant
from .unbalanced_dual import primal_value, unbalanced_value


# Epsilon must hold this many units in the last place of the largest cost.
_UNITS = 16


class Unbalanced(AbstractSolver):
    r"""Entropic transport that need not move all mass, nor equal masses.

    $$\min_{P \ge 0} \langle P, C \rangle + \sum_i a_i\, \rho_1 \varphi_1(P_{i \cdot} / a_i) +
    \sum_j b_j\, \rho_2 \varphi_2(P_{\cdot j} / b_j) + \varepsilon\, \mathrm{KL}(P \,|\, a b^\top)$$

    {cite}`chizat2018`; $a b^\top$ has the mass $m_a m_b$. Iterations alternate between the
    potentials, as logarithms, and after each pass take the best translation $(f + \lambda, g -
    \lambda)$ at once {cite}`sejourne2022faster`: without it, a large $\rho / \varepsilon$ makes
    them slow. The value differentiates with respect to points, weights (also of absent atoms),
    costs, rho and epsilon, once. O((n + m) d) memory, as `Sinkhorn`.

    `.primal` is the objective at the coupling and `.dual` a lower bound on the optimum. Where a
    divergence forbids something (an infinite rho, `Range`), `.primal` leaves that out and
    `.marginal_error` says how much mass is out of bounds, as a share; elsewhere it is zero.

    Args:
      rho: the price of a unit of mass that is not moved, in units of the cost, positive; a pair
        has one for each side. An infinite rho asks for all mass of its side.
      divergence: `KullbackLeibler()`, `TotalVariation()` or `Range(low, high)`; or a pair.
      epsilon: the temperature, positive.
      relative: whether `epsilon` is in units of the mean cost between atoms, weighted by mass.
      tolerance: the iteration ends when no potential moves by more, in units of epsilon: by this
        share the masses between two atoms still change.
      max_steps: the largest number of iterations (two sweeps over the pairs each).
      translation_invariant: whether to translate.
      memory: costs other than squared distances are kept where they take at most so many bytes.

    Raises:
      ValueError: `rho`, `epsilon` or `tolerance` not positive.
    """

    rho: tuple[Any, Any]
    divergence: tuple[AbstractDivergence, AbstractDivergence]
    epsilon: Any
    tolerance: Any
    relative: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    translation_invariant: bool = eqx.field(static=True)
    memory: int = eqx.field(static=True)

    def __init__(
        self,
        rho: Any,
        divergence: Any = KullbackLeibler(),
        *,
        epsilon: Any = 0.05,
        relative: bool = True,
        tolerance: Any = 1e-4,
        max_steps: int = 10_000,
        translation_invariant: bool = True,
        memory: int = MEMORY,
    ):
        first, second = rho if isinstance(rho, tuple | list) else (rho, rho)
        self.rho = positive("rho", first), positive("rho", second)
        pair = divergence if isinstance(divergence, tuple | list) else (divergence, divergence)
        self.divergence = pair[0], pair[1]
        self.epsilon = positive("epsilon", epsilon)
        self.tolerance = positive("tolerance", tolerance)
        self.relative, self.max_steps, self.memory = relative, max_steps, memory
        self.translation_invariant = translation_invariant

    @property
    def balanced(self) -> bool:
        return False

    @property
    def scale_free(self) -> bool:
        return False

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        empty = (mu.mass == 0) | (nu.mass == 0)
        problem, largest = self._problem(_never_empty(mu, empty), _never_empty(nu, empty), cost)
        lazy, _ = self._problem(mu, nu, cost, memory=0)
        sides = self._sides(problem.epsilon)
        fixed, between, scale = held_constant((problem, sides, largest))
        last = self._iterate(fixed, between)
        found = held_constant((last.f, last.g))
        lost, moved = _lost(sides, mu, nu), unbalanced_value(problem, sides, found)
        value = jnp.where(empty, lost, moved)
        primal, outside = primal_value(fixed, between, found)
        primal, dual = jnp.where(empty, lost, primal), jax.lax.stop_gradient(value)
        result = self._result(fixed, between, last, scale, (mu, nu))
        told = jnp.isfinite(primal) & jnp.isfinite(dual) | (result != RESULTS.successful)
        result = RESULTS.where(told, result, RESULTS.potentials_not_settled)
        mass = jnp.maximum(jnp.sum(fixed.a), jnp.sum(fixed.b))
        return Transport(
            value=jnp.where(result == RESULTS.successful, value, jnp.nan),
            coupling=EntropicCoupling(held_constant(lazy), last.f, last.g, jnp.ones_like(dual)),
            potentials=found,
            primal=jax.lax.stop_gradient(primal),
            dual=dual,
            marginal_error=jnp.where(empty, 0.0, outside / mass),
            steps=last.steps,
            result=result,
        )

    def temperature(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Float[Array, ""]:
        """Epsilon in units of the cost."""
        return self._problem(mu, nu, cost)[0].epsilon

    def at_temperature(self, epsilon: Float[Array, ""]) -> "Unbalanced":
        """The same solver with an epsilon in units of the cost."""
        return Unbalanced(
            self.rho,
            self.divergence,
            epsilon=epsilon,
            relative=False,
            tolerance=self.tolerance,
            max_steps=self.max_steps,
            translation_invariant=self.translation_invariant,
            memory=self.memory,
        )

    def _problem(
        self, mu: Measure, nu: Measure, cost: AbstractCost, memory: int | None = None
    ) -> tuple[EntropicProblem, Array]:
        """The problem between weights (not shares), and its largest cost."""
        pairs = pairs_of(mu, nu, cost, memory=self.memory if memory is None else memory)
        mean, largest = cost_scales(pairs, shares(mu.weights)[0], shares(nu.weights)[0])
        epsilon = jnp.asarray(self.epsilon, pairs.dtype)
        if self.relative:
            epsilon = epsilon * jnp.where(mean > 0, mean, 1.0)
        return EntropicProblem(pairs, mu.weights, nu.weights, epsilon), largest

    def _sides(self, epsilon: Float[Array, ""]) -> Sides:
        first, second = (
            Side(divergence, jnp.asarray(rho, epsilon.dtype))
            for divergence, rho in zip(self.divergence, self.rho, strict=True)
        )
        return first, second

    def _iterate(self, problem: EntropicProblem, sides: Sides) -> "_Iterate":
        log_a, log_b, epsilon = log_shares(problem.a), log_shares(problem.b), problem.epsilon
        weights = problem.a, problem.b

        def going(now: _Iterate) -> Bool[Array, ""]:
            return (now.change > self.tolerance) & (now.steps < self.max_steps)

        def step(now: _Iterate) -> _Iterate:
            f = sides[0].proximal(softmin(problem.pairs, now.g, log_b, epsilon), epsilon)
            g = sides[1].proximal(softmin(problem.pairs.transpose, f, log_a, epsilon), epsilon)
            moved = jnp.maximum(_apart(problem.a, f, now.f), _apart(problem.b, g, now.g))
            if self.translation_invariant:
                f, g = translated(sides, weights, (f, g))
            return _Iterate(f, g, moved / epsilon, now.steps + 1)

        start = _Iterate(
            f=jnp.zeros_like(problem.a),
            g=jnp.zeros_like(problem.b),
            change=jnp.full_like(epsilon, jnp.inf),
            steps=jnp.zeros((), jnp.int32),
        )
        return jax.lax.while_loop(going, step, start)

    def _result(
        self,
        problem: EntropicProblem,
        sides: Sides,
        last: "_Iterate",
        largest: Float[Array, ""],
        measures: tuple[Measure, Measure],
    ) -> RESULTS:
        """The status; rounding is blamed where potentials move by no more than it."""
        settled = last.change <= self.tolerance
        size = jnp.maximum(largest, jnp.max(jnp.where(problem.a > 0, jnp.abs(last.f), 0.0)))
        rounding = jnp.finfo(size.dtype).eps * size / problem.epsilon
        coarse = (rounding * _UNITS > 1) | (~settled & (rounding * _UNITS > last.change))
        result: Any = RESULTS.where(settled, RESULTS.successful, RESULTS.potentials_not_settled)
        result = RESULTS.where(coarse, RESULTS.epsilon_too_small, result)
        finite = jnp.isfinite(largest) & jnp.isfinite(problem.epsilon)
        result = RESULTS.where(finite, result, RESULTS.nonfinite_cost)
        return RESULTS.where(_feasible(sides, *measures), result, RESULTS.masses_out_of_range)


class _Iterate(NamedTuple):
    f: Float[Array, " n"]
    g: Float[Array, " m"]
    change: Float[Array, ""]
    steps: Int[Array, ""]


def _apart(weights: Array, potential: Array, before: Array) -> Float[Array, ""]:
    return jnp.max(jnp.where(weights > 0, jnp.abs(potential - before), 0.0), initial=0.0)


def _never_empty(mu: Measure, empty: Bool[Array, ""]) -> Measure:
    """Something to solve where there is nothing to move."""
    points = jnp.where(empty, 0.0, mu.points)
    return Measure(points, jnp.where(empty, 1.0 / mu.size, mu.weights))


def _lost(sides: Sides, mu: Measure, nu: Measure) -> Float[Array, ""]:
    """What it costs to move nothing."""
    (first, second), (a, b) = sides, (mu.weights, nu.weights)
    return jnp.sum(a * first.penalty(jnp.zeros_like(a))) + jnp.sum(
        b * second.penalty(jnp.zeros_like(b))
    )


def _feasible(sides: Sides, mu: Measure, nu: Measure) -> Bool[Array, ""]:
    """Whether there is a mass that both sides may move."""
    least = [side.bounds[0] * m.mass for side, m in zip(sides, (mu, nu), strict=True)]
    most = [
        jnp.where(m.mass > 0, side.bounds[1] * jnp.where(m.mass > 0, m.mass, 1.0), 0.0)
        for side, m in zip(sides, (mu, nu), strict=True)
    ]
    needed, allowed = jnp.maximum(*least), jnp.minimum(*most)
    return (needed <= allowed) | same_mass(needed, allowed, mu.weights, nu.weights)


def positive(name: str, value: Any) -> Any:
    """A setting as an array, so that another value compiles nothing; checked where it is known."""
    if isinstance(value, Tracer):
        return value
    if not np.all(np.asarray(value) > 0):
        raise ValueError(f"`{name}` must be positive; got {value}.")
    return value if isinstance(value, Array) else np.asarray(value, float)
