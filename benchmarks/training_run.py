"""One training run in numbers: slope, ratio, certificate, distance, path, and other step sizes.

Eight points of the plane are moved to eight others by L = 16 layers of M = 64 neurons that start as
the identity (float64). First Euler with a short step, then the same time with longer ones, then
minimising movements, whose dissipation is checked with the exact distance of every step. Run it
from the root of the repository: `python benchmarks/training_run.py`.
"""

import warnings

import jax
import jax.random as jr
import numpy as np

import meanfield as mf
from meanfield.training import Euler, MeanFieldResNet, Proximal, Record, SquaredError


jax.config.update("jax_enable_x64", True)
NUMBERS_ONLY = Record(certificate=False, distance=False)


def main() -> None:
    net_key, x_key, y_key = jr.split(jr.key(3), 3)
    net = MeanFieldResNet.random(dim=2, depth=16, width=64, key=net_key)
    x = jr.normal(x_key, (8, 2))
    data = (x, x + 0.5 * jr.normal(y_key, (8, 2)))
    warnings.simplefilter("ignore")  # paths that are too long are what is looked for
    short = mf.gradient_flow(net, SquaredError(), data, Euler(0.05), 8000, record_every=800)
    print_table(short)
    for tau in (0.05, 0.2, 0.5, 1.0, 2.0, 4.0):
        run = mf.gradient_flow(
            net, SquaredError(), data, Euler(tau), round(400 / tau), record=NUMBERS_ONLY
        )
        path, bound = run.path_length[-1], run.path_bound[-1]
        print(f"Euler({tau:g}): risk {run.risk[-1]:.1e}, path {path:.2f}, a flow's <= {bound:.2f}")
    for tau, steps in ((0.1, 20), (1.0, 20), (10.0, 20), (100.0, 4)):
        print_dissipation(net, data, tau, steps)


def print_table(run: mf.training.Training) -> None:
    print("    t     risk  slope^2    ratio  certified  distance   index    path   bound    rate")
    rates = np.append(run.rate, np.nan)
    for r in range(len(run.steps)):
        print(
            f"{run.times[r]:5.0f} {run.risk[r]:8.2e} {run.slope[r] ** 2:8.2e} "
            f"{run.polyak_lojasiewicz[r]:8.5f} {run.certified[r]:10.5f} {run.distance[r]:9.3f} "
            f"{run.index_distance[r]:7.3f} {run.path_length[r]:7.3f} {run.path_bound[r]:7.3f} "
            f"{rates[r]:7.5f}"
        )
    print(run.ball())


def print_dissipation(net: MeanFieldResNet, data, tau: float, steps: int) -> None:
    """The least of (risk lost) / (d^2 / (2 tau)) over steps, d by an optimal assignment."""
    record = Record(certificate=False, distance=False, particles=True)
    run = mf.gradient_flow(
        net, SquaredError(), data, Proximal(tau), steps, record_every=1, record=record
    )
    assert run.particles is not None
    measures = [net.params.with_points(points) for points in run.particles]
    moves = np.array(
        [mf.conditional_wasserstein(*pair) for pair in zip(measures, measures[1:], strict=False)]
    )
    least = np.min(-np.diff(run.risk) / (moves**2 / (2 * tau)))
    print(
        f"Proximal({tau:g}): {steps} steps, risk {run.risk[-1]:.1e}, {run.evaluations[-1]} "
        f"evaluations, least dissipation {least:.3f} (at least 1 is proved)"
    )


if __name__ == "__main__":
    main()
