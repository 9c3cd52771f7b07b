"""From rows (one layer, one input) to one line per layer: the worst input, never an average."""

import statistics
from collections.abc import Sequence

from .record import Head, LayerSummary, Peeling, Row, Whole


def summarise_layer(rows: Sequence[Row], heads: int | None = None) -> LayerSummary:
    """The rows of one layer over all inputs, told by the row with the largest local constant.

    Args:
      rows: the rows.
      heads: how many heads the layer has; None where all were audited.
    """
    worst = max(rows, key=lambda row: -1.0 if row.local.value is None else row.local.value)
    values = [row.local.value for row in rows if row.local.value is not None]
    top = max(worst.heads, key=lambda head: head.value or 0.0, default=None)
    top = None if top is None or top.value is None else top
    return LayerSummary(
        layer=worst.layer,
        input=worst.input,
        radius=worst.radius,
        score_range=score_range(worst),
        local=worst.local,
        median=statistics.median(values) if values else None,
        least=min(values) if values else None,
        worst_head=None if top is None else top.head,
        head_value=None if top is None else top.value,
        heads_sum=_sum(worst.heads) if heads in (None, len(worst.heads)) else None,
        entropy=_mean(worst.heads),
        max_attention=_largest([head.max_attention for row in rows for head in row.heads]),
        sink=_largest([head.sink for row in rows for head in row.heads]),
        bounds=worst.bounds,
        worst_tokens=worst.worst_tokens,
        peeling=worst_peeling(rows),
        radii=worst.radii,
    )


def worst_peeling(rows: Sequence[Row] | Sequence[Whole]) -> Peeling | None:
    """The attack with the largest ratio over all inputs."""
    found = [row.peeling for row in rows if row.peeling is not None]
    return max(found, key=_largest_ratio, default=None)


def _largest_ratio(peeling: Peeling) -> float:
    return max((point.ratio or 0.0 for point in peeling.points), default=0.0)


def worst_whole(rows: Sequence[Whole]) -> Whole | None:
    """The input at which all blocks together are most sensitive."""
    return max(rows, key=lambda row: row.local.value or 0.0, default=None)


def score_range(row: Row) -> float | None:
    """Largest minus smallest score over all heads."""
    if row.score_min is None or row.score_max is None:
        return None
    return row.score_max - row.score_min


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _sum(heads: Sequence[Head]) -> float | None:
    known = [head.value for head in heads if head.value is not None]
    return sum(known) if known and len(known) == len(heads) else None


def _mean(heads: Sequence[Head]) -> float | None:
    known = [head.entropy for head in heads if head.entropy is not None]
    return sum(known) / len(known) if known else None
