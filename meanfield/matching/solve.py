"""`match`: the search over starts, and what it returns."""

from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..measure import RESULTS, Measure, check_measures
from ..transport import AbstractCoupling, EntropicCoupling, SparseCoupling
from ..transport.entropic_problem import EntropicProblem
from .alternation import Alternation
from .collapse import correlation_size, is_collapsed, word_of_collapse
from .combined import SumCoupling
from .descent import Descent, objectives
from .ending import word_of_ending
from .exact_alternation import ExactAlternation
from .exact_match import exact_match
from .gromov import AbstractDistortion
from .lower_bound import lower_bound
from .match import Match
from .moments import cloud
from .peer_match import peer_match
from .peers import AbstractPeer
from .problem import AbstractMatchingProblem, CostRegularized
from .regularizer import inner
from .relaxation import relaxation
from .relaxed_match import relaxed_match
from .resolution import Resolution, resolution
from .search import Found, search
from .task import Task, first_of, pairs_of


def match(
    mu: Measure,
    nu: Measure,
    problem: AbstractMatchingProblem = CostRegularized(),
    solver: Alternation | ExactAlternation | AbstractPeer = Alternation(),
    *,
    start: Any = None,
    throw: bool = True,
    key: PRNGKeyArray | None = None,
) -> Match:
    r"""A coupling of two measures that live on different spaces, and the transform between them.

    The search runs on the host, with compiled iterations; it does not trace and does not
    differentiate. It may end at a local optimum: `.starts` tells what the others were. The product
    coupling, which is stationary for centred measures, is never where it begins and is reported
    where it ends.

    Args:
      mu, nu: measures, weighted, of any sizes and dimensions; of equal mass unless the problem has
        a finite `rho`.
      problem: `CostRegularized(...)`, `GromovWasserstein(...)`, `FusedGromovWasserstein(...)` or
        `UnbalancedGromovWasserstein(...)`.
      solver: `Alternation(...)`; `ExactAlternation(...)` without entropy; for Gromov-Wasserstein
        between matrices `ConditionalGradient()`, `MirrorDescent()` or `MirrorDescentOTT()`, which
        call POT and OTT from our starts.
      start: a `Match` of a similar problem (for a regularization path, or to refine it with
        another cost), or transforms of shape (q, p) or (s, q, p), to begin with in place of the
        solver's starts.
      throw: whether to raise when the match collapsed or did not settle; otherwise `.result` says
        it.
      key: for the sample of large measures and for random starts; by default `jax.random.key(0)`.

    Raises:
      ValueError: measures without mass, without spread, with points that are not finite, of
        different masses; settings that do not fit them.
      RuntimeError: the match collapsed or did not settle (with `throw=True`).
    """
    check_measures(mu=mu, nu=nu)
    key = jr.key(0) if key is None else key
    by_moments = None if isinstance(solver, AbstractPeer) else relaxation(problem, mu, nu)
    if isinstance(solver, AbstractPeer):
        sol = peer_match(problem, mu, nu, solver, start)
    elif isinstance(solver, ExactAlternation):
        _refuse_relaxed(by_moments)
        sol = exact_match(problem, mu, nu, solver, _transforms(start, mu, nu), key)
    elif by_moments is None:
        sol = _alternated(mu, nu, problem, solver, start, key)
    else:
        starts = _transforms(start, mu, nu)
        sol = relaxed_match(by_moments, (mu, nu), _centres(mu, nu, problem), solver, starts, key)
    if throw and sol.result != RESULTS.successful:
        raise RuntimeError(str(RESULTS[sol.result]))
    return sol


def _refuse_relaxed(by_moments: Any) -> None:
    if by_moments is not None:
        raise ValueError(
            "ExactAlternation() takes problems with fixed marginals and inner products or squared "
            "distances. Use Alternation() for a finite `rho` and for SignedDistance(...)."
        )


def _alternated(mu, nu, problem, solver: Alternation, start: Any, key: PRNGKeyArray) -> Match:
    task = problem.task(mu, nu)
    if not float(jnp.sum(task.a)) > 1e-9 or not float(jnp.sum(task.b)) > 1e-9:
        raise ValueError("`known` pairs hold all the mass; nothing is left to match.")
    found = search(task, solver, _transforms(start, mu, nu), key)
    return _match(mu, nu, problem, task, solver, found)


def _centres(mu: Measure, nu: Measure, problem: AbstractMatchingProblem):
    return cloud("mu", mu, problem.center).centre, cloud("nu", nu, problem.center).centre


def _transforms(start: Any, mu: Measure, nu: Measure) -> np.ndarray | None:
    if start is None:
        return None
    given = start.transform if isinstance(start, Match) else start
    transforms = np.asarray(given, np.float64).reshape(-1, *np.shape(given)[-2:])
    if transforms.shape[1:] != (nu.dim, mu.dim):
        raise ValueError(
            f"`start` must hold transforms of shape {(nu.dim, mu.dim)}, from the space of `mu` to "
            f"that of `nu`; got {np.shape(given)}."
        )
    if not np.isfinite(transforms).all():
        raise ValueError("`start` must be finite; it holds NaN or inf.")
    return transforms


def _match(
    mu: Measure,
    nu: Measure,
    problem: AbstractMatchingProblem,
    task: Task,
    solver: Alternation,
    found: Found,
) -> Match:
    best, epsilon = found.best, found.epsilon
    free = _free(task, best, epsilon, task.free_mass)
    correlation = _correlation(task, best, free)
    critical = task.epsilon_critical
    bare = task.data.empty and not len(task.pinned.masses)
    collapsed = is_collapsed(correlation, epsilon, task.epsilon_about_means, bare=bare)
    word = word_of_collapse(collapsed, epsilon, critical)
    reached = resolution(free, *_wanted(task, best))
    reached = reached._replace(error=float(np.maximum(reached.error, best.error[0])))
    value = _value(problem, task, best, free)
    return Match(
        coupling=_whole(task, best, epsilon, float(mu.mass) if task.balanced else 1.0),
        transform=jnp.asarray(best.transforms[0], task.x.dtype),
        value=jnp.asarray(value, task.x.dtype),
        objective=jnp.asarray(objectives(task, best)[0], task.x.dtype),
        starts=found.starts,
        epsilon=epsilon,
        epsilon_critical=critical,
        correlation=correlation,
        collapsed=collapsed,
        marginal_error=reached.error,
        result=_result(solver, best, word, value, reached),
        mu=mu,
        nu=nu,
        potentials=(best.f[0], best.g[0]),
        centres=_centres(mu, nu, problem),
        task=task,
        lower_bound=lower_bound(
            task, (cloud("mu", mu, problem.center), cloud("nu", nu, problem.center))
        ),
    )


def _free(task: Task, best: Descent, epsilon: float, total: float) -> EntropicCoupling:
    """The coupling of what is not known beforehand, with the total given (of shares)."""
    dtype = task.x.dtype
    pairs = first_of(pairs_of(task, jnp.asarray(best.transforms, dtype)))
    problem = EntropicProblem(pairs, *task.shares, jnp.asarray(epsilon, dtype))
    return EntropicCoupling(problem, best.f[0], best.g[0], jnp.asarray(total, dtype))


def _whole(task: Task, best: Descent, epsilon: float, mass: float) -> AbstractCoupling:
    free = _free(task, best, epsilon, mass * task.free_mass)
    rows, cols, masses = task.pinned[:3]
    if not len(masses):
        return free
    known = SparseCoupling(
        jnp.asarray(rows), jnp.asarray(cols), jnp.asarray(mass * masses, task.x.dtype), free.shape
    )
    return SumCoupling(known, free)


def _value(
    problem: AbstractMatchingProblem, task: Task, best: Descent, free: EntropicCoupling
) -> float:
    """The objective without entropy, at the coupling found."""
    transform, cross, second = best.transforms[0], best.cross[0], best.second[0]
    if isinstance(problem, AbstractDistortion):  # a distortion of the coupling alone
        transform = np.asarray(task.transform_for(cross, second, transform, 1.0))
    sent, received = (np.asarray(marginal, np.float64) for marginal in free.marginals)
    x, y = (np.asarray(jnp.sum(points**2, axis=1), np.float64) for points in (task.x, task.y))
    value = -task.weight * inner(transform, cross)
    if task.squared:
        value += task.weight / 2 * (inner(transform @ second, transform) + received @ y)
    if task.norms:
        value -= task.norms * x @ np.asarray(free.apply(jnp.asarray(y, task.y.dtype)), np.float64)
    return float(value + _of_data(task, free, sent, received) + task.besides(transform))


def _of_data(task: Task, free: EntropicCoupling, sent: Any, received: Any) -> float:
    data = task.data
    value = sent @ np.asarray(data.alpha) + received @ np.asarray(data.beta)
    if data.rows.shape[1]:
        value -= float(jnp.sum(data.rows * free.apply(data.cols)))
    if data.table is not None:
        value += float(jnp.sum(data.table * free.matrix))
    return float(value)


def _correlation(task: Task, best: Descent, free: EntropicCoupling) -> float:
    """The size of the covariance of the coupling, known pairs included, between zero and one."""
    (sent, received), pinned = free.marginals, task.pinned
    left, right = (np.asarray(marginal, np.float64).copy() for marginal in (sent, received))
    np.add.at(left, pinned.rows, pinned.masses)
    np.add.at(right, pinned.cols, pinned.masses)
    mass = max(left.sum(), np.finfo(np.float64).tiny)
    x, y = (np.asarray(points, np.float64) for points in (task.x, task.y))
    means = right @ y / mass, left @ x / mass
    spreads = [
        float(w @ ((points - mean) ** 2).sum(axis=1)) / mass
        for points, w, mean in ((y, right, means[0]), (x, left, means[1]))
    ]
    covariance = (best.cross[0] + pinned.cross) / mass - np.outer(*means)
    return correlation_size(covariance, spreads)


def _wanted(task: Task, best: Descent) -> tuple[np.ndarray, np.ndarray]:
    """The marginals that the potentials ask for: the weights, where they are fixed."""
    first, second = (
        np.asarray(jnp.where(w > 0, w * side.share(potential[0]), 0.0), np.float64)
        for w, side, potential in zip(task.shares, task.sides, (best.f, best.g), strict=True)
    )
    return task.free_mass * first, task.free_mass * second


def _result(
    solver: Alternation, best: Descent, word: RESULTS, value: float, reached: Resolution
) -> RESULTS:
    numbers = (best.transforms, best.error, best.dual, value, reached)
    finite = all(np.isfinite(number).all() for number in numbers)
    return word_of_ending(solver, word, finite, float(best.change[0]), reached)
