"""One row of an audit: an independent, picklable task with an idempotent result."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .bench import AuditTask, Bench, set_up
from .bounds import bounds_aside
from .document import plain
from .heads import head_rows
from .record import Row, Whole
from .sensitivity import growth_curve, local_constant, worst_tokens


def run_task(task: AuditTask) -> dict:
    """The row of a task as JSON values: the same task gives the same row, whoever runs it."""
    with jax.enable_x64(task.settings.dtype == "f64"):
        bench = set_up(task)
        return plain(_whole(bench) if task.layer is None else _row(bench))


def _row(bench: Bench) -> Row:
    task, metrics = bench.task, bench.task.settings.metrics
    with bounds_aside(bench) as bounds:
        local, shares = local_constant(bench)
        curve = growth_curve(bench, local.value) if "growth" in metrics else ((), ())
        heads = head_rows(bench, bounds)
    found = bounds.result()
    bench.warnings.extend(found.warnings)
    assert task.layer is not None
    return Row(
        input=task.input,
        layer=task.layer,
        tokens=len(task.window.tokens),
        atoms=int(np.sum(np.asarray(bench.mu.atoms.present))),
        radius=bench.radius,
        score_min=_extreme(min, [head.score_min for head in heads]),
        score_max=_extreme(max, [head.score_max for head in heads]),
        local=local,
        heads=heads,
        bounds=found.layer,
        worst_tokens=worst_tokens(task, shares),
        shares=shares,
        lengths=curve[0],
        constants=curve[1],
        **_attacked(bench, certified="certify" in metrics),
        warnings=tuple(bench.warnings),
    )


def _whole(bench: Bench) -> Whole:
    task = bench.task
    local, shares = local_constant(bench, upper=False)
    return Whole(
        input=task.input,
        tokens=len(task.window.tokens),
        atoms=int(np.sum(np.asarray(bench.mu.atoms.present))),
        radius=bench.radius,
        local=local,
        worst_tokens=worst_tokens(task, shares),
        shares=shares,
        **_attacked(bench, certified=False),
        warnings=tuple(bench.warnings),
    )


def _attacked(bench: Bench, *, certified: bool) -> dict[str, Any]:
    """The fields of a row that attacks and certificates fill."""
    attacked = "attack" in bench.task.settings.metrics
    if not (attacked or certified):
        return {"peeling": None, "radii": ()}
    from .attacked import peeling, radius_points  # a plain audit does not wait for their modules

    return {
        "peeling": peeling(bench) if attacked else None,
        "radii": radius_points(bench, attacked=attacked, certified=certified),
    }


def _extreme(choose: Callable, values: list[float | None]) -> float | None:
    return choose((value for value in values if value is not None), default=None)
