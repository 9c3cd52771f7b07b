"""Entropic transport against its limit and OTT, in one run: `python benchmarks/sinkhorn.py`.

The limit of an iteration is what it cannot do without: a product of matrices n x d x m, made a
block of rows at a time, and n m exponentials, of numbers in cache. The classical iteration needs
each twice; ours once. Runs alternate, and ratios are taken round by round, so that a busy machine
slows all alike.
"""

import argparse
import functools
import os
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from timing import interleaved, machine, report

import meanfield as mf


BLOCK = 2**20


def problem(n: int, d: int, seed: int = 0) -> tuple[mf.Measure, mf.Measure]:
    """Two Gaussian clouds in float32, with random weights."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(2, n, d)).astype(np.float32)
    points[1] += 0.5
    weights = rng.dirichlet(np.ones(n), size=2).astype(np.float32)
    return mf.Measure(points[0], weights[0]), mf.Measure(points[1], weights[1])


@jax.jit
def products(x, y):
    """All inner products, a block of rows at a time; two of each block are used."""
    rows = max(BLOCK // len(y), 1)

    def step(total, block):
        block = block @ y.T
        return total + block[0, 0] + block[-1, -1], None

    return jax.lax.scan(step, jnp.zeros((), x.dtype), x.reshape(-1, rows, x.shape[1]))[0]


@functools.partial(jax.jit, static_argnums=1)
def exponentials(block, count):
    """`count` times the exponentials of a block that stays in cache."""

    def step(_, block):
        return jnp.exp(-block)

    return jax.lax.fori_loop(0, count, step, block)


def steps_of(n_steps: int, cooling: float, mu: mf.Measure, nu: mf.Measure):
    """A program that takes so many iterations, compiled."""
    solver = mf.Sinkhorn(0.05, tolerance=1e-30, max_steps=n_steps, cooling=cooling)
    solve = jax.jit(lambda mu, nu: mf.optimal_transport(mu, nu, solver=solver, throw=False).dual)
    return solve.lower(mu, nu).compile()


def peak_memory(run) -> int:
    """The bytes by which the process grows while `run()` runs, sampled."""
    page, peak, over = os.sysconf("SC_PAGE_SIZE"), [], threading.Event()

    def resident() -> int:
        with open("/proc/self/statm") as statm:
            return page * int(statm.read().split()[1])

    def watch():
        while not over.is_set():
            peak.append(resident())
            time.sleep(0.002)

    before = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    jax.block_until_ready(run())
    over.set()
    watcher.join()
    return max(peak) - before


def against_the_limit(n: int, d: int, rounds: int, cooling: float, steps: int = 4) -> None:
    """The time of an iteration over that of its product and exponentials, and its memory.

    Without cooling these are iterations at one temperature, after the first four; with cooling of
    0.5 the first ones, at falling temperatures, whose largest exponents must be found.
    Wall time and processor time, of all threads: the least of the rounds, which other work on the
    machine disturbs least.
    """
    mu, nu = problem(n, d)
    first = 1 if cooling else 4
    short, long = (steps_of(count, cooling, mu, nu) for count in (first, first + steps))
    temporary = long.memory_analysis().temp_size_in_bytes
    growth = peak_memory(lambda: long(mu, nu))
    block = jnp.ones((max(BLOCK // n, 1), n), jnp.float32)
    runs = (
        lambda: products(mu.points, nu.points),
        lambda: exponentials(block, n * n // block.size),
        lambda: short(mu, nu),
        lambda: long(mu, nu),
    )
    seconds = np.array([[measured(run) for run in runs] for _ in range(rounds + 1)])[1:]
    print(f"n = {n}, d = {d}, float32, steps {first + 1} to {first + steps}, cooling {cooling}")
    for name, (product, powers, one, more) in zip(
        ("wall", "processor"), seconds.min(0).T, strict=True
    ):
        iteration, limit = (more - one) / steps, product + powers
        print(
            f"  {name:<10} product {product:.3f} s, exponentials {powers:.3f} s, iteration "
            f"{iteration:.3f} s: x {iteration / limit:.2f} of one of each, "
            f"x {iteration / limit / 2:.2f} of two"
        )
    print(f"  temporaries {temporary / 1e6:.1f} MB; the process grew by {growth / 1e6:.1f} MB")


def measured(run) -> tuple[float, float]:
    """Wall and processor seconds of a run."""
    wall, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(run())
    return time.perf_counter() - wall, time.process_time() - processor


def by_ott(mu: mf.Measure, nu: mf.Measure, epsilon: float, tolerance: float):
    """OTT's dense solver on the same problem: the costs as a matrix, the same epsilon."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ott.geometry.pointcloud import PointCloud
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear.sinkhorn import Sinkhorn
    solver = Sinkhorn(threshold=tolerance, max_iterations=20_000)
    geometry = PointCloud(mu.points, nu.points, epsilon=epsilon)
    found = solver(LinearProblem(geometry, mu.weights, nu.weights))
    return found.reg_ot_cost, found.n_iters


def against_ott(n: int, d: int, relative: float, rounds: int, tolerance: float = 1e-3) -> None:
    """Whole solves to the same marginal error."""
    mu, nu = problem(n, d)
    solver = mf.Sinkhorn(relative, tolerance=tolerance)
    epsilon = float(solver.temperature(mu, nu, mf.PowerCost(2)))
    theirs = jax.jit(functools.partial(by_ott, epsilon=epsilon, tolerance=tolerance))

    def ours(mu, nu):
        sol = mf.optimal_transport(mu, nu, solver=solver)
        return sol.value, sol.steps

    (value, steps), (expected, their_steps) = ours(mu, nu), theirs(mu, nu)
    print(
        f"n = {n}, epsilon {relative} of the mean cost: {value:.5g} in {steps} steps, "
        f"OTT {expected:.5g} in {their_steps}"
    )
    contestants = {"Sinkhorn": lambda: ours(mu, nu), "OTT, dense": lambda: theirs(mu, nu)}
    report(interleaved(contestants, rounds), against="OTT, dense")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against-ott", type=int, nargs="*", default=[512, 2048, 4096])
    options = parser.parse_args()
    print(machine())
    for cooling in (0.0, 0.5):
        against_the_limit(options.size, options.dim, options.rounds, cooling)
    for n in options.against_ott:
        for relative in (0.05, 0.01):
            against_ott(n, options.dim, relative, options.rounds)


if __name__ == "__main__":
    main()
