"""The proved bounds of a layer and of its heads: work of the host, done while programs compile."""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from meanfield.lipschitz import lipschitz_bound
from meanfield.measure import Ball

from .bench import Bench
from .constants import finite
from .record import Bounds, GlobalBound, Warn


@dataclass(frozen=True)
class RowBounds:
    """The bounds of a row: None where they are not asked for, or for all heads at once."""

    layer: Bounds | None
    heads: tuple[Bounds | None, ...]
    warnings: tuple[Warn, ...]


@contextmanager
def bounds_aside(bench: Bench) -> Generator[Future[RowBounds]]:
    """The bounds of a row from a thread of their own: they compile nothing, and XLA compiles and
    runs without Python's lock. Their warnings come apart, so that the order of a row's warnings
    does not depend on who was first."""
    own = replace(bench, warnings=[])
    own.__dict__.update(heads=bench.heads, radius=bench.radius)  # what both read, found once
    with ThreadPoolExecutor(max_workers=1) as aside:
        yield aside.submit(_row_bounds, own)


def _row_bounds(bench: Bench) -> RowBounds:
    metrics = bench.task.settings.metrics
    if "bounds" not in metrics:
        return RowBounds(None, (None,) * len(bench.heads), ())
    with jax.enable_x64(bench.task.settings.dtype == "f64"):  # the scope of a thread is its own
        layer = global_bounds(bench, bench.attention)
        each = [global_bounds(bench, f) if "heads" in metrics else None for f in bench.heads]
    return RowBounds(layer, tuple(each), tuple(bench.warnings))


def global_bounds(bench: Bench, f: Any) -> Bounds:
    """The proved bounds of a layer or a head on the ball of the observed radius."""
    ball, n = Ball(bench.radius), len(bench.task.window.tokens)
    return Bounds(
        radius=float(ball.radius),
        tokens=_bound(bench, f, ball, p=2.0, n=n),
        mean_field=_bound(bench, f, ball, p=2.0, n=None),
        uniform=_bound(bench, f, ball, p=float("inf"), n=None),
    )


def _bound(bench: Bench, f: Any, ball: Ball, *, p: float, n: int | None) -> GlobalBound:
    def measure():
        bound = lipschitz_bound(f, ball, p=p, n=n)
        return GlobalBound(finite(bound.log_value / np.log(10)), bound.theorem)

    return bench.attempt("bound", measure, GlobalBound(None, None))
