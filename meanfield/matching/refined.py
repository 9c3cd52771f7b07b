r"""A match at a refined point, with its derivatives.

What `match` returns satisfies two equations as well as its tolerances ask: the masses that arrive
under the potentials are the weights, and the transform is the best one for the coupling,

$$r_j(g, M) = b_j, \qquad
M = \mathrm{prox}_{\tau R}\big(M - \tau (s M S_x + r M - \Gamma(g, M))\big)$$

for any $\tau > 0$ (theory page on implicit derivatives). One Newton step on both together makes the
distance from the solution, and with it the error of every derivative, quadratic.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..implicit import AbstractRefinement, Newton, RefinedRoot, refined_root
from ..measure import Measure
from ..measure.wording import figure
from ..transport import DenseCoupling, EntropicCoupling, SparseCoupling
from ..transport.entropic_problem import EntropicProblem, log_shares, shares
from ..transport.softmin import softmin
from .entrywise import L1, ElasticNet, Nonnegative, Ridge, Support
from .gromov import AbstractDistortion
from .groups import ColumnGroups, RowGroups
from .match import Match
from .moments import largest
from .problem import AbstractMatchingProblem
from .regularizer import Ridged
from .task import Task, first_of, pairs_of


_PENALTIES = (Ridge, L1, ElasticNet, ColumnGroups, RowGroups)
_CONSTRAINTS = (Nonnegative, Support)


class RefinedMatch(eqx.Module):
    r"""A match at a refined point; its first three fields differentiate, once.

    Attributes:
      transform: M, shape (q, p), by the implicit function theorem at this point.
      coupling: the coupling, by the same.
      objective: the objective with the entropy, by its envelope: M and the potentials are held.
      residual: how far both equations were from holding, relative.
      refined_residual: how far they are now.
      distance: an estimate of the distance of the match from the solution (potentials in units of
        epsilon weighted by the square roots of masses, transform relative to its size).
      remaining: an estimate of the distance of this point; the relative error of the derivatives
        is of the order of this number, against `distance` without refinement.
    """

    transform: Float[Array, "q p"]
    coupling: EntropicCoupling
    objective: Float[Array, ""]
    residual: Float[Array, ""]
    refined_residual: Float[Array, ""]
    distance: Float[Array, ""]
    remaining: Float[Array, ""]

    def __repr__(self) -> str:
        return (
            f"RefinedMatch(objective {figure(self.objective)}, distance from the solution "
            f"{figure(self.remaining, 2)}, before {figure(self.distance, 2)})"
        )


def refined_match(
    match: Match,
    problem: AbstractMatchingProblem,
    mu: Measure | None = None,
    nu: Measure | None = None,
    *,
    epsilon: Any = None,
    regularizer: Ridged | None = None,
    refinement: AbstractRefinement = Newton(),
    steps: int = 1,
) -> RefinedMatch:
    r"""The optimum near a match, as a function of the measures, epsilon and the regularizer::

        sol = mf.match(mu, nu, problem)

        def loss(points):
            moved = mf.Measure(points, mu.weights)
            return jnp.sum(mf.matching.refined_match(sol, problem, moved).transform ** 2)

        jax.grad(loss)(mu.points)

    Epsilon and strengths are held in units of the cost and of cross-moments, as `match` came to
    them: relative ones do not move with the measures. Transforms under a norm are differentiable
    where no entry (or group) is about to enter or leave. Works under `jax.jit`.

    Args:
      match: what `match` found.
      problem: the problem that it solved.
      mu, nu: the measures, of the sizes of those that were matched; by default the same ones.
      epsilon: the temperature in units of the cost; by default `match.epsilon`.
      regularizer: R with its ridge and absolute strength, shaped as `match.task.regularizer`, which
        is the default.
      refinement: `Newton()`, or `Unrefined()` for the theorem at the match as it is.
      steps: how many refinement steps.

    Raises:
      ValueError: no entropy, or a solver of matrices; known pairs, free marginals or signed
        distances; a regularizer of the singular values, which is decomposed on the host; measures
        of other sizes.
    """
    task = _task(match, problem, mu, nu, regularizer)
    epsilon = jnp.asarray(match.epsilon if epsilon is None else epsilon, task.x.dtype)
    before = match.task  # any step will do: that of its curvature is the natural one
    tau = 1 / (before.regularizer.ridge + before.squared * largest(before.moments.x))
    start = match.potentials[1], match.transform
    found, g, transform = _refined(task, epsilon, start, tau, refinement, steps)
    entropic = _entropic(task, epsilon, transform)
    mass = match.mu.mass if mu is None else mu.mass
    return RefinedMatch(
        transform=transform,
        coupling=EntropicCoupling(
            entropic, _first_potentials(entropic, g), g, jnp.asarray(mass, g.dtype)
        ),
        objective=_objective(task, problem, epsilon, *jax.lax.stop_gradient((g, transform))),
        residual=found.residual,
        refined_residual=found.refined_residual,
        distance=found.distance,
        remaining=found.remaining,
    )


@eqx.filter_jit
def _refined(
    task: Task, epsilon: Array, start: tuple[Array, Array], tau: float, refinement: Any, steps: int
) -> tuple[RefinedRoot, Array, Array]:
    """The root of both equations, in units in which their derivative is near the identity."""
    arrays, rest = eqx.partition((task, epsilon), eqx.is_inexact_array)
    root, heat = jax.lax.stop_gradient((jnp.sqrt(task.shares[1]), epsilon))
    heavy = jnp.where(root > 0, root, 1.0)
    units = heat / heavy, jnp.linalg.norm(start[1])
    first = tuple(value / unit for value, unit in zip(start, units, strict=True))

    def in_units(unknown: Any) -> tuple[Array, Array]:
        return unknown[0] * units[0], unknown[1] * units[1]

    def equations(unknown: Any, arrays: Any) -> tuple[Array, Array]:
        task, epsilon = eqx.combine(arrays, rest)
        surplus, change = _residuals(task, epsilon, *in_units(unknown), tau)
        gauge = root * (root @ (unknown[0] - first[0]))  # potentials matter up to a constant
        return surplus / heavy + gauge, change / units[1]

    found = refined_root(equations, first, arrays, refinement, steps=steps)
    return found, *in_units(found.value)


def _residuals(
    task: Task, epsilon: Any, g: Array, transform: Array, step: float
) -> tuple[Array, Array]:
    """What arrives beyond the weights, and how far the transform is from the best."""
    entropic, (a, b) = _entropic(task, epsilon, transform), task.shares
    f = _first_potentials(entropic, g)
    arriving = b * entropic.transpose.spread(g, f, jnp.ones_like(a))
    cross = entropic.spread(f, g, task.y).T @ (a[:, None] * task.x)
    slope = task.regularizer.ridge * transform - cross
    if task.squared:
        slope = slope + transform @ ((task.x.T * a) @ task.x)
    best = task.regularizer.regularizer.proximal(transform - step * slope, step)
    return arriving - b, transform - best


def _objective(task: Task, problem: Any, epsilon: Any, g: Array, transform: Array) -> Array:
    """The dual of the transport problem, the regularizer, and what every coupling pays."""
    a, b = task.shares
    f = _first_potentials(_entropic(task, epsilon, transform), g)
    penalty = task.regularizer.ridge / 2 * jnp.sum(transform**2)
    if isinstance(task.regularizer.regularizer, _PENALTIES):
        penalty = penalty + task.regularizer.regularizer.value(transform)
    paid = _constant(task) if isinstance(problem, AbstractDistortion) else 0.0
    return a @ f + b @ g + task.weight * (penalty + paid)


def _constant(task: Task) -> Array:
    """What Gromov-Wasserstein pays for any coupling (theory page on matching)."""
    squares = [jnp.sum(points**2, axis=1) for points in (task.x, task.y)]
    moments = [
        (points.T * w) @ points for points, w in zip((task.x, task.y), task.shares, strict=True)
    ]
    if not task.norms:
        return jnp.sum(moments[0] ** 2) + jnp.sum(moments[1] ** 2)
    spreads = [
        2 * w @ square**2 + 2 * (w @ square) ** 2 + 4 * jnp.sum(moment**2)
        for square, w, moment in zip(squares, task.shares, moments, strict=True)
    ]
    return spreads[0] + spreads[1] - 4 * jnp.trace(moments[0]) * jnp.trace(moments[1])


def _entropic(task: Task, epsilon: Any, transform: Array) -> EntropicProblem:
    return EntropicProblem(first_of(pairs_of(task, transform[None])), *task.shares, epsilon)


def _first_potentials(entropic: EntropicProblem, g: Array) -> Float[Array, " n"]:
    f = softmin(entropic.pairs, g, log_shares(entropic.b), entropic.epsilon)
    return jnp.where(entropic.a > 0, f, jax.lax.stop_gradient(f))


def _task(match: Match, problem: AbstractMatchingProblem, mu, nu, regularizer) -> Task:
    """The task of the match between the measures given, with their derivatives."""
    task = match.task if regularizer is None else _with_regularizer(match.task, regularizer)
    kind = task.regularizer.regularizer
    if isinstance(match.coupling, SparseCoupling | DenseCoupling):
        raise ValueError(
            "`match` must have a temperature and a transform of points: a coupling without entropy "
            "is a vertex, which does not move. Take Alternation(epsilon)."
        )
    if not isinstance(kind, _PENALTIES + _CONSTRAINTS):
        raise ValueError(
            f"`match` must have a regularizer with a traceable proximal map; {type(kind).__name__} "
            "is decomposed on the host. Derivatives of its objective alone are those of the "
            "coupling's cost, by the envelope theorem."
        )
    if len(task.pinned.masses) or not task.balanced or task.signs is not None:
        raise ValueError(
            "`match` must be of a problem without `known` pairs, with both marginals fixed and "
            "without signs; its derivatives are not available otherwise."
        )
    x, a = _centred("mu", match.mu, mu, problem.center)
    y, b = _centred("nu", match.nu, nu, problem.center)
    return eqx.tree_at(lambda task: (task.x, task.y, task.a, task.b), task, (x, y, a, b))


def _with_regularizer(task: Task, regularizer: Ridged) -> Task:
    return eqx.tree_at(lambda task: task.regularizer, task, regularizer)


def _centred(name: str, before: Measure, measure: Measure | None, center: bool):
    """The points about their mean, zero where an atom is absent, and the shares."""
    measure = before if measure is None else measure
    if measure.points.shape != before.points.shape:
        raise ValueError(
            f"`{name}` must have points of shape {before.points.shape}, as in the match; got "
            f"{measure.points.shape}."
        )
    points = jnp.where(measure.present[:, None], measure.points, 0.0)
    a, _ = shares(measure.weights)
    mean = a @ points if center else jnp.zeros(measure.dim, points.dtype)
    return jnp.where(measure.present[:, None], points - mean, 0.0), a
