"""The measurements of a whole layer: local constant, worst tokens, growth."""

import numpy as np

from .bench import AuditTask, Bench, context_of
from .constants import bucket, finite, layer_constant, layer_upper, local_record
from .growth import ladder
from .record import Local, WorstToken


def local_constant(bench: Bench, *, upper: bool = True) -> tuple[Local, tuple[float, ...]]:
    """The local constant with its bounds at the point, and the share of each token."""

    def measure():
        above = layer_upper(bench.attention, bench.padded) if upper else None
        sol = layer_constant(bench.attention, bench.padded, bench.key, *bench.steps)
        shares = np.asarray(sol.shares, np.float64).reshape(-1)[: len(bench.task.window.tokens)]
        return local_record(sol, above), _rounded(shares)

    missing = Local(None, None, None, None, None, None, None, "not measured")
    local, shares = bench.attempt("local", measure, (missing, ()))
    if local.value is None and local is not missing:
        bench.warn("not-finite", "the local constant overflows; try --dtype f64.")
    return local, shares


def _rounded(shares: np.ndarray) -> tuple[float, ...]:
    if not np.all(np.isfinite(shares)):
        return ()
    return tuple(round(float(share), 6) for share in shares)


def worst_tokens(task: AuditTask, shares: tuple[float, ...]) -> tuple[WorstToken, ...]:
    """The tokens with the largest shares of the worst direction."""
    order = sorted(range(len(shares)), key=lambda i: (-shares[i], i))[: task.settings.worst]
    return tuple(WorstToken(i, task.window.tokens[i], shares[i]) for i in order)


def growth_curve(bench: Bench, whole: float | None) -> tuple[tuple[int, ...], tuple]:
    """The local constant of the layer on ever more tokens; the last time on the whole window."""
    task, n = bench.task, len(bench.task.window.tokens)
    image = task.window.kind == "image"
    if image and not task.window.order:
        return (), ()
    start = task.settings.growth_from
    lengths = ladder(n, min(start, max(n // 4, 4)) if image else start)
    values = [bench.attempt("growth", lambda m=m: _prefix(bench, m), None) for m in lengths[:-1]]
    return lengths, (*values, whole)


def _prefix(bench: Bench, length: int) -> float | None:
    mu = context_of(bench.task, length)
    padded = mu.pad(bucket(mu.size, bench.padded.size))
    return finite(layer_constant(bench.attention, padded, bench.key, *bench.steps).value)
