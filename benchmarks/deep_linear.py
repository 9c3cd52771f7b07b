"""Sharpness of deep linear networks, and where their longest stable step lies.

`python benchmarks/deep_linear.py [--figure FILE]` prints three tables, for d = 5 and n = 50
Gaussian inputs and a least-squares solution of norm one: the bounds beside the dense Hessian and
the sharpest of random minimisers; where the gradient flow from small weights ends; and the steps
with which gradient descent on residual networks still finds a minimiser.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np


jax.config.update("jax_enable_x64", True)

import meanfield as mf  # noqa: E402
from meanfield.training import (  # noqa: E402
    balanced_minimizer,
    imbalance_of,
    minimizer_sharpness,
    sharpness_bounds,
    sweep_steps,
)


def problem(seed: int = 0, n: int = 50, d: int = 5):
    """Gaussian inputs, and noisy targets whose least-squares solution has norm one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = x @ rng.normal(size=d) + rng.normal(size=n)
    return x, y / np.linalg.norm(np.linalg.lstsq(x, y)[0])


@jax.jit
def risk(weights, x, y):
    out = x
    for matrix in weights:
        out = out @ matrix.T
    return jnp.mean((y - out[:, 0]) ** 2)


def dense_sharpness(weights, x, y) -> float:
    flat, unravel = jax.flatten_util.ravel_pytree(tuple(map(jnp.asarray, weights)))
    hessian = jax.jit(jax.hessian(lambda flat: risk(unravel(flat), x, y)))(flat)
    return float(np.linalg.eigvalsh(hessian)[-1])


def random_minimizers(x, y, depth: int, count: int, rng):
    """Random matrices, the first one moved so that the network computes least squares."""
    w, d = np.linalg.lstsq(x, y)[0], x.shape[1]
    for _ in range(count):
        *rest, last = [rng.normal(size=(d, d)) / np.sqrt(d) for _ in range(depth)]
        last = last[:1]
        row = functools.reduce(lambda after, matrix: after @ matrix, [last, *rest[:0:-1]])[0]
        first = rest[0] + np.outer(row, w - row @ rest[0]) / (row @ row)
        yield (first, *rest[1:], last)


def bounds_table(depths=(2, 3, 6, 10, 20)) -> None:
    (x, y), rng = problem(), np.random.default_rng(1)
    print("sharpness of minimisers")
    print("depth     lower  balanced  dense Hessian   Lanczos  flattest and sharpest of 320 random")
    for depth in depths:
        bounds, weights = sharpness_bounds(x, y, depth), balanced_minimizer(x, y, depth)
        dense = f"{dense_sharpness(weights, x, y):.4f}" if depth <= 10 else "-"
        found = mf.spectrum.sharpness(
            lambda weights: risk(weights, x, y), weights_of(weights), key=jax.random.key(0)
        )
        others = [minimizer_sharpness(W, x) for W in random_minimizers(x, y, depth, 320, rng)]
        assert min(others) >= bounds.lower
        print(
            f"{depth:5d} {bounds.lower:9.4f} {bounds.balanced:9.4f} {dense:>14} {found.value:9.4f}"
            f"  {min(others):.3g}, {max(others):.3g}"
        )


def weights_of(matrices):
    return tuple(jnp.asarray(matrix) for matrix in matrices)


def flow_table(depths=(3, 5, 10), scale: float = 0.25, rate: float = 0.005, steps=40_000) -> None:
    """Gradient descent with short steps, from Gaussian matrices of the scale given."""
    x, y = problem()
    d = x.shape[1]
    print(f"\nwhere small weights (scale {scale}) come to in {steps} steps of {rate}")
    print("depth    risk above    sharpness / lower   upper bound / lower   imbalance, before")

    @functools.partial(jax.jit, static_argnums=1)
    def descended(weights, steps):
        def step(_, weights):
            return jax.tree.map(lambda W, g: W - rate * g, weights, jax.grad(risk)(weights, x, y))

        return jax.lax.fori_loop(0, steps, step, weights)

    for depth in depths:
        rng = np.random.default_rng(depth)
        shapes = [(d, d)] * (depth - 1) + [(1, d)]
        start = weights_of(scale * rng.normal(size=shape) for shape in shapes)
        end = descended(start, steps)
        above = float(risk(end, x, y)) - np.mean((y - x @ np.linalg.lstsq(x, y)[0]) ** 2)
        bounds = sharpness_bounds(x, y, depth, imbalance=imbalance_of(start))
        found = minimizer_sharpness(end, x)
        print(
            f"{depth:5d} {above:13.1e} {found / bounds.lower:20.3f} "
            f"{bounds.upper / bounds.lower:21.3g}"
            f"   {imbalance_of(end):.4f}, {imbalance_of(start):.4f}"
        )


def threshold_table(depths=(5, 10, 20, 40), steps=(1000, 20_000)) -> list:
    x, y = problem()
    shares = np.r_[0.5, 0.8, 0.9, np.arange(0.94, 1.065, 0.01), 1.1]
    print("\nsquared distance from least squares, by the step as a share of 2 / lower")
    shown = [0.5, 0.8, 0.9, 0.95, 1.05]
    print(
        "depth  steps" + "".join(f"{share:>10}" for share in shown) + "   threshold   2 / balanced"
    )
    for count in steps:
        sweeps = [
            sweep_steps(x, y, depth, shares, key=jax.random.key(depth), steps=count)
            for depth in depths
        ]
        for sweep in sweeps:
            at = [sweep.distances[np.argmin(np.abs(shares - share))] for share in shown]
            print(
                f"{sweep.depth:5d} {count:6d}"
                + "".join(f"{distance:10.1e}" for distance in at)
                + f"   {sweep.threshold(1e-6):9.3f}   {sweep.balanced_share:12.4f}"
            )
    return sweeps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", help="where to save the figure of the threshold")
    options = parser.parse_args()
    bounds_table()
    flow_table()
    sweeps = threshold_table()
    if options.figure:
        import matplotlib

        matplotlib.use("Agg")
        mf.plot.step_threshold(sweeps).figure.savefig(options.figure, dpi=120)


if __name__ == "__main__":
    main()
