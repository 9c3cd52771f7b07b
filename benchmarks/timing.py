"""Timing side by side: the runs of all contestants take turns, so that a noisy machine is fair."""

import platform
import statistics
import time
from collections.abc import Callable

import jax


def interleaved(
    contestants: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one round that compiles and warms up."""
    for run in contestants.values():
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]], against: str) -> None:
    """Median and range of each, and the median of the ratios to one of them, round by round."""
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[against], strict=True)]
        low, mid, high = min(times), statistics.median(times), max(times)
        print(
            f"{name:<46} median {mid * 1e3:9.1f} ms  [{low * 1e3:.1f}, {high * 1e3:.1f}]"
            f"  x {statistics.median(ratios):.2f}"
        )


def machine() -> str:
    """What the figures were measured on."""
    return f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {platform.processor()}"


def matmul_peak(n: int = 2048) -> float:
    """float32 operations a second in a square matrix product, the best of five."""
    x = jax.random.normal(jax.random.key(0), (n, n))
    product = jax.jit(lambda x: x @ x)
    times = interleaved({"product": lambda: product(x)}, 5)["product"]
    return 2 * n**3 / min(times)
