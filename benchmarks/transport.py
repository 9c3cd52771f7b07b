"""Exact transport against POT's own call, in one run: `python benchmarks/transport.py`.

Both solve W_2^2 between n atoms in R^64 from the points on, cost matrix included, with random
weights. Runs alternate in changing order, so that a busy machine slows all alike; medians of the
ratios of one round are printed, of wall time and of processor time. W_inf has no contestant: the
same table says what it takes beside W_2, for random and for equal weights.
"""

import argparse
import importlib.metadata
import random
import statistics
import time

import jax
import jax.numpy as jnp
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


def bottleneck(x, a, y, b) -> None:
    float(mf.wasserstein(mf.Measure(x, a), mf.Measure(y, b), p=jnp.inf))


def bottleneck_of_equal_weights(x, a, y, b) -> None:
    float(mf.wasserstein(mf.Measure(x), mf.Measure(y), p=jnp.inf))


SOLVERS = (by_meanfield, by_meanfield_with_gradient, bottleneck, bottleneck_of_equal_weights)


def measured(solve, arrays) -> tuple[float, float, float | None]:
    wall, processor = time.perf_counter(), time.process_time()
    value = solve(*arrays)
    return time.perf_counter() - wall, time.process_time() - processor, value


def one_round(arrays) -> dict:
    """Wall and processor seconds of each, in random order; the values of W_2 agree."""
    order = [by_pot, *SOLVERS]
    random.shuffle(order)
    found = {solve: measured(solve, arrays) for solve in order}
    values = [value for *_, value in found.values() if value is not None]
    np.testing.assert_allclose(values, values[0], rtol=1e-10)
    return found


def compare(n: int, d: int, repeats: int) -> None:
    # the first two rounds compile and warm up, and are not counted
    rounds = [one_round(problem(n, d, seed)) for seed in range(repeats + 2)][2:]
    for solve in (by_pot, *SOLVERS):
        wall, processor = (
            statistics.median(found[solve][k] / found[by_pot][k] for found in rounds)
            for k in (0, 1)
        )
        seconds = statistics.median(found[solve][0] for found in rounds)
        print(
            f"n={n} d={d} {solve.__name__:28s} median {seconds:8.4f} s  "
            f"x {wall:5.2f} wall  x {processor:5.2f} processor"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "pot", "numpy")}
    print(versions, f"repeats={options.repeats}")
    for n in options.sizes:
        compare(n, options.dim, options.repeats)


if __name__ == "__main__":
    main()
