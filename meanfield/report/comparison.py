"""A comparison of two models as a table: layer by layer, what moved and how far."""

from collections.abc import Iterator

from meanfield.audits.comparison_record import LayerComparison, ModelComparison

from .numbers import number, percent


_NAMED = 4
_ROUNDING = 1e-5  # what single precision leaves of equal functions written with other weights


def comparison_table(comparison: ModelComparison) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header and a row for each layer, with the total last."""
    header = ("layer", "distance", "in order", "relative", "offset", "moved", "farthest", "share")
    rows = [_row(layer) for layer in comparison.layers]
    both = (comparison.distance, comparison.index_distance)
    total = ["all", *map(number, both), relative_percent(comparison.relative)]
    moved = str(comparison.permuted) if comparison.permuted else ""
    return header, [*rows, [*total, "", moved, "", ""]]


def _row(layer: LayerComparison) -> list[str]:
    both = (layer.distance, layer.index_distance)
    changed = layer.relative > _ROUNDING
    return [
        str(layer.layer),
        *map(number, both),
        relative_percent(layer.relative),
        number(layer.offset),
        moves(layer),
        str(layer.farthest) if changed else "",
        percent(layer.share) if changed else "",
    ]


def moves(layer: LayerComparison) -> str:
    """The particles whose match has another number, as `0→2, 2→0`; the first few of many."""
    found = [f"{i}→{layer.matching[i]}" for i in layer.permuted]
    more = len(found) - _NAMED
    return ", ".join(found[:_NAMED]) + (f", {more} more" if more > 0 else "")


def relative_percent(relative: float) -> str:
    """A relative distance in per cent."""
    small = "0%" if relative == 0 else f"<{100 * _ROUNDING:g}%"
    return f"{number(100 * relative)}%" if relative > _ROUNDING else small


def comparison_lines(comparison: ModelComparison) -> Iterator[str]:
    """How to read the table, in words."""
    many = f"{comparison.particles}s"
    yield f"distance  W_2 of the two measures of {many}, matched at least cost by what they compute"
    yield "in order  each matched to its own number instead"
    yield "relative  to the mean norm of both: 0% equal, 140% unrelated"
    yield "offset    distance of the constants that the layers add besides"
    yield "moved     which of A is which of B, where the number changed"
    yield f"farthest  the {comparison.particles} that changed most, with its share of the square"
