"""Attacks within a budget: atoms are split into copies, and the copies move."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..attention import AbstractInContextMap, AnyMeasure, check_map
from ..measure import AbstractDomain, Measure, check_any_measure
from ..measure.inside import check_inside
from .ascent import Problem, ascend, decaying_rates
from .attack import AbstractAttackMethod, Attack
from .canonical import Canonical, at_least_single, canonical
from .comparison import Comparison, Matching, own_atoms
from .copies import Copies, in_layout
from .distances import Distances, distances
from .ending import ending, stalled
from .objective import AbstractObjective, OutputDisplacement, check_objective
from .room import Room
from .settings import checked_count, checked_exponent, checked_positive
from .starts import (
    Start,
    local_start,
    moving_starts,
    peeling_starts,
    random_starts,
    splitting_starts,
)


# Starts climb this many at a time; so many of the best climb again with optimal matchings.
_TOGETHER = 4


class MassSplitting(AbstractAttackMethod):
    r"""Split each atom into copies, move them, and share the mass among them, within a budget.

    $$\nu = \sum_i a_i \sum_{c \le k} \beta_{ic}\, \delta_{x_i + w_{ic}}, \qquad
    \Big(\sum_{ic} a_i \beta_{ic} |w_{ic}|^p\Big)^{1/p} \le \epsilon.$$

    In $W_2$ the strongest attack often sends a tiny mass far: its ratio is unbounded unless a
    domain or a longest displacement holds it.

    Args:
      budget: epsilon, positive.
      p: 1, 2 or jnp.inf.
      copies: k, at least 1.
      free_mass: whether the shares are free; equal shares 1/k otherwise (text repeated k times).
      domain: what holds the points; it must contain mu.
      max_displacement: the longest move.
      objective: `OutputDisplacement()`, `TaskLoss(loss)` or `TargetDirection(u)`.
      starts: random starts, besides those made from the exact tangents.
      steps: of each ascent; the best four climb as many again.

    Raises:
      ValueError: settings out of range; free mass with p < inf and nothing to hold it.
    """

    budget: float
    p: float
    copies: int
    free_mass: bool
    domain: AbstractDomain | None
    max_displacement: float | None
    objective: AbstractObjective
    starts: int
    steps: int

    def __init__(
        self,
        budget: float | int,
        p: float | int = 2,
        copies: int = 2,
        free_mass: bool = True,
        domain: AbstractDomain | None = None,
        max_displacement: float | int | None = None,
        objective: AbstractObjective = OutputDisplacement(),
        starts: int = 8,
        steps: int = 80,
    ):
        self.budget = checked_positive("budget", budget)
        self.p = checked_exponent(p)
        self.copies = checked_count("copies", copies)
        self.free_mass = bool(free_mass) and self.copies > 1
        self.domain = domain
        self.max_displacement = None
        if max_displacement is not None:
            self.max_displacement = checked_positive("max_displacement", max_displacement)
        self.objective = check_objective(objective)
        self.starts, self.steps = checked_count("starts", starts), checked_count("steps", steps)
        held = domain is not None or max_displacement is not None or self.p == math.inf
        if self.free_mass and not held:
            raise ValueError(
                "`domain` or `max_displacement` must be given where mass is free and p is finite: "
                "a vanishing mass may travel any distance within the budget. Take "
                "domain=mf.Ball(mu.radius), for instance."
            )

    def search(self, f: AbstractInContextMap, mu: AnyMeasure, key: PRNGKeyArray) -> Attack:
        return search_within(self, f, mu, key, merge=True)


def search_within(
    method: MassSplitting,
    f: AbstractInContextMap,
    mu: AnyMeasure,
    key: PRNGKeyArray,
    *,
    merge: bool,
) -> Attack:
    """The search of `MassSplitting`; without `merge`, equal atoms stay apart."""
    check_map(f)
    check_any_measure(mu=mu)
    f, plain = at_least_single(f), canonical(at_least_single(mu), merge=merge)
    check_inside(plain.measure, method.domain)
    _check_budget(method, plain.measure)
    dtype = plain.measure.points.dtype
    longest = method.max_displacement
    room = Room(
        jnp.asarray(method.budget, dtype),
        method.p,
        method.domain,
        None if longest is None else jnp.asarray(longest, dtype),
    )
    local_key, start_key = jr.split(key)
    local = local_start(f, plain.measure, splitting=method.copies > 1, key=local_key)
    starts = _starts(method, local, f, plain.measure, start_key)
    problem = Problem(
        f, plain.measure, _image(f, plain.measure), room, method.objective, method.free_mass
    )
    candidates, histories = _candidates(problem, starts, method.steps)
    return _attack(problem, plain, candidates, histories, local.value)


def _starts(method: MassSplitting, local: Start, f, mu: AnyMeasure, key) -> list[Copies]:
    """All starts, on the host."""
    starts = moving_starts(local, mu, method.copies)
    if method.copies > 1:
        starts += splitting_starts(local, mu, method.copies)
    if method.free_mass and method.p != math.inf:
        starts += peeling_starts(local, f, mu, method.copies)
    return starts + random_starts(mu, method.copies, method.starts, key, free=method.free_mass)


class _Candidate(NamedTuple):
    """What one ascent found, placed and measured."""

    copies: Copies
    found: Distances
    objective: float
    history: np.ndarray


def _candidates(
    problem: Problem, starts: list[Copies], steps: int
) -> tuple[list[_Candidate], list[np.ndarray]]:
    """Ascents from all starts with each copy matched to its own atom; then from the best few, as
    exact distances rank them, with optimal matchings of the images. And the history of each."""
    own = own_atoms(problem.mu, starts[0].logits.shape[-1])
    first = []
    for at in range(0, len(starts), _TOGETHER):
        first += _climbs(problem, starts[at : at + _TOGETHER], [own], steps, 0.3)
    first.sort(key=lambda each: -each[0])
    measured = [_measured(problem, *each) for each in first[:_TOGETHER]]
    measured.sort(key=lambda each: -each.objective)
    matchings = [each.found.matching() for each in measured]
    again = _climbs(problem, [each.copies for each in measured], matchings, steps, 0.1)
    found = measured + [_measured(problem, *each) for each in again]
    return found, [history for *_, history in first + again]


def _climbs(problem, starts: list[Copies], matchings: list[Matching], steps: int, rate: float):
    """Value, copies and history of each ascent; shapes do not depend on the number of starts."""
    dtype = problem.mu.points.dtype
    pad = [starts[at % len(starts)] for at in range(_TOGETHER)]
    matched = [matchings[at % len(matchings)] for at in range(_TOGETHER)]
    stacked, entries = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *group) for group in (pad, matched)
    )
    entries = Matching(entries.rows, entries.cols, entries.shares.astype(dtype))
    arrays = jax.tree.map(jnp.asarray, (stacked, entries))
    climb = jax.tree.map(np.asarray, ascend(problem, *arrays, decaying_rates(steps, rate, dtype)))
    return [
        (float(climb.value[at]), _one(climb.copies, at), climb.history[at])
        for at in range(min(len(starts), _TOGETHER))
    ]


def _one(stacked: Copies, index: int) -> Copies:
    return Copies(stacked.moves[index], stacked.logits[index])


def _measured(problem: Problem, value: float, copies: Copies, history) -> _Candidate:
    """The copies as they are made: scaled, confined, within the budget; with exact distances."""
    placed = _placed(problem, jax.tree.map(jnp.asarray, copies))
    own = np.repeat(np.arange(problem.mu.masses.size), copies.logits.shape[-1])
    found = distances(problem.f, problem.mu, placed.applied(problem.mu), own, problem.room.p)
    if isinstance(problem.objective, OutputDisplacement):
        return _Candidate(placed, found, found.after, history)
    # in the precision of the search: a loss may close over arrays of it
    dtype, matched = problem.mu.points.dtype, found.matching()
    before, after = (_narrowed(each, dtype) for each in (found.image_before, found.image_after))
    matched = Matching(matched.rows, matched.cols, matched.shares.astype(dtype))
    images = Comparison(before, after, matched, problem.room.p)
    return _Candidate(placed, found, float(problem.objective(images)), history)


def _narrowed(mu: AnyMeasure, dtype) -> AnyMeasure:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(dtype)), mu)


@eqx.filter_jit
def _image(f, mu):
    return f(mu)


@eqx.filter_jit
def _placed(problem: Problem, copies: Copies) -> Copies:
    """The moves as they are made: scaled, confined, within the budget."""
    fitted = problem.room.fitted(problem.mu, copies)
    return problem.room.feasible(problem.mu, fitted)


def _attack(
    problem: Problem,
    plain: Canonical,
    candidates: list[_Candidate],
    histories: list[np.ndarray],
    local: Array,
) -> Attack:
    """The best candidate by its objective."""
    best = max(candidates, key=lambda each: each.objective)
    mu, copies, dtype = problem.mu, best.copies, problem.mu.points.dtype
    before, after = best.found.before, best.found.after
    ratio = after / before if before > 0 else math.nan
    constants = {"ratio": ratio, "local": float(local)}
    stop = stalled(problem.objective, problem.before, best.objective, histories, **constants)
    own = own_atoms(mu, copies.logits.shape[-1])
    images = best.found.image_before, best.found.image_after
    with jax.enable_x64(True):  # the images are in float64
        coupling = float(Comparison(*images, own, problem.room.p).distance)
    nu = copies.applied(mu)
    ordered, origin = _in_order(nu, plain, copies.logits.shape[-1])
    return Attack(
        ratio=jnp.asarray(ratio, dtype),
        distance_in=jnp.asarray(before, dtype),
        distance_out=jnp.asarray(after, dtype),
        measure=ordered,
        origin=origin,
        displacement=jnp.asarray(best.found.displacement, dtype),
        radius=nu.radius,
        objective=jnp.asarray(best.objective, dtype),
        local=local,
        history=jnp.asarray(best.history),
        result=ending(stop, ratio, best.objective, float(local)),
        stats={
            "candidates": len(candidates),
            "steps": len(best.history),
            "coupling_ratio": coupling / max(best.found.moved, 1e-300),
        },
    )


def _in_order(nu: AnyMeasure, plain: Canonical, copies: int):
    """The atoms of nu in the order of the atoms of the original measure that they are copies of."""
    origin = np.repeat(plain.origin.reshape(-1), copies)
    if not isinstance(nu, Measure):
        return nu, origin.reshape(nu.masses.shape)
    order = np.argsort(origin, kind="stable")
    return in_layout(nu, nu.points[order], nu.weights[order]), origin[order]


def _check_budget(method: MassSplitting, mu: AnyMeasure) -> None:
    """Raises ValueError where no measure on the domain is as far as the budget, or where a move
    within the budget may be lost in rounding."""
    mass = 1.0 if method.p == math.inf else float(mu.mass) ** (1 / method.p)
    finest = float(np.finfo(mu.points.dtype).eps) * float(mu.radius) * mass
    if method.budget < finest:
        raise ValueError(
            f"`budget` must be at least {finest:.3g}, what {mu.points.dtype} can tell apart at the "
            f"points of `mu`; got {method.budget:.4g}. Subtract their mean, or use float64."
        )
    if method.domain is None:
        return
    widest = 2 * float(method.domain.radius) * mass
    if method.budget > widest:
        raise ValueError(
            f"`budget` must be at most {widest:.4g}, the largest distance of two measures on the "
            f"domain; got {method.budget:.4g}."
        )
