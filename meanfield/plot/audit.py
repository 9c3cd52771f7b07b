"""Figures of an audit: layers, heads, growth, worst tokens. Axes in, axes out."""

from typing import TYPE_CHECKING

from meanfield.audits.record import Audit, Row

from .axes import ink_of, label_axes, new_axes, plain_ticks, thinned
from .labels import safe_label
from .palette import ACCENT, heat, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def layers(audit: Audit, ax: "Axes | None" = None) -> "Axes":
    """The local constant of each layer: a dot at the worst input, a bar down to the least, and a
    tick where splitting a token alone would be."""
    ax = new_axes(ax)
    for layer in audit.layers:
        if layer.local.value is None:
            continue
        span = [layer.least or 0.0, layer.local.value]
        ax.plot([layer.layer] * 2, span, color=heat(0.45), lw=4)
        ax.plot(layer.layer, layer.local.value, "o", color=heat(0.85), ms=7)
        if layer.local.split is not None:
            ax.plot(layer.layer, layer.local.split, "_", color=ACCENT, ms=12, mew=2)
    ax.plot([], [], "o", color=heat(0.85), label="moving or splitting tokens")
    ax.plot([], [], "_", color=ACCENT, ms=12, mew=2, label="splitting one token")
    label_axes(ax, "layer", "local Lipschitz constant")
    ax.set_ylim(0, 1.15 * ax.get_ylim()[1])  # room for the legend above the highest layer
    ax.set_xticks(thinned([layer.layer for layer in audit.layers]))
    ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=2)
    return ax


def heads(audit: Audit, ax: "Axes | None" = None) -> "Axes":
    """A heat map, layer by head, of the local constant of each head at the layer's worst input."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    ax = new_axes(ax)
    rows = [_worst_row(audit, layer.layer, layer.input) for layer in audit.layers]
    values = [[head.value or float("nan") for head in row.heads] for row in rows]
    ramp = LinearSegmentedColormap.from_list("heat", [heat(i / 8) for i in range(9)])
    label_axes(ax, "head", "layer", grid=False)
    if not any(values):
        return ax
    image = ax.imshow(values, cmap=ramp, aspect="auto", vmin=0)
    ax.set_yticks(thinned(range(len(rows))), [str(row.layer) for row in thinned(rows)])
    shown = [head.head for head in rows[0].heads] if rows else []
    if shown == list(range(len(shown))):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    else:
        ax.set_xticks(range(len(shown)), [str(head) for head in shown])
    ax.figure.colorbar(image, ax=ax, label="local Lipschitz constant", pad=0.02)
    return ax


def growth(audit: Audit, ax: "Axes | None" = None) -> "Axes":
    """The local constant of each layer against the number of tokens, both logarithmic, with the
    fitted exponents and a ring where the behaviour changes."""
    ax = new_axes(ax)
    told = {record.layer for record in thinned(audit.growth, 12)}
    for record, color in zip(audit.growth, layer_colors(len(audit.growth)), strict=True):
        if len(record.lengths) < 2:
            continue
        slope = "" if record.exponent is None else f": $n^{{{record.exponent:.2f}}}$"
        ax.plot(
            record.lengths,
            record.constants,
            "o-",
            color=color,
            ms=4,
            label=f"{record.layer}{slope}" if record.layer in told else "_",
        )
        for jump in record.jumps:
            height = record.constants[record.lengths.index(jump.after)]
            ax.plot(jump.after, height, "o", ms=13, mfc="none", mec=ACCENT, mew=2)
    lengths = sorted({n for record in audit.growth for n in record.lengths})
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(lengths, [str(n) for n in lengths])
    plain_ticks(ax)
    label_axes(ax, "tokens", "local Lipschitz constant")
    if lengths:
        (low, high), rows = ax.get_ylim(), -(-len(ax.get_legend_handles_labels()[0]) // 3)
        # room for the legend above the lines
        ax.set_ylim(low, high * (high / low) ** (0.12 + 0.09 * rows))
        style = {"fontsize": "small", "title_fontsize": "small", "loc": "upper center", "ncols": 3}
        ax.legend(title="layer", frameon=False, **style)
    return ax


def worst_tokens(audit: Audit, ax: "Axes | None" = None) -> "Axes":
    """The share of the worst direction that is in each layer's worst token, named."""
    ax = new_axes(ax)
    named = [layer for layer in audit.layers if layer.worst_tokens]
    shares = [100 * layer.worst_tokens[0].share for layer in named]
    places = [layer.layer for layer in named]
    ax.barh(places, shares, color=heat(0.6), height=0.62)
    for layer, share in thinned(list(zip(named, shares, strict=True))):
        inside = share > 55
        ax.text(
            share - 2 if inside else share + 2,
            layer.layer,
            safe_label(layer.worst_tokens[0].token),
            ha="right" if inside else "left",
            va="center",
            color="white" if inside else ink_of(ax),
            parse_math=False,
        )
    ax.set_xlim(0, 100)
    ax.set_yticks(thinned(places))
    ax.invert_yaxis()
    label_axes(ax, "share of the worst direction (%)", "layer")
    ax.grid(False, axis="y")
    return ax


def _worst_row(audit: Audit, layer: int, source: int) -> Row:
    return next(row for row in audit.rows if (row.layer, row.input) == (layer, source))
