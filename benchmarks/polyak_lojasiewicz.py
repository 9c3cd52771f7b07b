"""Certificates beside the ratio they bound: `python benchmarks/polyak_lojasiewicz.py`.

Random networks of six layers with weights of scale 0.3 to 2.3, eight examples in the plane: is a
certificate ever above the ratio, and how far below it is it? Then how large a risk is proved to be
fitted (`convergence_ball`) for a few numbers of examples and particles.
"""

import argparse

import jax
import jax.random as jr
import numpy as np

from meanfield.training import (
    MeanFieldResNet,
    SingleHiddenLayer,
    SquaredError,
    convergence_ball,
    polyak_lojasiewicz,
)


def problem(n: int, seed: int):
    x_key, y_key = jr.split(jr.key(seed))
    return jr.normal(x_key, (n, 2)), jr.normal(y_key, (n, 2))


def random_ratios(count: int, width: int) -> np.ndarray:
    """A row (certified by outer weights, certified, ratio, certified from above) for each net."""
    rows = []
    for seed, scale in enumerate(np.geomspace(0.3, 2.3, count)):
        net = MeanFieldResNet.random(
            dim=2, depth=6, width=width, key=jr.key(seed), residual=SingleHiddenLayer(outer=1.0)
        )
        net = net.with_points(scale * net.params.points)
        found = polyak_lojasiewicz(net, SquaredError(), problem(8, 10_000 + seed))
        rows.append((found.certified_outer, found.certified, found.ratio, found.certified_above))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=500)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for width in (24, 8, 7):
        rows = random_ratios(options.nets, width)
        violations = int(np.sum(np.diff(rows[:, 1:], axis=1) < 0) + np.sum(rows[:, 0] > rows[:, 2]))
        shares = rows / rows[:, 2:3]
        print(
            f"M = {width}: {violations} violations in {options.nets} networks; share of the ratio:"
        )
        for name, column in zip(("outer", "whole", "", "above"), shares.T, strict=True):
            if name:
                low, middle, high = column.min(), np.median(column), column.max()
                print(f"  {name:6s} from {low:.3g} to {high:.3g}, median {middle:.3g}")
    for n, width in ((2, 64), (3, 64), (4, 64), (4, 512), (8, 512)):
        net = MeanFieldResNet.random(dim=2, depth=8, width=width, key=jr.key(0))
        x, _ = problem(n, 1)
        ball = convergence_ball(net, SquaredError(), (x, x + 1e-3))
        print(
            f"N = {n}, M = {width}: radius {ball.radius:.3g}, rate {ball.constant:.3g}, "
            f"a risk below {ball.risk_allowed:.2g} is proved to be fitted"
        )


if __name__ == "__main__":
    main()
