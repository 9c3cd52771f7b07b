"""Which starts ended at the same optimum, and which may still win on more atoms."""

import numpy as np
from jaxtyping import Bool, Float, Int

from .descent import Descent
from .match import Starts
from .task import Task


# Transforms that differ by less than this share of their size are one optimum.
_SAME = 0.05
# An optimum is given up when it is above the best by so many standard errors of the sample.
_SURE = 5.0


def grouped(
    transforms: Float[np.ndarray, "s q p"], objective: Float[np.ndarray, " s"], floor: float
) -> Int[np.ndarray, " s"]:
    """Numbers of the optima, from the lowest objective up: transforms near each other share one.

    Near means by less than a twentieth of the size of the first, or of `floor` where all are
    smaller: transforms that are zero up to rounding are one optimum.
    """
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


def gap(objective: Float[np.ndarray, " s"], optimum: Int[np.ndarray, " s"]) -> float:
    """How far the best start of another optimum is above the best, as a share of its size."""
    best = objective.min()
    others = objective[optimum != optimum[np.argmin(objective)]]
    return float((others.min() - best) / max(abs(best), 1e-300)) if len(others) else float("inf")


def carried_through(
    transforms: Float[np.ndarray, "s q p"],
    objective: Float[np.ndarray, " s"],
    steps: Int[np.ndarray, " s"],
    floor: float,
) -> Starts:
    """The starts of a search that ran every one of them to its end on all atoms."""
    optimum = grouped(transforms, objective, floor)
    everywhere = np.full(len(objective), True)
    return Starts(transforms, objective, optimum, everywhere, steps, gap(objective, optimum))


def contenders(
    task: Task, whole: Task, at: Descent, objective: Float[np.ndarray, " s"]
) -> Bool[np.ndarray, " s"]:
    r"""Which optima on a sample are within the sampling error of the best one.

    The value of entropic transport on a sample is normal about that on all atoms, to first order,
    and the potentials are its influence functions {cite}`mena2019`. So the difference of the
    objectives of two optima has a variance of $\mathrm{Var}_\mu(f - f') (1/n' - 1/n) +
    \mathrm{Var}_\nu(g - g') (1/m' - 1/m)$, for samples of n' of n and m' of m atoms. The transforms
    move too, but the objective is stationary there.
    """
    best = int(np.argmin(objective))
    (n, m), (all_n, all_m) = ((len(t.a), len(t.b)) for t in (task, whole))
    variance = np.zeros(len(objective))
    for rho, potentials, weights, share in (
        (task.rho[0], at.f, task.a, 1 / n - 1 / all_n),
        (task.rho[1], at.g, task.b, 1 / m - 1 / all_m),
    ):
        a, influence = np.asarray(weights, np.float64), np.asarray(potentials, np.float64)
        if np.isfinite(rho):
            influence = -rho * np.expm1(-influence / rho)
        apart = influence - influence[best]
        mean = apart @ a / a.sum()
        variance += share * ((apart - mean[:, None]) ** 2 @ a) / a.sum()
    error = task.free_mass * np.sqrt(variance)
    return objective - objective[best] <= _SURE * error
