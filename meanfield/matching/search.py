"""The search over starts: on a sample of the atoms first, then on all of them."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..transport.entropic_problem import log_shares
from ..transport.softmin import softmin
from .alternation import Alternation
from .descent import Descent, Schedule, completed, descend, objectives
from .match import Starts
from .starts import random_starts, sign_starts, systematic_sample
from .task import Task, first_of, pairs_of


# Transforms that differ by less than this share of their size are one optimum.
_SAME = 0.05
# Transforms below this share of the largest cross-moment count as zero.
_ZERO = 1e-6
# Measures up to this multiple of the sample are not sampled.
_MARGIN = 1.5


class Found(NamedTuple):
    """The best descent (a batch of one), the starts, and the temperature in units of the cost."""

    best: Descent
    starts: Starts
    epsilon: float


def search(task: Task, solver: Alternation, given: np.ndarray | None, key: PRNGKeyArray) -> Found:
    """The best optimum that the starts lead to."""
    sample_key, start_key = jr.split(key)
    first = schedule_of(task, solver, solver.hottest if given is None else 1.0)
    small = _sampled(task, solver.sample, sample_key)
    at = _from_starts(small, solver, first, given, start_key)
    objective = objectives(small, at)
    floor = _ZERO * small.moments.size
    optimum = _grouped(at.transforms, objective, floor)
    refined = np.full(len(objective), small is task)
    transforms, steps = at.transforms.copy(), np.full(len(objective), at.steps)
    runs: dict[int, Descent] = {}
    for group in range(min(solver.finalists, int(optimum.max()) + 1)):
        members = np.nonzero(optimum == group)[0]
        leader = members[np.argmin(objective[members])]
        runs[group] = _on_all(task, small, at, int(leader), solver, first)
        objective[members], refined[members] = objectives(task, runs[group])[0], True
        transforms[members], steps[members] = (
            runs[group].transforms[0],
            at.steps + runs[group].steps,
        )
    best = min(runs, key=lambda group: objective[optimum == group][0])
    optimum = _merged(optimum, transforms, refined, objective, floor)
    starts = Starts(transforms, objective, optimum, refined, steps, _gap(objective, optimum))
    return Found(runs[best], starts, first.epsilon)


def schedule_of(task: Task, solver: Alternation, hottest: float) -> Schedule:
    unit = task.epsilon_critical if solver.relative else 1.0
    return Schedule(
        epsilon=solver.epsilon * unit,
        hottest=hottest,
        cooling=solver.cooling,
        inner=int(solver.inner),
        max_steps=int(solver.max_steps),
        tolerance=solver.tolerance,
        step=solver.step,
    )


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
        transforms = _scaled(small, _starts(small, solver, key))
    at = descend(small, transforms, schedule, keep=_fits(small, solver, len(transforms)))
    return _completed(small, at, solver, schedule)


def _starts(task: Task, solver: Alternation, key: PRNGKeyArray) -> np.ndarray:
    axes = int(solver.axes)
    starts = [sign_starts(task.moments, axes)]
    if solver.random:
        starts.append(random_starts(task.moments, axes, int(solver.random), key))
    if np.any(task.pinned.cross):
        starts.append(task.pinned.cross[None] / task.pinned.masses.sum())
    return np.concatenate(starts)


def _scaled(task: Task, crosses: np.ndarray) -> np.ndarray:
    """The transforms of cross-moments, without the regularizer."""
    return crosses / task.regularizer.ridge


def _from_inner_products(task: Task, solver: Alternation, key: PRNGKeyArray) -> np.ndarray:
    """Transforms of least squares for the couplings that inner products find: squared distances by
    themselves have many more local optima."""
    plain = task.with_inner_products()
    share = solver.epsilon if solver.relative else solver.epsilon / task.epsilon_critical
    schedule = schedule_of(plain, solver, solver.hottest)._replace(
        epsilon=share * plain.epsilon_critical
    )
    starts = _starts(plain, solver, key)
    at = descend(plain, starts, schedule, keep=_fits(plain, solver, len(starts)))
    return task.transform_for(at.cross, at.second, np.zeros_like(at.transforms), 1.0)


def _on_all(
    task: Task, small: Task, at: Descent, k: int, solver: Alternation, schedule: Schedule
) -> Descent:
    """One optimum of the sample, carried on to all atoms."""
    one = jax.tree.map(lambda leaf: leaf[k : k + 1], at._replace(steps=np.zeros(1)))
    if small is task:
        return one._replace(steps=0)
    keep = _fits(task, solver, 1)
    g = _extended(task, small, one, schedule.epsilon)
    on_all = schedule._replace(hottest=1.0)
    found = descend(task, one.transforms, on_all, keep=keep, g=g)
    return _completed(task, found, solver, schedule)


def _completed(task: Task, at: Descent, solver: Alternation, schedule: Schedule) -> Descent:
    keep = _fits(task, solver, len(at.transforms))
    return completed(task, at, schedule.epsilon, solver.marginal_tolerance, 5000, keep=keep)


def _extended(task: Task, small: Task, at: Descent, epsilon: float):
    """The second potentials on all atoms: soft minima over the sample of the first."""
    bridge = eqx.tree_at(lambda one: (one.y, one.b), small, (task.y, task.b))
    data = eqx.tree_at(
        lambda one: (one.cols, one.beta), small.data, (task.data.cols, task.data.beta)
    )
    if task.data.table is not None:
        return None
    bridge = eqx.tree_at(lambda one: one.data, bridge, data)
    pairs = first_of(pairs_of(bridge, jnp.asarray(at.transforms, task.x.dtype)))
    log_a = log_shares(small.shares[0])
    soft = softmin(pairs.transpose, at.f[0], log_a, jnp.asarray(epsilon, task.x.dtype))
    return task.sides[1].proximal(soft, jnp.asarray(epsilon, task.x.dtype))[None]


def _sampled(task: Task, size: int | None, key: PRNGKeyArray) -> Task:
    n, m = task.x.shape[0], task.y.shape[0]
    if size is None or max(n, m) <= _MARGIN * size:
        return task
    keys = jr.split(key)
    rows, cols = (
        np.arange(len(weights))
        if len(weights) <= _MARGIN * size
        else systematic_sample(np.asarray(weights, np.float64), size, k)
        for weights, k in zip((task.a, task.b), keys, strict=True)
    )
    return task.at(rows, cols)


def _fits(task: Task, solver: Alternation, batch: int) -> bool:
    """Whether the kernels of a batch may be kept."""
    n, m = task.x.shape[0], task.y.shape[0]
    return batch * n * m * task.x.dtype.itemsize <= solver.memory


def _grouped(transforms: np.ndarray, objective: np.ndarray, floor: float) -> np.ndarray:
    """Numbers of the optima, from the lowest objective up: transforms near each other share one."""
    leaders: list[int] = []
    optimum = np.zeros(len(objective), int)
    for k in np.argsort(objective, kind="stable"):
        size = max(np.linalg.norm(transforms[k]), floor)
        near = [
            group
            for group, leader in enumerate(leaders)
            if np.linalg.norm(transforms[k] - transforms[leader]) <= _SAME * size
        ]
        optimum[k] = near[0] if near else len(leaders)
        if not near:
            leaders.append(k)
    return optimum


def _merged(optimum, transforms, refined, objective, floor) -> np.ndarray:
    """The numbers again, after optima of the sample have met on all atoms."""
    order = np.where(refined, objective, np.inf)
    return np.where(refined, _grouped(transforms, order, floor), optimum + len(optimum))


def _gap(objective: np.ndarray, optimum: np.ndarray) -> float:
    """How far the best start of another optimum is above the best, as a share of its size."""
    best = objective.min()
    others = objective[optimum != optimum[np.argmin(objective)]]
    return float((others.min() - best) / max(abs(best), 1e-300)) if len(others) else float("inf")
