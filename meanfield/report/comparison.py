"""A comparison of two models as a table: layer by layer, what moved and how far."""

from collections.abc import Iterator

from meanfield.audits.comparison_record import LayerComparison, ModelComparison

from .numbers import number, percent


_NAMED = 4
_ROUNDING = 1e-5  # what single precision leaves of equal functions written with other weights


def comparison_table(comparison: ModelComparison) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header and a row for each layer, with the total last."""
    header = ("layer", "distance", "in order", "relative", "offset", "moved", "farthest")
    moved = str(comparison.permuted) if comparison.permuted else ""
    total = ["all", *_distances(comparison), "", moved, ""]
    return header, [*map(_row, comparison.layers), total]


def _row(layer: LayerComparison) -> list[str]:
    changed = layer.relative > _ROUNDING
    return [
        str(layer.layer),
        *_distances(layer),
        number(layer.offset, 2),
        moves(layer),
        f"{layer.farthest} ({percent(layer.share)})" if changed else "",
    ]


def _distances(found: LayerComparison | ModelComparison) -> list[str]:
    in_order = number(found.index_distance)
    return [number(found.distance), in_order, relative_percent(found.relative)]


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
    yield f"distance  W_2 of the two measures of {many}, matched by what they compute"
    yield "in order  each matched to its own number instead"
    yield "relative  to the mean norm of both: 0% equal, 140% unrelated"
    yield "offset    distance of the constants that the layers add besides"
    yield "moved     which of A is which of B, where the number changed"
    one = comparison.particles
    yield f"farthest  the {one} of A that changed most, with its share of the square"
