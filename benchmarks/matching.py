"""Matching across spaces against POT and OTT, in one run: `python benchmarks/matching.py`.

Rotated clouds without symmetry, as they are and with noise in another order, and SNARE-seq where
MEANFIELD_DATA names its folder. Each contestant solves Gromov-Wasserstein with inner products from
the points on. Two have no entropy (ExactAlternation and POT's conditional gradient) and are to be
compared by their loss; the others have one temperature, a twentieth of the critical one, and are to
be compared by their objective. Ours includes all of its starts; `within` stops at the first optimum
that is certified to be within two per cent of the range of the objective. Runs alternate; the
first, which compiles, is told apart, and stays the only one where it is long. All are judged by the
same numbers, in float64, about the means: the mean squared distortion of the coupling (loss) and
the same with the entropy (objective), as shares of the distortion of the product coupling, and
FOSCTTM of the barycentric map. Marginals that are not met are first rounded by moving mass.
Contestants that begin at the product coupling of centred clouds stay there; the clouds are given to
them as they are. A contestant that would take too long by its time at the size before, with cubic
growth, is left out.

`--memory` tells instead how much the largest memory of a process grows in which one contestant runs
alone, after it has solved a problem of 64 atoms.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ot

import meanfield as mf


SHARE, NOISE = 0.05, 0.3
ONCE = 20.0  # seconds: a first run that is longer is not repeated


def rotated(n: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two clouds, and the row of the second that belongs to each of the first."""
    rng = np.random.default_rng(n)
    x = (rng.gamma(1.5, size=(n, 5)) - 1.5) * np.linspace(2, 0.5, 5)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    order = rng.permutation(n) if noise else np.arange(n)
    y = (x @ turn.T)[order] + noise * rng.normal(size=x.shape)
    return x.astype(np.float32), y.astype(np.float32), np.argsort(order)


def snare() -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    folder = pathlib.Path(os.environ.get("MEANFIELD_DATA", "../shared/data")) / "singlecell"
    if not folder.exists():
        return None
    x, y = (np.load(folder / f"SNAREseq_{kind}_feat.npy") for kind in ("atac", "rna"))
    x, y = (points / np.linalg.norm(points, axis=1, keepdims=True) for points in (x, y))
    labels = np.loadtxt(folder / "SNAREseq_atac_types.txt")
    return x.astype(np.float32), y.astype(np.float32), labels


def by_meanfield(x, y, epsilon):
    sol = mf.match(mf.Measure(x), mf.Measure(y), mf.GromovWasserstein(), throw=False)
    return sol.coupling


def by_meanfield_exactly(x, y, epsilon, tolerance: float = 1e-9):
    solver = mf.matching.ExactAlternation(tolerance=tolerance)
    problem = mf.GromovWasserstein()
    sol = mf.match(mf.Measure(x), mf.Measure(y), problem, solver, throw=False)
    gap = sol.optimality_gap / max(float(sol.task.constant), 1e-300)
    return sol.coupling, f"gap at most {gap:.5f}"


def by_meanfield_within(x, y, epsilon):
    return by_meanfield_exactly(x, y, epsilon, 0.02)


def by_pot(x, y, epsilon):
    a, b = ot.unif(len(x)), ot.unif(len(y))
    grams = (x @ x.T).astype(float), (y @ y.T).astype(float)
    return ot.gromov.gromov_wasserstein(*grams, a, b, "square_loss")


def by_pot_with_entropy(x, y, epsilon):
    a, b = ot.unif(len(x)), ot.unif(len(y))
    grams = (x @ x.T).astype(float), (y @ y.T).astype(float)
    return ot.gromov.entropic_gromov_wasserstein(
        *grams, a, b, "square_loss", epsilon=epsilon, max_iter=200
    )


def by_ott(x, y, epsilon):
    from ott.geometry import geometry
    from ott.problems.quadratic import quadratic_problem
    from ott.solvers.linear import sinkhorn
    from ott.solvers.quadratic import gromov_wasserstein

    first, second = (geometry.Geometry(cost_matrix=jnp.asarray(z @ z.T)) for z in (x, y))
    solver = gromov_wasserstein.GromovWasserstein(sinkhorn.Sinkhorn(), epsilon=epsilon / 2)
    return solver(quadratic_problem.QuadraticProblem(first, second)).matrix


def _name(solve) -> str:
    return solve.__name__.removeprefix("by_")


def rounded(plan: Any) -> tuple[np.ndarray, float]:
    """A coupling with the marginals met, by a little mass that is moved, and how much it was.

    Without it a contestant whose marginals are off is judged by another problem.
    """
    a, b = ot.unif(len(plan)), ot.unif(len(plan.T))
    error = abs(plan.sum(axis=1) - a).sum() + abs(plan.sum(axis=0) - b).sum()
    plan = plan * np.minimum(1, a / np.maximum(plan.sum(axis=1), 1e-300))[:, None]
    plan = plan * np.minimum(1, b / np.maximum(plan.sum(axis=0), 1e-300))
    left, right = a - plan.sum(axis=1), b - plan.sum(axis=0)
    return plan + np.outer(left, right) / max(left.sum(), 1e-300), error


def judged(plan: Any, x, y, partner, epsilon) -> str:
    note = ""
    if isinstance(plan, tuple):
        plan, note = plan
    plan = np.asarray(getattr(plan, "matrix", plan), np.float64)
    plan, error = rounded(plan)
    x, y = (points.astype(float) - points.mean(axis=0) for points in (x, y))
    constant = np.sum((x.T @ x / len(x)) ** 2) + np.sum((y.T @ y / len(y)) ** 2)
    loss = constant - 2 * np.sum((y.T @ plan.T @ x) ** 2)
    entropy = np.sum(plan * np.log(np.maximum(plan, 1e-300) * plan.size))
    mapped = plan @ y / np.maximum(plan.sum(axis=1, keepdims=True), 1e-300)
    closer = float(mf.matching.foscttm(mapped, y[partner]))
    objective = (loss + epsilon * entropy) / constant
    return (
        f"loss {loss / constant:8.5f}  objective {objective:8.5f}  FOSCTTM {closer:.3f}  "
        f"moved {error:.0e}  {note}"
    )


def timed(solve, *problem) -> tuple[Any, float, float]:
    wall, busy = time.perf_counter(), time.process_time()
    plan = solve(*problem)
    plan = plan if isinstance(plan, tuple) else jax.block_until_ready(plan)
    return plan, time.perf_counter() - wall, time.process_time() - busy


def temperature(x, y) -> float:
    return SHARE * 4 * float(np.prod([np.linalg.eigvalsh(np.cov(z.T))[-1] for z in (x, y)]))


def compare(name: str, x, y, partner, rounds: int, contestants) -> dict:
    epsilon = temperature(x, y)
    seconds = {solve: [] for solve in contestants}
    for k in range(rounds + 1):
        for solve in contestants:
            if k and seconds[solve][0][0] > ONCE:
                continue
            plan, *taken = timed(solve, x, y, epsilon)
            seconds[solve].append(taken)
            if not k:
                told = judged(plan, x, y, partner, epsilon)
                print(f"{name:18s} {_name(solve):20s} {told}", flush=True)
    best = {solve: np.min(times[1:] or times, axis=0) for solve, times in seconds.items()}
    for solve, (wall, busy) in best.items():
        first = seconds[solve][0]
        print(
            f"{name:18s} {_name(solve):20s} first {first[0]:7.2f} s ({first[1]:.2f} of processor)"
            f"  then {wall:8.4f} s ({busy:.4f})",
            flush=True,
        )
    return {solve: wall for solve, (wall, _) in best.items()}


def grown(solve, n: int, noise: float) -> float:
    """By how many megabytes the largest memory of this process grows."""
    x, y, _ = rotated(64)
    timed(solve, x, y, temperature(x, y))
    x, y, _ = rotated(n, noise)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    timed(solve, x, y, temperature(x, y))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memories(sizes: list[int], contestants, longest: float) -> None:
    for n in sizes:
        for noise in (0.0, NOISE):
            for solve in contestants:
                alone = ["--alone", _name(solve), "--sizes", str(n), "--noise", str(noise)]
                command = [sys.executable, "-W", "ignore", __file__, *alone]
                try:
                    found = subprocess.run(
                        command, capture_output=True, text=True, timeout=longest, check=True
                    ).stdout.split()[-1]
                except subprocess.TimeoutExpired:
                    found = "too long"
                print(f"rotated {n}, noise {noise}  {_name(solve):20s} {found} MB", flush=True)


def single_cells(x, y, labels, rounds: int) -> None:
    """Quality without supervision, and the time of all starts, both ways."""
    half = np.random.default_rng(0).permutation(len(x))[:500]
    everything = slice(None)
    ways = {"chromatin to expression": (x, y), "expression to chromatin": (y, x)}
    for name, (u, v) in ways.items():
        for kind, regularizer, rows in (
            ("plain", mf.matching.Ridge(), everything),
            ("l1", mf.L1(0.1), everything),
            ("500 cells", mf.matching.Ridge(), half),
        ):
            problem = mf.CostRegularized(regularizer)
            measures = mf.Measure(u[rows]), mf.Measure(v[rows])
            runs = [timed(mf.match, *measures, problem) for _ in range(rounds + 1)]
            sol = runs[0][0]
            mapped = np.asarray(sol.map(u))
            wall, busy = np.min([run[1:] for run in runs[1:]], axis=0)
            print(
                f"SNARE-seq, {name}, {kind:9s} "
                f"FOSCTTM {float(mf.matching.foscttm(mapped, v)):.4f}  label transfer "
                f"{float(mf.matching.label_transfer_accuracy(mapped, labels, v, labels)):.4f}  "
                f"zeros {np.mean(np.asarray(sol.transform) == 0):.3f}  gap {sol.starts.gap:.4f}  "
                f"first {runs[0][1]:.2f} s ({runs[0][2]:.2f} of processor)  "
                f"then {wall:.3f} s ({busy:.3f})",
                flush=True,
            )


CONTESTANTS = {
    _name(solve): solve
    for solve in (
        by_meanfield_exactly,
        by_meanfield_within,
        by_meanfield,
        by_pot,
        by_pot_with_entropy,
        by_ott,
    )
}
CLOUDS = ["cells", "rotated", "noisy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--longest", type=float, default=120.0, help="seconds of one run")
    parser.add_argument(
        "--contestants", nargs="+", choices=list(CONTESTANTS), default=[*CONTESTANTS]
    )
    parser.add_argument("--clouds", choices=CLOUDS, nargs="+", default=CLOUDS)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", help="the contestant whose memory is told, in this process")
    parser.add_argument("--noise", type=float, default=0.0, help="with --alone")
    options = parser.parse_args()
    contestants = [CONTESTANTS[name] for name in options.contestants]
    if options.alone:
        print(f"{grown(CONTESTANTS[options.alone], options.sizes[0], options.noise):.0f}")
        return
    print(f"jax {jax.__version__}, POT {ot.__version__}, {os.cpu_count()} cores")
    if options.memory:
        memories(options.sizes, contestants, options.longest)
        return
    cells = snare() if "cells" in options.clouds else None
    if cells is not None:
        single_cells(*cells, options.rounds)
        everyone = np.arange(len(cells[0]))
        compare("SNARE-seq", *cells[:2], everyone, options.rounds, contestants)
    for kind, noise in (("rotated", 0.0), ("noisy", NOISE)):
        taken, before, left = {}, None, contestants
        if kind not in options.clouds:
            continue
        for n in options.sizes:
            if before is not None:
                left = [o for o in left if taken[o] * (n / before) ** 3 <= options.longest]
            name = f"rotated {n}" + (f", noise {noise}" if noise else "")
            taken = compare(name, *rotated(n, noise), options.rounds, left)
            before = n


if __name__ == "__main__":
    main()
