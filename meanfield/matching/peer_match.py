"""A match from the couplings that solvers of other libraries return."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..measure import RESULTS, Measure
from ..transport import DenseCoupling
from .collapse import correlation_size, is_collapsed, word_of_collapse
from .compared import Axes, axes_of, compared, starts
from .dissimilarities import Compared
from .entrywise import Ridge
from .gromov import AbstractDistortion
from .match import Match, Starts
from .moments import Cloud
from .optima import carried_through
from .peers import AbstractPeer, vertex
from .problem import AbstractMatchingProblem, assembled
from .regularizer import Ridged
from .task import Task


_MARGINALS = 1e-4


class Ended(NamedTuple):
    """What a start came to."""

    plan: Float[np.ndarray, "n m"]
    objective: float
    steps: int


def peer_match(
    problem: AbstractMatchingProblem, mu: Measure, nu: Measure, solver: AbstractPeer, start: Any
) -> Match:
    """The best of the couplings that a solver finds from our starts.

    Args:
      start: a `Match` of the same measures, whose coupling is begun with in place of them.

    Raises:
      ValueError: a problem that does not compare spaces by a distortion, measures or matrices that
        do not fit.
    """
    if not isinstance(problem, AbstractDistortion):
        raise ValueError(
            f"`{type(solver).__name__}` solves GromovWasserstein(...) and "
            f"FusedGromovWasserstein(...); got {type(problem).__name__}. Use Alternation()."
        )
    task = compared(problem, mu, nu)
    axes = axes_of(task)
    pairs = axes.pairs(int(solver.axes))
    critical = 2 * task.weight * pairs[0][0] ** 2 if pairs else 0.0
    epsilon = solver.temperature(critical)
    begun = _begun(task, axes, solver) if start is None else [_given(start, task)]
    runs = [_run(task, solver, plan, epsilon) for plan in begun]
    best = min(runs, key=lambda run: run.objective)
    transforms = np.stack([_leading(axes, run.plan, solver) for run in runs])
    correlation = _correlation(axes, best.plan)
    collapsed = is_collapsed(correlation, epsilon, critical, bare=not task.table.any())
    word = word_of_collapse(collapsed, epsilon, critical)
    dtype = jnp.result_type(mu.points, nu.points)
    told, n, m = _task((mu, nu), task, axes, solver), mu.size, nu.size
    whole = np.zeros((n, m))
    whole[np.ix_(*task.present)] = float(mu.mass) * best.plan
    return Match(
        coupling=DenseCoupling(jnp.asarray(whole, dtype)),
        transform=jnp.asarray(_leading(axes, best.plan, solver), dtype),
        value=jnp.asarray(task.value(best.plan), dtype),
        objective=jnp.asarray(best.objective, dtype),
        starts=_starts(transforms, runs),
        epsilon=epsilon,
        epsilon_critical=critical,
        correlation=correlation,
        collapsed=collapsed,
        marginal_error=_marginal_error(task, best.plan),
        result=_result(task, solver, best, epsilon, word),
        mu=mu,
        nu=nu,
        potentials=(jnp.zeros(n, dtype), jnp.zeros(m, dtype)),
        centres=(np.zeros(told.x.shape[1]), np.zeros(told.y.shape[1])),
        task=told,
    )


def _begun(task: Compared, axes: Axes, solver: AbstractPeer) -> list[np.ndarray]:
    """The vertices next to the transforms that pair axes."""
    x, y = axes.points
    return [
        vertex(task, task.table - 2 * task.weight * (x @ transform.T) @ y.T)
        for transform in starts(axes, int(solver.axes))
    ]


def _given(start: Any, task: Compared) -> np.ndarray:
    if not isinstance(start, Match):
        raise ValueError(
            "`start` must be a Match for this solver, which begins with its coupling; got "
            f"{type(start).__name__}."
        )
    plan = np.asarray(start.coupling.matrix, np.float64)[np.ix_(*task.present)]
    return plan / plan.sum()


def _run(task: Compared, solver: AbstractPeer, plan: np.ndarray, epsilon: float) -> Ended:
    found, steps = solver.coupling(task, plan, epsilon)
    objective = task.value(found)
    if epsilon:
        seen = found > 0
        ratio = np.where(seen, found, 1.0) / np.where(seen, np.outer(*task.shares), 1.0)
        objective += epsilon * float(np.sum(found * np.log(ratio)) - found.sum() + 1)
    return Ended(found, objective if np.isfinite(objective) else np.inf, steps)


def _leading(axes: Axes, plan: np.ndarray, solver: AbstractPeer) -> np.ndarray:
    k = int(solver.axes)
    return axes.cross(plan)[:k, :k]


def _correlation(axes: Axes, plan: np.ndarray) -> float:
    sizes = [np.sum(np.abs(values)) for values in axes.values]
    return correlation_size(axes.cross(plan), sizes)


def _starts(transforms: np.ndarray, runs: list[Ended]) -> Starts:
    objective = np.array([run.objective for run in runs])
    floor = 1e-6 * np.abs(transforms).max(initial=0.0)
    steps = np.array([run.steps for run in runs])
    return carried_through(transforms, objective, steps, floor)


def _marginal_error(task: Compared, plan: np.ndarray) -> float:
    first, second = (
        np.abs(plan.sum(axis=axis) - share).sum()
        for axis, share in zip((1, 0), task.shares, strict=True)
    )
    return float(max(first, second))


def _result(
    task: Compared, solver: AbstractPeer, best: Ended, epsilon: float, word: RESULTS
) -> RESULTS:
    if not np.isfinite(best.objective):
        return RESULTS.nonfinite_cost
    if not _marginal_error(task, best.plan) <= _MARGINALS:
        return RESULTS.marginals_not_reached
    if word != RESULTS.successful:
        return word
    settled = solver.unsettled(task, best.plan, epsilon) <= solver.tolerance
    return RESULTS.successful if settled else RESULTS.transform_not_settled


def _task(
    measures: tuple[Measure, Measure], task: Compared, axes: Axes, solver: AbstractPeer
) -> Task:
    """The atoms in the coordinates of the leading axes, for the figures of a match."""
    clouds, named = [], []
    for measure, points, shares, rows in zip(
        measures, axes.points, task.shares, task.present, strict=True
    ):
        placed = np.zeros((measure.size, min(int(solver.axes), len(shares))))
        placed[rows] = points[:, : placed.shape[1]]
        weights = np.zeros(measure.size)
        weights[rows] = shares
        clouds.append(Cloud(placed, weights, np.zeros(placed.shape[1])))
        named.append(Measure(jnp.asarray(placed), jnp.asarray(weights)))
    return assembled(
        (named[0], named[1]),
        (clouds[0], clouds[1]),
        Ridged(Ridge(), 1.0),
        squared=False,
        rho=(np.inf, np.inf),
        known=None,
    )
