r"""An interior-point method for unbalanced transport without entropy, on the host.

It solves, for the dual slacks $s_{ij} = C_{ij} - f_i - g_j > 0$ and couplings $P > 0$,

$$\sum_j P_{ij} = a_i e^{-f_i / \rho_1}, \qquad \sum_i P_{ij} = b_j e^{-g_j / \rho_2}, \qquad
P_{ij} s_{ij} = t, \quad t \to 0,$$

by Newton's method with Mehrotra's predictor and corrector {cite}`mehrotra1992`. Both sides are
feasible throughout, so the duality gap is a bound at every step.
"""

from typing import NamedTuple

import numpy as np


# The centre is never brought nearer than by this share of the gap: what is left of the gap is then
# in the marginal equations, whose exponentials follow a Newton step by a factor e at most.
_LAG = 0.1
_TO_THE_BOUNDARY = 0.995


class Problem(NamedTuple):
    """Costs, weights and the prices of unmoved mass, in float64; everything has mass."""

    costs: np.ndarray
    a: np.ndarray
    b: np.ndarray
    rho: tuple[float, float]


class Pair(NamedTuple):
    """A coupling and potentials, both strictly feasible."""

    coupling: np.ndarray
    f: np.ndarray
    g: np.ndarray


def solve(problem: Problem, tolerance: float, max_steps: int) -> tuple[Pair, int, bool]:
    """A pair whose gap is a share `tolerance` of the primal value, the steps, and whether it is."""
    now = _start(problem)
    for step in range(max_steps):
        if _closed(problem, now, tolerance):
            return now, step, True
        after = _step(problem, now)
        if not all(np.all(np.isfinite(array)) for array in after) or np.min(after.coupling) <= 0:
            return now, step, False
        now = after
    return now, max_steps, _closed(problem, now, tolerance)


def values(problem: Problem, pair: Pair) -> tuple[float, float]:
    """The primal objective, infinite prices left out, and the dual."""
    moved = pair.coupling.sum(axis=1), pair.coupling.sum(axis=0)
    sides = zip(moved, (problem.a, problem.b), (pair.f, pair.g), problem.rho, strict=True)
    primal, dual = float(np.sum(pair.coupling * problem.costs)), 0.0
    for mass, weights, potential, rho in sides:
        if np.isinf(rho):
            dual += weights @ potential
            continue
        dual -= rho * (weights @ np.expm1(-potential / rho))
        excess = mass - weights
        primal += rho * np.sum(_shares_times_logs(mass, weights) - excess)
    return float(primal), float(dual)


def _shares_times_logs(mass: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The products m log(m / w), to the digits of m - w where that is small, and zero at zero."""
    share = mass / weights
    far = np.log(np.where((share > 0.5) | (share <= 0), 1.0, share))
    return mass * np.where(share > 0.5, np.log1p(np.maximum((mass - weights) / weights, -0.5)), far)


def _closed(problem: Problem, pair: Pair, tolerance: float) -> bool:
    """Whether the gap is, and where all mass must move whether it does."""
    primal, dual = values(problem, pair)
    moved = pair.coupling.sum(axis=1), pair.coupling.sum(axis=0)
    sides = zip(moved, (problem.a, problem.b), problem.rho, strict=True)
    missing = [np.sum(np.abs(mass - w)) / np.sum(w) for mass, w, rho in sides if np.isinf(rho)]
    allowed = max(tolerance * abs(primal), _rounding(problem))
    return bool(abs(primal - dual) <= allowed and sum(missing) <= tolerance)


def _rounding(problem: Problem) -> float:
    """What a gap may be without being seen, which counts where the optimum is zero."""
    mass = min(problem.a.sum(), problem.b.sum())
    paid = min(problem.costs.mean(), max(problem.rho))  # nobody pays much more than the price
    return mass * (1e-13 * paid + 1e-17 * min(problem.rho))


def _start(problem: Problem) -> Pair:
    """Potentials a little below zero, and the coupling that is centred with them."""
    n, m = problem.costs.shape
    scale = problem.costs.mean() or 1.0
    below = min(0.05 * scale, 0.1 * min(problem.rho))
    coupling = 1 / (problem.costs + 2 * below)
    coupling *= min(problem.a.sum(), problem.b.sum()) / coupling.sum()
    return Pair(coupling, np.full(n, -below), np.full(m, -below))


def _step(problem: Problem, now: Pair) -> Pair:
    """Towards the boundary to see how far it is, then towards a centre chosen from that."""
    slack = problem.costs - now.f[:, None] - now.g
    centre = np.mean(now.coupling * slack)
    linear = _Newton(problem, now, slack)
    move, bend = linear.direction(0.0)
    reach = _reach(now.coupling, move.coupling), _reach(slack, bend)
    left = np.mean((now.coupling + reach[0] * move.coupling) * (slack + reach[1] * bend))
    primal, dual = values(problem, now)
    target = max(min((left / centre) ** 3, 1.0) * centre, _LAG * (primal - dual) / slack.size)
    move, bend = linear.direction(target - move.coupling * bend)
    along, across = _reach(now.coupling, move.coupling), _reach(slack, bend)
    for step, rho in ((move.f, problem.rho[0]), (move.g, problem.rho[1])):
        across = min(across, 2 * rho / max(-np.min(step), 1e-300))  # exponentials stay in range
    return Pair(
        now.coupling + along * move.coupling, now.f + across * move.f, now.g + across * move.g
    )


class _Newton:
    """The linearised equations at a pair, with the block of the first side eliminated."""

    def __init__(self, problem: Problem, now: Pair, slack: np.ndarray):
        (self.now, self.slack), (first, second) = (now, slack), problem.rho
        self.wanted = problem.a * np.exp(-now.f / first), problem.b * np.exp(-now.g / second)
        self.ratio = now.coupling / slack
        self.rows = self.ratio.sum(axis=1) + self.wanted[0] / first
        lost = self.wanted[0] / first / self.rows
        between = self.ratio.T @ (self.ratio / self.rows[:, None])
        np.fill_diagonal(between, 0.0)
        # the diagonal by sums of positive numbers: the difference may have no digits
        own = self.wanted[1] / second + lost @ self.ratio + between.sum(axis=1)
        self.reduced = np.diag(own) - between

    def direction(self, target: np.ndarray | float) -> tuple[Pair, np.ndarray]:
        """The step that makes the products P s equal to the target, and that of the slacks."""
        filled = target / self.slack + np.zeros_like(self.slack)
        r = self.wanted[0] - filled.sum(axis=1)
        s = self.wanted[1] - filled.sum(axis=0)
        g = np.linalg.solve(self.reduced, s - self.ratio.T @ (r / self.rows))
        f = (r - self.ratio @ g) / self.rows
        bend = -(f[:, None] + g)
        return Pair(filled - self.now.coupling - self.ratio * bend, f, g), bend


def _reach(values_now: np.ndarray, step: np.ndarray) -> float:
    """How much of a step keeps positive numbers positive, up to all of it."""
    falling = step < 0
    if not np.any(falling):
        return 1.0
    return min(1.0, _TO_THE_BOUNDARY * float(np.min(-values_now[falling] / step[falling])))
