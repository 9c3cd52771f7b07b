"""The search over starts for energies of moments: paired axes in all signs, a sample, all atoms."""

import itertools
from typing import NamedTuple

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from .alternation import Alternation, in_range
from .core import Core, core_of
from .descent import Schedule
from .energy import Slopes, State
from .match import Starts
from .moments import Moments
from .optima import gap, grouped
from .relaxed import Course, Relaxed, completed, descend
from .starts import systematic_sample


# Measures up to this multiple of the sample are not sampled.
_MARGIN = 1.5
# Transforms below this share of the largest cross-moment count as zero.
_ZERO = 1e-6
# An axis counts where its variance is at least this share of the largest.
_SEEN = 1e-10
_COMPLETION = 5000


class Sought(NamedTuple):
    """The best course (a batch of one), the starts, and the temperature in units of the cost."""

    best: Course
    starts: Starts
    epsilon: float


def search(
    task: Relaxed,
    moments: Moments,
    solver: Alternation,
    given: np.ndarray | None,
    scale: float,
    key: PRNGKeyArray,
) -> Sought:
    """The best stationary coupling that the starts lead to; `scale` is the unit of temperatures
    that are not relative."""
    sample_key, start_key = jr.split(key)
    unit = task.energy.critical(moments) if solver.relative else scale
    schedule = Schedule(
        epsilon=in_range(solver.epsilon * unit, task.a.dtype),
        hottest=solver.hottest if given is None else 1.0,
        cooling=solver.cooling,
        inner=int(solver.inner),
        max_steps=int(solver.max_steps),
        tolerance=solver.tolerance,
        step=None,
    )
    small = _sampled(task, solver.sample, sample_key)
    if given is None:
        at = _from_starts(small, moments, solver, schedule, start_key)
    else:
        at = _run(small, _of_transforms(task, given), solver, schedule)
    objective = small.objective(at.state, schedule.epsilon)
    transforms, steps = point_transforms(task, at.slopes), np.full(len(objective), at.steps)
    floor = _ZERO * np.abs(transforms).max(initial=0.0)
    optimum = grouped(transforms, objective, floor)
    refined = np.full(len(objective), small is task)
    runs: dict[int, Course] = {}
    for group in range(min(solver.finalists, int(optimum.max()) + 1)):
        members = np.nonzero(optimum == group)[0]
        leader = at.one(int(members[np.argmin(objective[members])]))
        carried = schedule._replace(hottest=1.0)
        runs[group] = leader if small is task else _run(task, leader.slopes, solver, carried)
        objective[members] = task.objective(runs[group].state, schedule.epsilon)[0]
        refined[members] = True
        transforms[members] = point_transforms(task, runs[group].slopes)[0]
        steps[members] = at.steps + (0 if small is task else runs[group].steps)
    best = min(runs, key=lambda group: objective[optimum == group][0])
    order = np.where(refined, objective, np.inf)
    merged = np.where(refined, grouped(transforms, order, floor), optimum + len(optimum))
    starts = Starts(transforms, objective, merged, refined, steps, gap(objective, merged))
    return Sought(runs[best], starts, schedule.epsilon)


def _from_starts(
    task: Relaxed, moments: Moments, solver: Alternation, schedule: Schedule, key: PRNGKeyArray
) -> Course:
    """All starts; where masses may stay unmatched, also from couplings of the cores alone, since
    axes may be those of outliers."""
    slopes = _of_crosses(task, _crosses(task, moments, solver, key))
    whole = _run(task, slopes, solver, schedule)
    if np.isinf(task.rho).any():
        return whole
    core = core_of(task)
    slopes = _of_crosses(task, _crosses(task, core.moments, solver, key))
    inner = _run(task, slopes, solver, schedule, core)
    steps = max(whole.steps, inner.steps)
    return jax.tree.map(
        lambda one, other: np.concatenate([np.asarray(one), np.asarray(other)]),
        whole._replace(steps=np.zeros(1)),
        inner._replace(steps=np.zeros(1)),
    )._replace(steps=steps)


def point_transforms(task: Relaxed, slopes: Slopes) -> Float[np.ndarray, "s q p"]:
    """The transforms between points that linear costs between features hold."""
    x, y = task.features
    return x.scale * y.scale * slopes.transform[:, -y.dim :, -x.dim :]


def _of_transforms(task: Relaxed, given: np.ndarray) -> Slopes:
    """The linear costs of transforms between points."""
    x, y = task.features
    p, q = len(x.signs), len(y.signs)
    transform = np.zeros((len(given), q, p))
    transform[:, -y.dim :, -x.dim :] = given / (x.scale * y.scale)
    return Slopes(transform, np.zeros((len(given), p, p)), np.zeros((len(given), q, q)))


def _of_crosses(task: Relaxed, crosses: np.ndarray) -> Slopes:
    """The linear costs of cross-moments between points: those of the energy, without squares."""
    x, y = task.features
    p, q, count = len(x.signs), len(y.signs), len(crosses)
    lifted = np.zeros((count, q, p))
    lifted[:, -y.dim :, -x.dim :] = x.scale * y.scale * crosses
    none = np.zeros(count)
    squares = np.zeros((count, p, p)), np.zeros((count, q, q))
    return task.energy.warm.slopes(State(lifted, *squares, none, none, none))


def _crosses(
    task: Relaxed, moments: Moments, solver: Alternation, key: PRNGKeyArray
) -> Float[np.ndarray, "s q p"]:
    r"""$\sum_k \pm \sqrt{\lambda_k \lambda'_k}\, u'_k u_k^\top$ over pairs of principal axes of one
    signature, in all signs, and as many more as asked with random numbers in place of signs."""
    scales, left, right = _pairs(moments, task, int(solver.axes))
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=len(scales))))
    if solver.random:
        size = (int(solver.random), len(scales))
        signs = np.concatenate([signs, np.asarray(jr.uniform(key, size, minval=-1, maxval=1))])
    return np.einsum("sk,qk,pk->sqp", signs * scales, left, right)


def _pairs(moments: Moments, task: Relaxed, axes: int):
    found = []
    (x, y), dims = (f.signs for f in task.features), [f.dim for f in task.features]
    for sign in (1.0, -1.0):
        seen = x[-dims[0] :] == sign, y[-dims[1] :] == sign
        (values, right), (others, left) = (
            _axes(moment, mask) for moment, mask in zip(moments, seen, strict=True)
        )
        found += [
            (np.sqrt(v * w), left[:, k], right[:, k])
            for k, (v, w) in enumerate(zip(values, others, strict=False))
        ]
    if not found:  # one space has positive coordinates alone, the other negative ones
        (values, right), (others, left) = (_axes(s, np.full(len(s), True)) for s in moments)
        found = [(np.sqrt(values[0] * others[0]), left[:, 0], right[:, 0])]
    found.sort(key=lambda triple: -triple[0])
    count = max(sum(triple[0] > np.sqrt(_SEEN) * found[0][0] for triple in found[:axes]), 1)
    scales, left, right = zip(*found[:count], strict=True)
    return np.array(scales), np.stack(left, axis=1), np.stack(right, axis=1)


def _axes(moment: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The principal variances and axes within some coordinates, the largest first."""
    values, vectors = np.linalg.eigh(moment[np.ix_(mask, mask)])
    axes = np.zeros((len(mask), len(values)))
    axes[mask] = vectors
    return np.maximum(values[::-1], 0.0), axes[:, ::-1]


def _run(
    task: Relaxed,
    slopes: Slopes,
    solver: Alternation,
    schedule: Schedule,
    core: Core | None = None,
) -> Course:
    keep = len(slopes.transform) * task.a.size * task.b.size * task.a.itemsize <= solver.memory
    begun = {} if core is None else {"part": core.task, "kept": core.kept}
    course = descend(task, slopes, schedule, keep=keep, **begun)
    tolerance = solver.marginal_tolerance
    return completed(task, course, schedule.epsilon, tolerance, _COMPLETION, keep=keep)


def _sampled(task: Relaxed, size: int | None, key: PRNGKeyArray) -> Relaxed:
    n, m = task.a.size, task.b.size
    if size is None or max(n, m) <= _MARGIN * size:
        return task
    rows, cols = (
        None
        if len(weights) <= _MARGIN * size
        else systematic_sample(np.asarray(weights, np.float64), size, k)
        for weights, k in zip((task.a, task.b), jax.random.split(key), strict=True)
    )
    return task.at(rows, cols)
