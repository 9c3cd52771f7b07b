"""What each distance costs and how far it is from W_2: `python benchmarks/which_distance.py`.

Two clouds of n weighted atoms in R^d, Gaussian with different means and covariances, float32.
Contestants take turns in one run; the table shows medians, and the value against the exact W_2.
"""

import argparse
import importlib.metadata

import jax
import numpy as np
from timing import interleaved

import meanfield as mf
from meanfield import transport


def clouds(n: int, d: int, seed: int = 0) -> tuple[mf.Measure, mf.Measure]:
    rng = np.random.default_rng(seed)
    scales = np.geomspace(0.3, 2.0, d)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(n, d)) * scales + 0.5
    return tuple(
        mf.Measure(z.astype(np.float32), rng.dirichlet(np.full(n, 5.0)).astype(np.float32))
        for z in (x, y)
    )


def contestants(mu: mf.Measure, nu: mf.Measure, key) -> dict:
    """For each distance, how to get it in the units of W_2."""

    def sinkhorn(epsilon):
        solver = mf.Sinkhorn(epsilon, tolerance=1e-3, max_steps=20_000)
        return lambda: mf.wasserstein(mu, nu, solver=solver)

    def debiased():
        solver = mf.Sinkhorn(0.05, tolerance=1e-3)
        return transport.sinkhorn_divergence(mu, nu, solver=solver) ** 0.5

    return {
        "exact W_2": lambda: mf.wasserstein(mu, nu),
        "W_1": lambda: mf.wasserstein(mu, nu, 1),
        "W_inf": lambda: mf.wasserstein(mu, nu, np.inf),
        "Sinkhorn, epsilon 0.05": sinkhorn(0.05),
        "Sinkhorn, epsilon 0.005": sinkhorn(0.005),
        "Sinkhorn divergence, 0.05": debiased,
        "sliced, 256 directions": lambda: (
            mu.dim**0.5 * transport.sliced_wasserstein(mu, nu, transport.Sliced(256), key=key).value
        ),
        "Gaussian": lambda: transport.gaussian_wasserstein(mu, nu),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    mu, nu = clouds(options.size, options.dim)
    runs = contestants(mu, nu, jax.random.key(0))
    seconds = interleaved(runs, options.rounds)
    exact, base = float(runs["exact W_2"]()), np.median(seconds["exact W_2"])
    versions = {name: importlib.metadata.version(name) for name in ("jax", "pot", "ott-jax")}
    print(f"n={options.size} d={options.dim} {versions}; W_2 = {exact:.4f}")
    print("| distance | value / W_2 | time / exact | median |\n|---|---|---|---|")
    for name, times in seconds.items():
        value, median = float(runs[name]()), np.median(times)
        print(f"| {name} | {value / exact:.3f} | {median / base:.2f} | {1e3 * median:.0f} ms |")


if __name__ == "__main__":
    main()
