"""Matching across spaces against POT and OTT, in one run: `python benchmarks/matching.py`.

Rotated clouds without symmetry, and SNARE-seq where MEANFIELD_DATA names its folder. Each
contestant solves Gromov-Wasserstein with inner products from the points on, at one temperature (a
twentieth of the critical one) where it has one; ours includes all of its starts. Runs alternate;
the first, which compiles, is told apart. All are judged by the same numbers, in float64, about the
means: the mean squared distortion of the coupling (loss) and the same with the entropy (objective),
as shares of the distortion of the product coupling, and FOSCTTM of the barycentric map. Marginals
that are not met are first rounded by moving mass. Contestants that begin at the product coupling of
centred clouds stay there; the clouds are given to them as they are. A contestant that would take
too long by its time at the size before, with cubic growth, is left out.
"""

import argparse
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import ot

import meanfield as mf


SHARE = 0.05


def rotated(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    x = (rng.gamma(1.5, size=(n, 5)) - 1.5) * np.linspace(2, 0.5, 5)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    return x.astype(np.float32), (x @ turn.T).astype(np.float32)


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

    geometries = (geometry.Geometry(cost_matrix=jnp.asarray(z @ z.T)) for z in (x, y))
    solver = gromov_wasserstein.GromovWasserstein(sinkhorn.Sinkhorn(), epsilon=epsilon / 2)
    return solver(quadratic_problem.QuadraticProblem(*geometries)).matrix


def rounded(plan) -> tuple[np.ndarray, float]:
    """A coupling with the marginals met, by a little mass that is moved, and how much it was.

    Without it a contestant whose marginals are off is judged by another problem.
    """
    a, b = ot.unif(len(plan)), ot.unif(len(plan.T))
    error = abs(plan.sum(axis=1) - a).sum() + abs(plan.sum(axis=0) - b).sum()
    plan = plan * np.minimum(1, a / np.maximum(plan.sum(axis=1), 1e-300))[:, None]
    plan = plan * np.minimum(1, b / np.maximum(plan.sum(axis=0), 1e-300))
    left, right = a - plan.sum(axis=1), b - plan.sum(axis=0)
    return plan + np.outer(left, right) / max(left.sum(), 1e-300), error


def judged(coupling, x, y, epsilon) -> str:
    plan = np.asarray(getattr(coupling, "matrix", coupling), np.float64)
    plan, error = rounded(plan)
    x, y = (points.astype(float) - points.mean(axis=0) for points in (x, y))
    constant = np.sum((x.T @ x / len(x)) ** 2) + np.sum((y.T @ y / len(y)) ** 2)
    loss = constant - 2 * np.sum((y.T @ plan.T @ x) ** 2)
    entropy = np.sum(plan * np.log(np.maximum(plan, 1e-300) * plan.size))
    mapped = plan @ y / np.maximum(plan.sum(axis=1, keepdims=True), 1e-300)
    closer = float(mf.matching.foscttm(mapped, y))
    objective = (loss + epsilon * entropy) / constant
    return (
        f"loss {loss / constant:8.5f}  objective {objective:8.5f}  FOSCTTM {closer:.3f}  "
        f"moved {error:.0e}"
    )


def timed(solve, *problem) -> tuple[object, float, float]:
    wall, busy = time.perf_counter(), time.process_time()
    plan = jax.block_until_ready(solve(*problem))
    return plan, time.perf_counter() - wall, time.process_time() - busy


def compare(name: str, x, y, rounds: int, contestants) -> dict:
    moments = (np.linalg.eigvalsh(np.cov(z.T))[-1] for z in (x, y))
    epsilon = SHARE * 4 * float(np.prod(list(moments)))
    seconds = {solve: [] for solve in contestants}
    for _ in range(rounds + 1):
        for solve in contestants:
            plan, *taken = timed(solve, x, y, epsilon)
            seconds[solve].append(taken)
            if len(seconds[solve]) == 1:
                print(f"{name:13s} {solve.__name__:20s} {judged(plan, x, y, epsilon)}", flush=True)
    best = {solve: np.min(times[1:], axis=0) for solve, times in seconds.items()}
    for solve, (wall, busy) in best.items():
        first = seconds[solve][0]
        print(
            f"{name:13s} {solve.__name__:20s} first {first[0]:7.2f} s ({first[1]:.2f} of processor)"
            f"  then {wall:7.3f} s ({busy:.3f})",
            flush=True,
        )
    return {solve: wall for solve, (wall, _) in best.items()}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--longest", type=float, default=120.0, help="seconds of one run")
    parser.add_argument("--only-ours", action="store_true")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, POT {ot.__version__}, {os.cpu_count()} cores")
    others = [] if options.only_ours else [by_pot, by_pot_with_entropy, by_ott]
    cells = snare()
    if cells is not None:
        single_cells(*cells, options.rounds)
        compare("SNARE-seq", *cells[:2], options.rounds, [by_meanfield, *others])
    taken, before = {}, None
    for n in options.sizes:
        if before is not None:
            others = [o for o in others if taken[o] * (n / before) ** 3 <= options.longest]
        contestants = [by_meanfield, *others]
        taken, before = compare(f"rotated {n}", *rotated(n), options.rounds, contestants), n


if __name__ == "__main__":
    main()
