"""Exact transport against POT's own call, in one run: `python benchmarks/transport.py`.

Both solve W_2^2 between n weighted atoms in R^64 from the points on, cost matrix included. Runs
alternate, so that a busy machine slows both alike; medians and their ratio are printed.
"""

import argparse
import importlib.metadata
import statistics
import time

import jax
import numpy as np
import ot

import meanfield as mf


def problem(n: int, d: int, seed: int):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, d))
    return x, rng.dirichlet(np.ones(n)), y, rng.dirichlet(np.ones(n))


def by_pot(x, a, y, b) -> float:
    return float(ot.emd2(a, b, ot.dist(x, y), numItermax=10_000_000))


def by_meanfield(x, a, y, b) -> float:
    return float(mf.optimal_transport(mf.Measure(x, a), mf.Measure(y, b)).value)


def by_meanfield_with_gradient(x, a, y, b) -> float:
    value, slopes = jax.value_and_grad(mf.wasserstein)(mf.Measure(x, a), mf.Measure(y, b))
    jax.block_until_ready(slopes)
    return float(value) ** 2


def seconds(solve, arrays) -> tuple[float, float]:
    start = time.perf_counter()
    value = solve(*arrays)
    return time.perf_counter() - start, value


def compare(n: int, d: int, repeats: int) -> None:
    solvers = (by_pot, by_meanfield, by_meanfield_with_gradient)
    times = {solve: [] for solve in solvers}
    for seed in range(repeats + 1):  # the first round compiles and is not counted
        arrays = problem(n, d, seed)
        values = []
        for solve in solvers:
            taken, value = seconds(solve, arrays)
            times[solve].append(taken)
            values.append(value)
        np.testing.assert_allclose(values, values[0], rtol=1e-10)
    pot = statistics.median(times[by_pot][1:])
    for solve in solvers:
        median = statistics.median(times[solve][1:])
        print(f"n={n} d={d} {solve.__name__:28s} median {median:8.4f} s  ratio {median / pot:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "pot", "numpy")}
    print(versions, f"repeats={options.repeats}")
    for n in options.sizes:
        compare(n, options.dim, options.repeats)


if __name__ == "__main__":
    main()
