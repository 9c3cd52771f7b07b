"""A match without entropy: exact descents from few starts, until one is certified."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ..measure import RESULTS, Measure
from ..transport import SparseCoupling
from .alternation import Alternation
from .collapse import correlation_size, is_collapsed
from .exact_alternation import ExactAlternation
from .exact_descent import (
    Coupled,
    Ended,
    Problem,
    best_transform,
    descend_exactly,
    fixed_part,
    potentials_of,
    problem_of,
)
from .lower_bound import has_data, lower_bound
from .match import Match, Starts
from .moments import Cloud, cloud
from .optima import carried_through
from .problem import AbstractMatchingProblem
from .search import search
from .starts import ranked_starts
from .task import Task


class _Start(NamedTuple):
    """A transform to begin with, and a potential of the columns if one is known."""

    transform: Float[np.ndarray, "q p"]
    potential: Float[np.ndarray, " c"] | None = None


def exact_match(
    problem: AbstractMatchingProblem,
    mu: Measure,
    nu: Measure,
    solver: ExactAlternation,
    given: Float[np.ndarray, "s q p"] | None,
    key: PRNGKeyArray,
) -> Match:
    """The lowest of the optima that exact alternation comes to.

    Args:
      given: transforms to begin with, in place of the solver's starts.

    Raises:
      ValueError: free marginals; measures that do not fit.
    """
    task = problem.task(mu, nu)
    if not task.balanced:
        raise ValueError(
            "ExactAlternation() keeps both marginals; got a finite `rho`. Use Alternation()."
        )
    clouds = cloud("mu", mu, problem.center), cloud("nu", nu, problem.center)
    hosted = problem_of(task, clouds)
    if not len(hosted.rows):
        raise ValueError("`known` pairs hold all the mass; nothing is left to match.")
    bound = lower_bound(task, clouds, fixed_part(hosted) if has_data(task) else None)
    runs = _runs(hosted, clouds, solver, given, bound, key)
    best = min(runs, key=lambda run: run.coupled.objective)
    return _told(task, (mu, nu), clouds, runs, best, hosted, bound)


def _told(task, measures, clouds, runs, best: Ended, hosted: Problem, bound: float) -> Match:
    (mu, nu), found, dtype = measures, best.coupled, task.x.dtype
    correlation = _correlation(hosted, found)
    flat = not np.any(found.transform)
    collapsed = flat or is_collapsed(correlation, 0.0, task.epsilon_critical, bare=True)
    mass = float(np.sum(np.asarray(mu.weights, np.float64)))
    f, g = potentials_of(hosted, best)
    return Match(
        coupling=SparseCoupling(
            jnp.asarray(found.rows),
            jnp.asarray(found.cols),
            jnp.asarray(mass * found.masses, dtype),
            (mu.size, nu.size),
        ),
        transform=jnp.asarray(found.transform, dtype),
        value=jnp.asarray(found.objective, dtype),
        objective=jnp.asarray(found.objective, dtype),
        starts=_starts(runs, task),
        epsilon=0.0,
        epsilon_critical=task.epsilon_critical,
        correlation=correlation,
        collapsed=collapsed,
        marginal_error=_marginal_error(clouds, found),
        result=_result(best, collapsed),
        mu=mu,
        nu=nu,
        potentials=(jnp.asarray(f, dtype), jnp.asarray(g, dtype)),
        centres=(clouds[0].centre, clouds[1].centre),
        task=task,
        lower_bound=bound,
    )


def _runs(
    problem: Problem,
    clouds: tuple[Cloud, Cloud],
    solver: ExactAlternation,
    given: Float[np.ndarray, "s q p"] | None,
    bound: float,
    key: PRNGKeyArray,
) -> tuple[Ended, ...]:
    """Starts one after the other, until one is as low as anything can be."""
    enough = bound + solver.tolerance * _range(problem, bound)
    runs: list[Ended] = []
    for start in _begun(problem, clouds, solver, given, key):
        transform, potential = start
        runs.append(descend_exactly(problem, transform, solver.max_steps, potential, enough))
        if runs[-1].coupled.objective <= enough:
            break
    return tuple(runs)


def _range(problem: Problem, bound: float) -> float:
    """From the bound to the objective of the zero transform, a second cost aside."""
    task = problem.task
    highest = task.constant + task.squared * task.weight / 2 * np.trace(task.moments.y)
    return abs(highest - bound) if np.isfinite(bound) else 0.0


def _begun(
    problem: Problem,
    clouds: tuple[Cloud, Cloud],
    solver: ExactAlternation,
    given: Float[np.ndarray, "s q p"] | None,
    key: PRNGKeyArray,
) -> Iterator[_Start]:
    """The starts, the cheapest first; what is not asked for is not computed."""
    task = problem.task
    if given is not None:
        yield from (_Start(transform) for transform in given)
        return
    known = task.pinned.cross[None] if np.any(task.pinned.cross) else []
    ranked = ranked_starts(clouds, task.moments, solver.axes)
    for cross in [*known, *(ranked if solver.search is None else ranked[:1])]:
        yield _Start(_transform(problem, clouds, cross, solver.max_steps))
    if solver.search is not None:
        yield _searched(problem, solver.search, key)


def _transform(
    problem: Problem, clouds: tuple[Cloud, Cloud], cross: np.ndarray, max_steps: int
) -> Float[np.ndarray, "q p"]:
    """The transform to begin with for a cross-moment; with squared distances, which have many more
    local optima, the regression for the coupling that inner products find."""
    task = problem.task
    if not task.squared:
        return cross / task.regularizer.ridge
    plain = problem_of(task.with_inner_products(), clouds)
    moment = descend_exactly(plain, cross, max_steps).coupled.cross
    return best_transform(task, moment, np.zeros_like(cross))


def _searched(problem: Problem, solver: Alternation, key: PRNGKeyArray) -> _Start:
    """Where the entropic search ends; its potential is near an exact one."""
    task, cols = problem.task, problem.cols
    best = search(task, solver, None, key).best
    offsets = problem.beta + task.squared * task.weight / 2 * np.sum(problem.y**2, axis=1)
    potential = np.asarray(best.g[0], np.float64) - offsets
    return _Start(best.transforms[0], potential[cols])


def _starts(runs: tuple[Ended, ...], task: Task) -> Starts:
    transforms = np.stack([run.coupled.transform for run in runs])
    objective = np.array([run.coupled.objective for run in runs])
    steps = np.array([run.steps for run in runs])
    return carried_through(transforms, objective, steps, 1e-6 * task.moments.size)


def _correlation(problem: Problem, coupled: Coupled) -> float:
    """The size of the covariance of the coupling, between zero and one."""
    masses = coupled.masses / coupled.masses.sum()
    x, y = (points - masses @ points for points in _ends(problem, coupled))
    spreads = [float(masses @ np.sum(points**2, axis=1)) for points in (x, y)]
    covariance = (y.T * masses) @ x
    return correlation_size(covariance, spreads)


def _ends(problem: Problem, coupled: Coupled) -> tuple[np.ndarray, np.ndarray]:
    return problem.x[coupled.rows], problem.y[coupled.cols]


def _marginal_error(clouds: tuple[Cloud, Cloud], coupled: Coupled) -> float:
    return max(
        float(np.abs(np.bincount(ends, coupled.masses, len(c.shares)) - c.shares).sum())
        for ends, c in zip((coupled.rows, coupled.cols), clouds, strict=True)
    )


def _result(best: Ended, collapsed: bool) -> RESULTS:
    if not np.isfinite(best.coupled.objective):
        return RESULTS.nonfinite_cost
    if collapsed:
        return RESULTS.match_collapsed
    return RESULTS.successful if best.settled else RESULTS.transform_not_settled
