"""A match from the moments of its coupling: for unbalanced and signed Gromov-Wasserstein."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ..measure import RESULTS, Measure
from ..transport import EntropicCoupling
from ..transport.entropic_problem import EntropicProblem
from .alternation import Alternation
from .collapse import correlation_size, is_collapsed, word_of_collapse
from .ending import word_of_ending
from .features import Features
from .match import Match, Starts
from .optima import gap
from .relaxation import Relaxation, scaled
from .relaxed_search import Sought, point_transforms, search
from .resolution import Resolution, resolution
from .task import Task, first_of, pairs_of
from .unbalanced import AbstractMass, One, QuadraticMass


def relaxed_match(
    relaxation: Relaxation,
    measures: tuple[Measure, Measure],
    centres: tuple[Any, Any],
    solver: Alternation,
    start: np.ndarray | None,
    key: PRNGKeyArray,
) -> Match:
    """The match that conditional gradients find.

    Raises:
      ValueError: settings of the solver that they do not take.
    """
    _check(solver)
    relaxed, task = relaxation.relaxed, relaxation.task
    unit = relaxation.unit
    given = None if start is None else start * task.weight / unit
    found = search(relaxed, task.moments, solver, given, 1 / unit, key)
    mass = _mass(relaxation, found.epsilon)
    objective = relaxed.objective(found.best.state, found.epsilon)
    moved = float(mass.best(objective)[0])
    told = _told(relaxation, found)
    correlation = _correlation(relaxation, found)
    epsilon, critical = unit * found.epsilon, unit * relaxed.energy.critical(task.moments)
    collapsed = is_collapsed(correlation, epsilon, critical, bare=task.data.empty)
    word = word_of_collapse(collapsed, epsilon, critical)
    dtype = task.x.dtype
    transform = jnp.asarray(told.transform, dtype)
    problem = EntropicProblem(
        first_of(pairs_of(told.task, transform[None])),
        *told.task.shares,
        jnp.asarray(epsilon, dtype),
    )
    f, g = (jnp.asarray(potential, dtype) for potential in told.potentials)
    coupling = EntropicCoupling(problem, f, g, jnp.asarray(moved * relaxation.carried, dtype))
    reached = _reached(coupling, found)
    return Match(
        coupling=coupling,
        transform=transform,
        value=jnp.asarray(_value(relaxation, mass, found, moved), dtype),
        objective=jnp.asarray(mass.total(objective)[0], dtype),
        starts=_told_starts(found.starts, mass, unit / task.weight),
        epsilon=epsilon,
        epsilon_critical=critical,
        correlation=correlation,
        collapsed=collapsed,
        marginal_error=reached.error,
        result=_result(solver, found, word, reached),
        mu=measures[0],
        nu=measures[1],
        potentials=(f, g),
        centres=(centres[0] + told.means[0], centres[1] + told.means[1]),
        task=told.task,
    )


def _check(solver: Alternation) -> None:
    for name in ("step", "mesh", "clusters"):
        if getattr(solver, name):
            raise ValueError(
                f"`{name}` of Alternation() is not taken by unbalanced or signed problems, whose "
                "steps have a length of their own, on one device; leave it out."
            )


class Told(NamedTuple):
    """A coupling in terms of points about its own means: the task there, the transform, the
    potentials of its costs, and the means."""

    task: Task
    transform: Float[np.ndarray, "q p"]
    potentials: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]
    means: tuple[Float[np.ndarray, " p"], Float[np.ndarray, " q"]]


def _told(relaxation: Relaxation, found: Sought) -> Told:
    r"""About the means of the coupling, signed squared distances cost $-2 w |x|^2 |y|^2 - \langle M
    x, y \rangle$ up to a function of x and one of y, which potentials absorb."""
    task, best, (fx, fy) = relaxation.task, found.best, relaxation.relaxed.features
    transform = point_transforms(relaxation.relaxed, best.slopes)[0] / task.weight
    means = np.zeros(task.x.shape[1]), np.zeros(task.y.shape[1])
    if task.signs is not None:
        means = _mean(fx, best.about.first[0]), _mean(fy, best.about.second[0])
        left, right = (s * m for s, m in zip(task.signs, means, strict=True))
        transform = transform - 4 * task.norms * np.outer(right, left)
    present = np.asarray(task.a > 0), np.asarray(task.b > 0)
    x, y = (
        np.where(seen[:, None], np.asarray(points, np.float64) - mean, 0.0)
        for points, mean, seen in zip((task.x, task.y), means, present, strict=True)
    )
    dtype = task.x.dtype
    moved = eqx.tree_at(lambda t: (t.x, t.y), task, (jnp.asarray(x, dtype), jnp.asarray(y, dtype)))
    rows, cols = _separable(relaxation, best.slopes, moved, transform)
    f, g = (np.asarray(potential, np.float64)[0] for potential in (best.found.f, best.found.g))
    unit = relaxation.unit
    told = eqx.tree_at(
        lambda t: (t.norms, t.data), moved, (unit * task.norms, scaled(task.data, unit))
    )
    return Told(told, unit * transform, (unit * (f - rows), unit * (g - cols)), means)


def _separable(relaxation: Relaxation, slopes: Any, task: Task, transform: np.ndarray):
    """What the costs of features and of points differ by: a number for each row and column, read
    off at the atoms next to the means."""
    x, y = (f.values for f in relaxation.relaxed.features)
    px, py = (np.asarray(points, np.float64) for points in (task.x, task.y))
    signs = task.signs or (1.0, 1.0)
    qx, qy = ((points**2 * s).sum(axis=1) for points, s in zip((px, py), signs, strict=True))
    first, second, cross = slopes.first[0], slopes.second[0], slopes.transform[0]

    def apart(i, j):
        alone = _form(x[i], first, x[i]) + _form(y[j], second, y[j])
        of_features = alone - _form(x[i], cross.T, y[j])
        of_points = -task.norms * qx[i] * qy[j] - task.weight * _form(px[i], transform.T, py[j])
        return of_features - of_points

    i, j = (_nearest(points, w) for points, w in zip((px, py), (task.a, task.b), strict=True))
    rows, cols = apart(np.arange(len(px)), j), apart(i, np.arange(len(py)))
    return rows, cols - apart(i, j)


def _form(left, matrix, right):
    return np.sum((left @ matrix) * right, axis=-1)


def _nearest(points: np.ndarray, weights: Any) -> int:
    return int(np.argmin(np.where(np.asarray(weights) > 0, (points**2).sum(axis=1), np.inf)))


def _mean(features: Features, second: np.ndarray) -> np.ndarray:
    """The mean of the points, from the second moment of their features: the difference of the
    first two features is constant."""
    constant = features.values[0, 0] - features.values[0, 1]
    return (second[0] - second[1])[-features.dim :] / (constant * features.scale)


def _mass(relaxation: Relaxation, epsilon: float) -> AbstractMass:
    rho = relaxation.relaxed.rho
    return One(rho) if relaxation.masses is None else QuadraticMass(relaxation.masses, rho, epsilon)


def _value(relaxation: Relaxation, mass: AbstractMass, found: Sought, moved: float) -> float:
    """The objective without the entropy."""
    state, lost = found.best.state, found.best.found.lost
    energy = float((relaxation.relaxed.energy.value(state) + state.data)[0])
    return mass.value(energy, (float(lost[0][0]), float(lost[1][0])), moved)


def _told_starts(starts: Starts, mass: AbstractMass, unit: float) -> Starts:
    """The starts with their objectives and transforms in the units of the problem."""
    objective = mass.total(starts.objective)
    return Starts(
        unit * starts.transforms,
        objective,
        starts.optimum,
        starts.refined,
        starts.steps,
        gap(objective, starts.optimum),
    )


def _correlation(relaxation: Relaxation, found: Sought) -> float:
    """The size of the covariance of the coupling as a share of the largest its marginals allow."""
    best, task, (x, y) = found.best.found, relaxation.task, relaxation.relaxed.features
    cross = found.best.state.cross[0, -y.dim :, -x.dim :] / (x.scale * y.scale)
    points = [np.asarray(p, np.float64) for p in (task.x, task.y)]
    shares = [np.asarray(s, np.float64)[0] for s in (best.sent, best.received)]
    means = [s @ p for s, p in zip(shares, points, strict=True)]
    spreads = [
        float(s @ ((p - mean) ** 2).sum(axis=1))
        for s, p, mean in zip(shares, points, means, strict=True)
    ]
    covariance = cross - np.outer(means[1], means[0])
    return correlation_size(covariance, spreads)


def _reached(coupling: EntropicCoupling, found: Sought) -> Resolution:
    """The resolution of the coupling as it is told, against the marginals that the search found."""
    best = found.best.found
    total = float(coupling.total)
    wanted = [total * np.asarray(side, np.float64)[0] for side in (best.sent, best.received)]
    reached = resolution(coupling, *wanted)
    return reached._replace(error=float(np.maximum(reached.error, found.best.error[0])))


def _result(solver: Alternation, found: Sought, word: RESULTS, reached: Resolution) -> RESULTS:
    best = found.best
    numbers = (best.change, best.error, reached)
    finite = all(np.isfinite(number).all() for number in numbers)
    return word_of_ending(solver, word, finite, float(best.change[0]), reached)
