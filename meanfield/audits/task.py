"""One row of an audit: an independent, picklable task with an idempotent result."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from .bench import AuditTask as AuditTask, Bench, set_up
from .document import plain
from .heads import head_rows
from .record import Head, Row
from .sensitivity import global_bounds, growth_curve, local_constant, worst_tokens


def run_task(task: AuditTask) -> dict:
    """The row of a task as JSON values: the same task gives the same row, whoever runs it."""
    with jax.enable_x64(task.settings.dtype == "f64"):
        bench = set_up(task)
        # compiling is most of a short audit: heads and layer are compiled side by side
        with ThreadPoolExecutor(1) as thread:
            beside = bench.beside()
            heads = thread.submit(_in_precision, beside, head_rows)
            return plain(_row(bench, lambda: (heads.result(), beside)))


def _in_precision(bench: Bench, measure: Callable[[Bench], tuple[Head, ...]]) -> tuple[Head, ...]:
    # the precision of JAX belongs to a thread
    with jax.enable_x64(bench.task.settings.dtype == "f64"):
        return measure(bench)


def _row(bench: Bench, wait: Callable[[], tuple[tuple[Head, ...], Bench]]) -> Row:
    task, metrics = bench.task, bench.task.settings.metrics
    local, shares = local_constant(bench)
    curve = growth_curve(bench, local.value) if "growth" in metrics else ((), ())
    bounds = global_bounds(bench, bench.attention) if "bounds" in metrics else None
    heads, beside = wait()
    return Row(
        input=task.input,
        layer=task.layer,
        tokens=len(task.window.tokens),
        atoms=int(np.sum(np.asarray(bench.mu.atoms.present))),
        radius=float(bench.mu.radius),
        score_min=_extreme(min, [head.score_min for head in heads]),
        score_max=_extreme(max, [head.score_max for head in heads]),
        local=local,
        heads=heads,
        bounds=bounds,
        worst_tokens=worst_tokens(task, shares),
        shares=shares,
        lengths=curve[0],
        constants=curve[1],
        warnings=(*bench.warnings, *beside.warnings),
    )


def _extreme(choose: Callable, values: list[float | None]) -> float | None:
    return choose((value for value in values if value is not None), default=None)
