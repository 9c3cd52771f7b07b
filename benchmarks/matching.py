"""Matching across spaces against POT and OTT, in one run: `python benchmarks/matching.py`.

Rotated clouds without symmetry, and SNARE-seq where MEANFIELD_DATA names its folder. Each
contestant solves Gromov-Wasserstein with inner products from the points on; ours includes all of
its starts. Runs alternate; the first, which compiles, is told apart. The loss is the mean squared
distortion of the coupling, and FOSCTTM is that of its barycentric map. Contestants that begin at
the product coupling of centred clouds stay there; the clouds are given to them as they are.
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


def rotated(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    x = (rng.gamma(1.5, size=(n, 5)) - 1.5) * np.linspace(2, 0.5, 5)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    return x.astype(np.float32), (x @ turn.T).astype(np.float32)


def snare() -> tuple[np.ndarray, np.ndarray] | None:
    folder = pathlib.Path(os.environ.get("MEANFIELD_DATA", "nowhere")) / "singlecell"
    if not folder.exists():
        return None
    x, y = (np.load(folder / f"SNAREseq_{kind}_feat.npy") for kind in ("atac", "rna"))
    x, y = (points / np.linalg.norm(points, axis=1, keepdims=True) for points in (x, y))
    return x.astype(np.float32), y.astype(np.float32)


def by_meanfield(x, y, epsilon):
    sol = mf.match(mf.Measure(x), mf.Measure(y), mf.GromovWasserstein(), throw=False)
    return np.asarray(sol.coupling.matrix)


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
    return np.asarray(solver(quadratic_problem.QuadraticProblem(*geometries)).matrix)


def judged(plan, x, y) -> tuple[float, float]:
    """The loss over its value at the product coupling, and FOSCTTM."""
    x, y = (points - points.mean(axis=0) for points in (x, y))
    constant = np.sum((x.T @ x / len(x)) ** 2) + np.sum((y.T @ y / len(y)) ** 2)
    loss = constant - 2 * np.sum((y.T @ plan.T @ x) ** 2)
    mapped = plan @ y / np.maximum(plan.sum(axis=1, keepdims=True), 1e-300)
    return loss / constant, float(mf.matching.foscttm(mapped, y))


def compare(name: str, x, y, rounds: int, contestants) -> None:
    moments = (np.linalg.eigvalsh(np.cov(z.T))[-1] for z in (x, y))
    epsilon = 0.05 * 4 * float(np.prod(list(moments)))
    seconds = {solve: [] for solve in contestants}
    for _ in range(rounds + 1):
        for solve in contestants:
            begin = time.perf_counter()
            plan = solve(x, y, epsilon)
            seconds[solve].append(time.perf_counter() - begin)
            if len(seconds[solve]) == 1:
                loss, closer = judged(plan, x, y)
                print(f"{name:14s} {solve.__name__:20s} loss {loss:7.4f}  FOSCTTM {closer:.3f}")
    for solve, times in seconds.items():
        print(
            f"{name:14s} {solve.__name__:20s} first {times[0]:7.2f} s  then {min(times[1:]):7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only-ours", action="store_true")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, POT {ot.__version__}, {os.cpu_count()} cores")
    contestants = [by_meanfield]
    if not options.only_ours:
        contestants += [by_pot, by_pot_with_entropy, by_ott]
    problems = {f"rotated {n}": rotated(n) for n in options.sizes}
    if (cells := snare()) is not None:
        problems["SNARE-seq"] = cells
    for name, (x, y) in problems.items():
        compare(name, x, y, options.rounds, contestants)


if __name__ == "__main__":
    main()
