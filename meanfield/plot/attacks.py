"""Figures of attacks and certificates of an audit. Axes in, axes out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meanfield.audits.record import Audit, LayerSummary, Whole
from meanfield.audits.summary import worst_whole
from meanfield.audits.thresholds import certified

from .axes import label_axes, new_axes, plain_ticks
from .palette import INK, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def peeling(audit: Audit, ax: "Axes | None" = None) -> "Axes":
    """The ratio of distances against the fraction of the worst token's mass that is peeled off,
    one line per layer and one for all blocks; searches that stalled are left out."""
    ax = new_axes(ax)
    for name, color, measured in _measured(audit):
        points = () if measured.peeling is None else measured.peeling.points
        known = sorted((p.fraction, p.ratio) for p in points if p.ratio and not p.stalled)
        _line(ax, known, name, color, "o-")
    return _finished(ax, "fraction of the token's mass", audit)


def radii(audit: Audit, ax: "Axes | None" = None) -> "Axes":
    """Attacks (solid) and certificates (dashed) against how far any token may move; the truth of
    each layer lies between its two lines."""
    ax = new_axes(ax)
    for name, color, measured in _measured(audit):
        points = measured.radii
        found = sorted((p.radius, p.attack) for p in points if p.attack and not p.stalled)
        proved = sorted((p.radius, value) for p in points if (value := certified(p)))
        _line(ax, found, name, color, "o-")
        _line(ax, proved, "" if found else name, color, "o--")
    legend = "layer, attack (solid) and certificate (dashed)"
    return _finished(ax, "radius: how far any token may move", audit, legend)


def _measured(audit: Audit) -> list[tuple[str, str, LayerSummary | Whole]]:
    colors = layer_colors(len(audit.layers))
    found: list[tuple[str, str, LayerSummary | Whole]] = [
        (str(layer.layer), color, layer) for layer, color in zip(audit.layers, colors, strict=True)
    ]
    whole = worst_whole(audit.whole)
    return [*found, *([("all", INK, whole)] if whole is not None else [])]


def _line(ax: "Axes", points: Sequence[tuple], name: str, color: str, style: str) -> None:
    if points:
        x, y = zip(*points, strict=True)
        ax.plot(x, y, style, color=color, ms=4, label=name or "_")


def _finished(ax: "Axes", x: str, audit: Audit, legend: str = "layer") -> "Axes":
    ax.set_xscale("log")
    ax.set_yscale("log")
    label_axes(ax, x, "ratio of distances")
    if ax.lines:
        plain_ticks(ax)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.2)  # room for the legend above the lines
        columns = min(len(audit.layers) + 1, 8)
        style = {
            "fontsize": "small",
            "title_fontsize": "small",
            "handlelength": 1.0,
            "columnspacing": 1.0,
        }
        ax.legend(title=legend, frameon=False, loc="upper center", ncols=columns, **style)
    return ax
