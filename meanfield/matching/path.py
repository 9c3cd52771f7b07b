r"""Regularization paths: one matching problem at many strengths of its regularizer.

A transform M that was found at one strength has an objective at every other, $F_t(M) = F_s(M) + (t
- s) R(M)$, because the transport problem of M does not hold the strength. So each optimum that is
found anywhere is a line, and the lines are compared at every strength.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..measure import RESULTS, Measure
from .alternation import Alternation
from .entrywise import L1, ElasticNet
from .groups import ColumnGroups, RowGroups
from .match import Match
from .problem import CostRegularized
from .relaxation import relaxation
from .solve import match
from .spectral import Nuclear


_WITH_STRENGTH = (L1, ElasticNet, ColumnGroups, RowGroups, Nuclear)
# Singular values below this share of the largest are rounding.
_ROUNDING = 1e-6
# Objectives that differ by less than this share of the largest on the path, or by 100 units of
# rounding, count as equal.
_LEAST = 1e-6
# How often the lines are compared again after one of them has been followed.
_ROUNDS = 5


class RegularizationPath(eqx.Module):
    r"""The matches of one problem at increasing strengths.

    Attributes:
      strengths: shape (k,).
      matches: a `Match` at each, with its coupling, maps and starts.
      fresh: shape (k,), where the solver's own starts were run too.
      origins: shape (k,), the place on the path whose transform each match descended from; its own
        place where the solver's starts won.
      gaps: shape (k,), how far the runner-up of the solver's starts was above their best
        (`Starts.gap`); NaN where they were not run.
      result: `RESULTS.successful`, or the first other one. Collapse at the end of the path is no
        failure: there the zero transform is the answer.
    """

    strengths: Float[np.ndarray, " k"]
    matches: tuple[Match, ...]
    fresh: Bool[np.ndarray, " k"]
    origins: Int[np.ndarray, " k"]
    gaps: Float[np.ndarray, " k"]
    result: RESULTS

    @property
    def transforms(self) -> Float[np.ndarray, "k q p"]:
        return np.stack([np.asarray(sol.transform) for sol in self.matches])

    @property
    def objectives(self) -> Float[np.ndarray, " k"]:
        """What was minimised, with the entropy, at each strength; it does not decrease."""
        return np.array([float(sol.objective) for sol in self.matches])

    @property
    def nonzeros(self) -> Int[np.ndarray, " k"]:
        """The number of nonzero entries of each transform."""
        return np.count_nonzero(self.transforms, axis=(1, 2))

    @property
    def ranks(self) -> Int[np.ndarray, " k"]:
        """The rank of each transform."""
        values = np.linalg.svd(self.transforms, compute_uv=False)
        return np.sum(values > _ROUNDING * values[:, :1], axis=1)

    @property
    def collapsed(self) -> Bool[np.ndarray, " k"]:
        return np.array([sol.collapsed for sol in self.matches])

    def __repr__(self) -> str:
        k, ends = len(self.strengths), self.nonzeros[[0, -1]]
        return (
            f"RegularizationPath({k} strengths from {self.strengths[0]:.3g} to "
            f"{self.strengths[-1]:.3g}, {ends[0]} to {ends[1]} nonzeros, "
            f"{int(self.collapsed.sum())} collapsed)"
        )


class _Found(NamedTuple):
    """A match on the path, and where it came from."""

    sol: Match
    origin: int


class _Lines(NamedTuple):
    """Transforms with what their objectives hold besides the regularizer, and their places."""

    transforms: list[np.ndarray]
    bases: list[float]
    places: list[int]


def regularization_path(
    mu: Measure,
    nu: Measure,
    problem: CostRegularized,
    strengths: Any,
    solver: Alternation = Alternation(),
    *,
    fresh: int = 3,
    throw: bool = True,
    key: PRNGKeyArray | None = None,
) -> RegularizationPath:
    r"""Matches at increasing strengths of the regularizer, each begun at the one before.

    One warm start follows one optimum, which need not stay the best. So the solver's own starts are
    run at some strengths too, and every optimum that was found anywhere is compared at every
    strength, by $F_t(M) = F_s(M) + (t - s) R(M)$; where another one is lower, the match descends
    from it. Objectives on the path then do not decrease, and penalties R(M) do not increase, in the
    strength (theory page). Nothing says that the optima are global.

    Args:
      mu, nu: measures as in `match`.
      problem: `CostRegularized` with `L1`, `ElasticNet` (whose ridge stays), `ColumnGroups`,
        `RowGroups` or `Nuclear`, and fixed marginals; its strength is replaced.
      strengths: shape (k,), increasing, relative if the regularizer's strength is.
      solver: `Alternation(...)`, as in `match`.
      fresh: at how many strengths, in equal steps along the path, the solver's own starts are run;
        always at the first.
      throw: whether to raise where a match did not settle, or all of them collapsed.
      key: as in `match`.

    Raises:
      ValueError: strengths that do not increase, a regularizer without a strength, free marginals;
        what `match` raises.
      RuntimeError: a match did not settle, or all collapsed (with `throw=True`).
    """
    key = jr.key(0) if key is None else key
    strengths = _checked(strengths, problem, fresh, mu, nu)
    problems = [_of_strength(problem, strength) for strength in strengths]
    where = _spread(len(strengths), int(fresh))

    def solved(place: int, start: Any = None) -> Match:
        return match(mu, nu, problems[place], solver, start=start, throw=False, key=key)

    found, lines, gaps = _upwards(solved, where)
    found = _lowered(solved, found, lines)
    path = RegularizationPath(
        strengths=strengths,
        matches=tuple(one.sol for one in found),
        fresh=where,
        origins=np.array([one.origin for one in found]),
        gaps=gaps,
        result=_result([one.sol for one in found]),
    )
    if throw and path.result != RESULTS.successful:
        raise RuntimeError(str(RESULTS[path.result]))
    return path


def _upwards(solved: Any, where: np.ndarray) -> tuple[list[_Found], _Lines, np.ndarray]:
    """From weak to strong: at a strong penalty zero attracts, and nothing leads away from it."""
    found: list[_Found] = []
    lines, gaps = _Lines([], [], []), np.full(len(where), np.nan)
    for place, fresh in enumerate(where):
        here = [_Found(solved(place, found[-1].sol), place - 1)] if place else []
        if fresh:
            here.append(_Found(solved(place), place))
            gaps[place] = here[-1].sol.starts.gap
        for one in here:
            _noted(lines, one.sol, place)
        slack, warm, last = _slack(found + here), here[0], here[-1]
        clear = float(last.sol.objective) < float(warm.sol.objective) - slack
        found.append(last if clear else warm)
    return found, lines, gaps


def _lowered(solved: Any, found: list[_Found], lines: _Lines) -> list[_Found]:
    """The path after the lowest line at each strength has been followed where it is lower."""
    found, tried, slack = list(found), set(), _slack(found)
    for _ in range(_ROUNDS):
        before = len(tried)
        for place in reversed(range(len(found))):
            now = found[place].sol
            lines_here = zip(lines.bases, lines.transforms, strict=True)
            heights = np.array([base + float(now.task.besides(m)) for base, m in lines_here])
            lowest = int(np.argmin(heights))
            lower = heights[lowest] < float(now.objective) - slack
            if lower and (place, lowest) not in tried:
                tried.add((place, lowest))
                new = solved(place, lines.transforms[lowest])
                _noted(lines, new, place)
                if float(new.objective) < float(now.objective) - slack:
                    found[place] = _Found(new, lines.places[lowest])
        if len(tried) == before:
            break
    return found


def _noted(lines: _Lines, sol: Match, place: int) -> None:
    """Add all optima whose objective on all atoms is known, one line each."""
    starts = sol.starts
    for optimum in np.unique(starts.optimum[starts.refined]):
        start = int(np.nonzero(starts.optimum == optimum)[0][0])
        transform = starts.transforms[start]
        lines.transforms.append(transform)
        lines.bases.append(float(starts.objective[start] - sol.task.besides(transform)))
        lines.places.append(place)


def _slack(found: list[_Found]) -> float:
    """How much lower an objective must be to count as lower."""
    objectives = [one.sol.objective for one in found]
    share = max(_LEAST, 100 * float(np.finfo(objectives[0].dtype).eps))
    return share * max(abs(float(objective)) for objective in objectives)


def _spread(count: int, fresh: int) -> Bool[np.ndarray, " k"]:
    """Where the solver's starts are run: the first place, and others in equal steps."""
    places = np.linspace(0, count - 1, min(fresh, count)).round().astype(int)
    return np.isin(np.arange(count), places)


def _of_strength(problem: CostRegularized, strength: float) -> CostRegularized:
    return eqx.tree_at(lambda one: one.regularizer.strength, problem, float(strength))


def _result(matches: list[Match]) -> RESULTS:
    collapsed = [sol.collapsed for sol in matches]
    if all(collapsed):
        return matches[0].result
    last = len(matches) - collapsed[::-1].index(False)
    failed = [sol.result for sol in matches[:last] if sol.result != RESULTS.successful]
    return failed[0] if failed else RESULTS.successful


def _checked(strengths: Any, problem: Any, fresh: int, mu: Measure, nu: Measure) -> np.ndarray:
    array = np.atleast_1d(np.asarray(strengths, np.float64))
    rising = array.ndim == 1 and len(array) and (np.diff(array) > 0).all() and array[0] >= 0
    if not rising or not np.isfinite(array).all():
        raise ValueError(f"`strengths` must be increasing nonnegative numbers; got {strengths}.")
    regularizer = getattr(problem, "regularizer", None)
    if not isinstance(regularizer, _WITH_STRENGTH):
        names = ", ".join(kind.__name__ for kind in _WITH_STRENGTH)
        raise ValueError(
            f"`problem` must be CostRegularized with one of {names}; got {problem!r:.80}."
        )
    if relaxation(problem, mu, nu) is not None:
        raise ValueError("`problem` must have fixed marginals on a path; leave `rho` out.")
    if fresh < 1:
        raise ValueError(f"`fresh` must be at least 1; got {fresh}.")
    return array
