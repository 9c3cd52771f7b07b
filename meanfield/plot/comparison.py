"""Figures of two models compared: how far each layer moved, and which head became which."""

import io
from typing import TYPE_CHECKING

import numpy as np

from meanfield.audits.comparison_record import LayerComparison, ModelComparison

from .axes import label_axes, new_axes
from .palette import ACCENT, INK, MUTED, heat


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 12  # the layers that moved most, of more
_LABELLED = 24  # numbers on more bars than these would touch


def layer_distances(comparison: ModelComparison, ax: "Axes | None" = None) -> "Axes":
    """The distance of each layer over its norm, a bar, and a tick where the particles in their
    order would put it."""
    ax = new_axes(ax)
    places = np.arange(len(comparison.layers))
    norms = [sum(layer.norms) / 2 or 1.0 for layer in comparison.layers]
    both = [(layer.distance, layer.index_distance) for layer in comparison.layers]
    found, in_order = 100 * np.array(both).reshape(-1, 2).T / np.array(norms)
    bars = ax.bar(places, found, color=heat(0.6), width=0.62, label="best matching")
    if len(places) <= _LABELLED:
        labels = [f"{value:.2g}" if value > 1e-3 else "0" for value in found]
        ax.bar_label(bars, labels, color=INK, fontsize="small")
    ax.plot(places, in_order, "_", color=ACCENT, ms=14, mew=2, label="in order")
    ax.set_xticks(places, [str(layer.layer) for layer in comparison.layers])
    highest = in_order.max(initial=0.0)
    ax.set_ylim(0, 1.2 * highest if highest > 1e-3 else 1.0)  # rounding errors are not magnified
    label_axes(ax, "layer", "distance (% of the norm)")
    ax.grid(False, axis="x")
    ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=2)
    return ax


def layer_matching(
    layer: LayerComparison, particles: str = "head", ax: "Axes | None" = None
) -> "Axes":
    """A heat map of the distances between all particles of a layer, the matching ringed: a ring off
    the diagonal is a particle that moved. Where there are too many, the sorted moves instead."""
    ax = new_axes(ax)
    if layer.distances is None:
        return _sorted_moves(layer, particles, ax)
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    ramp = LinearSegmentedColormap.from_list("near", [heat(1 - i / 8) for i in range(9)])
    image = ax.imshow(np.asarray(layer.distances), cmap=ramp, vmin=0, aspect="auto")
    n = len(layer.matching)
    ax.plot(layer.matching, range(n), "o", mfc="none", mec=ACCENT, mew=1.5, ms=max(3, 60 / n))
    ax.figure.colorbar(image, ax=ax, label="distance", pad=0.02)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=min(n, 8)))
    label_axes(ax, f"{particles} of B", f"{particles} of A (layer {layer.layer})", grid=False)
    return ax


def _sorted_moves(layer: LayerComparison, particles: str, ax: "Axes") -> "Axes":
    moves = np.sort(layer.moves)[::-1]
    ax.plot(np.arange(1, len(moves) + 1), moves, color=heat(0.8))
    label_axes(ax, f"{particles}s of layer {layer.layer}, farthest first", "distance to the match")
    ax.axhline(layer.distance, color=MUTED, lw=1, ls="--")
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    return ax


def model_comparison(comparison: ModelComparison, figure: "Figure | None" = None) -> "Figure":
    """All layers on one sheet: bars of distances above, and below the matching of each layer (of
    the twelve that moved most, where there are more)."""
    from matplotlib.figure import Figure

    layers = sorted(comparison.layers, key=lambda layer: -layer.relative)[:_PANELS]
    layers = sorted(layers, key=lambda layer: layer.layer)
    columns = min(max(len(layers), 1), 4)
    rows = -(-len(layers) // columns)
    figure = figure or Figure(figsize=(max(3.4 * columns, 6), 2.8 + 3 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, columns)
    layer_distances(comparison, figure.add_subplot(grid[0, :]))
    for i, layer in enumerate(layers):
        ax = figure.add_subplot(grid[1 + i // columns, i % columns])
        layer_matching(layer, comparison.particles, ax)
    return figure


def model_comparison_image(comparison: ModelComparison, format: str = "png") -> bytes:
    """`model_comparison` as the bytes of a PNG or an SVG file; no display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, stream = model_comparison(comparison), io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format=format, dpi=110)
    return stream.getvalue()
