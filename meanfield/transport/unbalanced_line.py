"""Unbalanced transport on the line without entropy, by Frank-Wolfe with a certified gap."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..measure import RESULTS, Measure
from .cost import AbstractCost, PowerCost
from .coupling import SparseCoupling
from .divergence import KullbackLeibler, Side
from .envelope import transport_cost
from .line import monotone_plan
from .plan import Plan
from .translation import Potentials, Sides, translated
from .transport import AbstractSolver, Transport, held_constant, marginal_error
from .unbalanced import positive


class UnbalancedLine(AbstractSolver):
    r"""Unbalanced transport on the line, $\varepsilon = 0$, with Kullback-Leibler penalties.

    $$\min_{P \ge 0} \langle P, C \rangle + \rho_1 \mathrm{KL}(P_1 | a) + \rho_2 \mathrm{KL}(P_2 |
    b) = \max_{f_i + g_j \le C_{ij}} \rho_1 \langle a, 1 - e^{-f / \rho_1} \rangle + \rho_2 \langle
    b, 1 - e^{-g / \rho_2} \rangle$$

    Frank-Wolfe in the dual {cite}`sejourne2022faster`: at the best translation of (f, g), the
    reweighted measures $a e^{-f / \rho_1}$ and $b e^{-g / \rho_2}$ have equal mass; the potentials
    of the monotone plan between them are the next vertex, and a line search follows. That plan is
    feasible, so `.gap` bounds the error of the value; the iteration ends when it is a share
    `tolerance` of the value. Where rho is well above the costs that is a few steps; where rho is
    about or below them the gap only falls like the inverse of their number, and
    `UnbalancedExact` is the solver to take.

    Args:
      rho: the price of a unit of mass that is not moved, positive; a pair has one for each side,
        at most one of them infinite.
      tolerance: the gap to reach, as a share of the primal value (but not below rounding).
      max_steps: the largest number of steps, each O((n + m) log(n + m)).

    Raises:
      ValueError: `rho` or `tolerance` not positive; points of another dimension than one, or
        another cost than a `PowerCost`.
    """

    rho: tuple[Any, Any]
    tolerance: Any
    max_steps: int = eqx.field(static=True)

    def __init__(self, rho: Any, *, tolerance: Any = 1e-6, max_steps: int = 2000):
        first, second = rho if isinstance(rho, tuple | list) else (rho, rho)
        self.rho = positive("rho", first), positive("rho", second)
        self.tolerance = positive("tolerance", tolerance)
        self.max_steps = max_steps

    @property
    def balanced(self) -> bool:
        return False

    @property
    def scale_free(self) -> bool:
        return False

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        if mu.dim != 1 or not isinstance(cost, PowerCost):
            raise ValueError(
                "`solver` UnbalancedLine() needs points of shape (n, 1) and a PowerCost; got "
                f"points of shape {mu.points.shape} and {type(cost).__name__}. Use Unbalanced()."
            )
        dtype = jnp.result_type(mu.points, nu.points)
        first, second = (Side(KullbackLeibler(), jnp.asarray(rho, dtype)) for rho in self.rho)
        problem = _LineProblem(mu, nu, cost, (first, second))
        fixed = held_constant(problem)
        last = self._iterate(fixed)
        point = fixed.at(last.potentials)
        closed = point.gap <= self._allowed(point)
        result: Any = RESULTS.where(closed, RESULTS.successful, RESULTS.gap_not_closed)
        finite = jnp.isfinite(point.primal)
        result = RESULTS.where(finite, result, RESULTS.nonfinite_cost)
        coupling = SparseCoupling(
            point.plan.rows, point.plan.cols, point.plan.masses, (mu.size, nu.size)
        )
        return Transport(
            value=jnp.where(closed & finite, _with_slopes(problem, point), jnp.nan),
            coupling=coupling,
            potentials=point.potentials,
            primal=point.primal,
            dual=point.primal - point.gap,
            marginal_error=_broken(fixed, coupling),
            steps=last.steps,
            result=result,
        )

    def _iterate(self, problem: "_LineProblem") -> "_Iterate":
        def going(now: _Iterate) -> Bool[Array, ""]:
            return now.open & (now.steps < self.max_steps)

        def step(now: _Iterate) -> _Iterate:
            point = problem.at(now.potentials)
            vertex = point.plan.f, point.plan.g
            best = _line_search(problem, point.potentials, vertex)
            closed = point.gap <= self._allowed(point)
            f, g = (
                jnp.where(closed, here, here + best * (there - here))
                for here, there in zip(point.potentials, vertex, strict=True)
            )
            return _Iterate((f, g), ~closed, now.steps + 1)

        a, b = problem.mu.weights, problem.nu.weights
        start = (jnp.zeros_like(a), jnp.zeros_like(b))
        initial = _Iterate(start, jnp.ones((), bool), jnp.zeros((), jnp.int32))
        return jax.lax.while_loop(going, step, initial)

    def _allowed(self, point: "_Point") -> Float[Array, ""]:
        rounding = 64 * jnp.finfo(point.primal.dtype).eps * point.size
        return jnp.maximum(self.tolerance * point.primal, rounding)


class _Iterate(NamedTuple):
    potentials: Potentials
    open: Bool[Array, ""]
    steps: Int[Array, ""]


class _Point(NamedTuple):
    """Translated potentials, the plan between the measures they ask for, and what both are worth.

    The size is that of the numbers that are added up, for their rounding.
    """

    potentials: Potentials
    plan: Plan
    primal: Float[Array, ""]
    gap: Float[Array, ""]
    size: Float[Array, ""]


class _LineProblem(eqx.Module):
    """Two measures on the line, the cost, and what each side pays."""

    mu: Measure
    nu: Measure
    cost: PowerCost
    sides: Sides

    def wanted(self, potentials: Potentials) -> tuple[Measure, Measure]:
        """The measures that translated potentials ask for; their masses are equal."""
        (first, second), (f, g) = self.sides, potentials
        a, b = self.mu.weights * first.share(f), self.nu.weights * second.share(g)
        return Measure(self.mu.points, a), Measure(self.nu.points, b)

    def at(self, potentials: Potentials) -> _Point:
        weights = self.mu.weights, self.nu.weights
        (first, second), (f, g) = self.sides, translated(self.sides, weights, potentials)
        one, other = self.wanted((f, g))
        plan = monotone_plan(one, other, self.cost)
        carried = jnp.sum(plan.masses * self.costs(plan))
        paid = [
            jnp.sum(w * side.penalty(side.share(potential)))
            for side, w, potential in ((first, weights[0], f), (second, weights[1], g))
        ]
        won = [
            -w * side.conjugate(-potential)
            for side, w, potential in ((first, weights[0], f), (second, weights[1], g))
        ]
        primal = carried + sum(paid)
        size = primal + sum(jnp.sum(jnp.abs(terms)) for terms in won)
        return _Point((f, g), plan, primal, primal - sum(jnp.sum(terms) for terms in won), size)

    def costs(self, plan: Plan) -> Float[Array, " K"]:
        """The costs of the entries of a plan; those without mass cost nothing."""
        moved = plan.masses > 0
        x = jnp.where(moved[:, None], self.mu.points[plan.rows], 0.0)
        y = jnp.where(moved[:, None], self.nu.points[plan.cols], 0.0)
        return self.cost.pairs(x, y)


_HALVINGS = 40


def _line_search(problem: _LineProblem, here: Potentials, there: Potentials) -> Float[Array, ""]:
    """How far to go, by bisection of the slope of the translation-invariant dual."""
    weights = problem.mu.weights, problem.nu.weights
    df, dg = (end - start for start, end in zip(here, there, strict=True))

    def rising(t: Float[Array, ""]) -> Bool[Array, ""]:
        moved = translated(problem.sides, weights, (here[0] + t * df, here[1] + t * dg))
        one, other = problem.wanted(moved)
        slope = jnp.sum(jnp.where(one.present, one.weights * df, 0.0)) + jnp.sum(
            jnp.where(other.present, other.weights * dg, 0.0)
        )
        return slope > 0

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        up = rising(middle)
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    zero, one = jnp.zeros((), df.dtype), jnp.ones((), df.dtype)
    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (zero, one))
    return jnp.where(rising(one), one, low)


def _with_slopes(problem: _LineProblem, point: _Point) -> Float[Array, ""]:
    r"""The dual value, with $dV = \sum_{ij} P_{ij} dC_{ij} - \langle \phi_1^*(-f), da \rangle -
    \langle \phi_2^*(-g), db \rangle$."""
    (first, second), (f, g) = problem.sides, point.potentials
    plan = held_constant(point.plan._replace(f=-first.conjugate(-f), g=-second.conjugate(-g)))
    carried = transport_cost(problem.costs(plan), problem.mu.weights, problem.nu.weights, plan)
    return point.primal - point.gap + carried - jax.lax.stop_gradient(carried)


def _broken(problem: _LineProblem, coupling: SparseCoupling) -> Float[Array, ""]:
    """How much mass is missing or too much on a side of infinite rho, as a share."""
    sent, received = coupling.marginals
    a, b = (
        jnp.where(jnp.isinf(side.rho), m.weights, marginal)
        for side, m, marginal in zip(
            problem.sides, (problem.mu, problem.nu), (sent, received), strict=True
        )
    )
    return marginal_error(coupling, a, b)
