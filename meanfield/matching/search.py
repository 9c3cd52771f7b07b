"""The search over starts: on a sample of the atoms first, then on more and on all of them."""

from itertools import pairwise
from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from .alternation import Alternation, in_range
from .clusters import cluster_starts
from .descent import Descent, Schedule, begun, completed, descend, objectives
from .ladder import extended, ladder
from .match import Starts
from .optima import contenders, gap, grouped
from .starts import random_starts, sign_starts
from .task import Task
from .turns import Way


# Transforms below this share of the largest cross-moment count as zero.
_ZERO = 1e-6
# Marginals that have been met are met better, by this factor or in at most so many iterations.
_AIM, _MORE = 0.1, 400


class Found(NamedTuple):
    """The best descent (a batch of one), the starts, and the temperature in units of the cost."""

    best: Descent
    starts: Starts
    epsilon: float


class Rung(NamedTuple):
    """What was found on one sample: the optima that were run there, by their numbers, and their
    objectives."""

    optima: Int[np.ndarray, " k"]
    objective: Float[np.ndarray, " k"]


def search(task: Task, solver: Alternation, given: np.ndarray | None, key: PRNGKeyArray) -> Found:
    """The best optimum that the starts lead to."""
    sample_key, start_key = jr.split(key)
    first = schedule_of(task, solver, solver.hottest if given is None else 1.0)
    tasks = ladder(task, solver.sample, sample_key)
    at = _from_starts(tasks[0], solver, first, given, start_key)
    if tasks[0] is task:
        at = _finished(task, at, np.arange(len(at.met)) == at.met, solver, first.epsilon)
    objective = objectives(tasks[0], at)
    floor = _ZERO * task.moments.size
    optimum = grouped(at.transforms, objective, floor)
    transforms, steps = at.transforms.copy(), at.steps.copy()
    numbers = np.arange(optimum.max() + 1)
    leaders = np.array([_lowest(objective, optimum == number) for number in numbers])
    at, rungs = at.at(leaders), [Rung(numbers, objective[leaders])]
    for small, large in pairwise(tasks):
        chosen = _chosen(small, task, at, rungs[-1], int(solver.finalists))
        numbers, at = rungs[-1].optima[chosen], at.at(chosen)
        at = _carried(small, large, at, solver, first, large is task)
        rungs.append(Rung(numbers, objectives(large, at)))
        for number, transform, taken in zip(numbers, at.transforms, at.steps, strict=True):
            transforms[optimum == number] = transform
            steps[optimum == number] += taken
    objective, refined = _compared(rungs, optimum)
    best = at.at([int(np.argmin(rungs[-1].objective))])
    optimum = _merged(optimum, transforms, refined, objective, floor)
    starts = Starts(transforms, objective, optimum, refined, steps, gap(objective, optimum))
    return Found(best, starts, first.epsilon)


def schedule_of(task: Task, solver: Alternation, hottest: float) -> Schedule:
    unit = task.epsilon_critical if solver.relative else 1.0
    return Schedule(
        epsilon=in_range(solver.epsilon * unit, task.x.dtype),
        hottest=hottest,
        cooling=solver.cooling,
        inner=int(solver.inner),
        max_steps=int(solver.max_steps),
        tolerance=solver.tolerance,
        step=solver.step,
    )


def _lowest(objective: np.ndarray, among: np.ndarray) -> int:
    return int(np.argmin(np.where(among, objective, np.inf)))


def _from_starts(
    small: Task,
    solver: Alternation,
    schedule: Schedule,
    given: np.ndarray | None,
    key: PRNGKeyArray,
) -> Descent:
    """All starts, as a batch on the sample."""
    if given is not None:
        transforms = given
    elif small.squared:
        transforms = _from_inner_products(small, solver, key)
    else:
        transforms = _starts(small, solver, key) / small.regularizer.ridge
    if given is None and solver.clusters:
        coarse = cluster_starts(small, int(solver.clusters), key)
        transforms = np.concatenate([transforms, coarse])
    at = _descended(small, begun(small, transforms), schedule, solver)
    return completed(small, at, schedule.epsilon, 0.0, 1, _way(small, solver), at.alone)


def _starts(task: Task, solver: Alternation, key: PRNGKeyArray) -> np.ndarray:
    """Cross-moments to begin with; without the regularizer, transforms are theirs."""
    axes = int(solver.axes)
    starts = [sign_starts(task.moments, axes)]
    if solver.random:
        starts.append(random_starts(task.moments, axes, int(solver.random), key))
    if np.any(task.pinned.cross):
        starts.append(task.pinned.cross[None] / task.pinned.masses.sum())
    return np.concatenate(starts)


def _from_inner_products(task: Task, solver: Alternation, key: PRNGKeyArray) -> np.ndarray:
    """Transforms of least squares for the couplings that inner products find: squared distances by
    themselves have many more local optima."""
    plain = task.with_inner_products()
    share = solver.epsilon if solver.relative else solver.epsilon / task.epsilon_critical
    schedule = schedule_of(plain, solver, solver.hottest)._replace(
        epsilon=share * plain.epsilon_critical
    )
    at = _descended(plain, begun(plain, _starts(plain, solver, key)), schedule, solver)
    return task.transform_for(at.cross, at.second, np.zeros_like(at.transforms), 1.0)


def _descended(task: Task, at: Descent, schedule: Schedule, solver: Alternation) -> Descent:
    going = np.ones(len(at.steps), bool)
    return descend(task, at, schedule, _way(task, solver), going)


def _chosen(small: Task, task: Task, at: Descent, rung: Rung, most: int) -> Int[np.ndarray, " k"]:
    """The optima that may still be the best one on all atoms, at most so many."""
    close = contenders(small, task, at, rung.objective)
    order = np.argsort(np.where(close, rung.objective, np.inf), kind="stable")
    return order[: min(most, int(close.sum()))]


def _carried(
    small: Task, large: Task, at: Descent, solver: Alternation, schedule: Schedule, last: bool
) -> Descent:
    """Optima of a sample carried on to more atoms; a batch of always the same size."""
    count, batch = len(at.steps), int(solver.finalists)
    filled = at.at(np.concatenate([np.arange(count), np.zeros(batch - count, int)]))
    going, way = np.arange(batch) < count, _way(large, solver)
    new = begun(large, filled.transforms, extended(large, small, filled, schedule.epsilon))
    new = descend(large, new, schedule._replace(hottest=1.0), way, going)
    alone = going & new.alone
    new = completed(large, new, schedule.epsilon, 0.0, 1, way, alone)
    if last:
        new = _finished(large, new, alone, solver, schedule.epsilon)
    return new.at(new.met[:count])


def _finished(
    task: Task, at: Descent, going: np.ndarray, solver: Alternation, epsilon: float
) -> Descent:
    """The marginals of the best one met.

    By duality every objective is low until its marginals are met; so the lowest is completed, until
    the lowest is complete. No other can then be below it.
    """
    left, way = going.copy(), _way(task, solver)
    while True:
        best = _lowest(objectives(task, at), going)
        one = np.arange(len(left)) == best
        if not left[best] or at.error[best] <= solver.marginal_tolerance:
            return _polished(task, at, one, solver, epsilon).at(at.met)
        at = completed(task, at, epsilon, solver.marginal_tolerance, 5000, way, one)
        left &= ~one


def _polished(
    task: Task, at: Descent, one: np.ndarray, solver: Alternation, epsilon: float
) -> Descent:
    """A few more iterations where they are quick: what is missing in the marginals is missing in
    the objective too. Nothing is asked of them, since rounding may end them."""
    way = _way(task, solver)
    if way.name != "kept":
        return at
    return completed(task, at, epsilon, _AIM * solver.marginal_tolerance, _MORE, way, one)


def _way(task: Task, solver: Alternation) -> Way:
    n, m = task.x.shape[0], task.y.shape[0]
    fits = n * m * task.x.dtype.itemsize <= solver.memory
    return Way("kept" if fits and solver.mesh is None else "streamed", solver.mesh)


def _compared(rungs: list[Rung], optimum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The objective of every start, and whether it is that on all atoms.

    An optimum that was given up on a sample is as far above the best one as it was there: what a
    sample changes for all optima alike cancels.
    """
    best = rungs[-1].optima[np.argmin(rungs[-1].objective)]
    value = float(rungs[-1].objective.min())
    objective, refined = np.zeros(len(optimum)), np.zeros(len(optimum), bool)
    for rung in rungs:
        own = rung.objective[rung.optima == best][0]
        for number, found in zip(rung.optima, rung.objective, strict=True):
            members = optimum == number
            objective[members], refined[members] = value + max(found - own, 0.0), rung is rungs[-1]
    return objective, refined


def _merged(optimum, transforms, refined, objective, floor) -> np.ndarray:
    """The numbers again, after optima of the sample have met on all atoms."""
    order = np.where(refined, objective, np.inf)
    return np.where(refined, grouped(transforms, order, floor), optimum + len(optimum))
