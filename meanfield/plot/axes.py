"""Axes as every figure has them: made where none are given, labelled, with a quiet frame."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .palette import INK, MUTED


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6, 4), layout="constrained")[1]


def label_axes(ax: Any, x: str, y: str, *, grid: bool = True) -> None:
    ink = ink_of(ax)
    ax.set_xlabel(x, color=ink)
    ax.set_ylabel(y, color=ink)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=ink, which="both")
    if grid:
        ax.grid(True, color=MUTED, alpha=0.25, lw=0.6)
        ax.set_axisbelow(True)


def ink_of(ax: Any) -> str:
    """The colour of text that can be read on the background of the axes' figure."""
    red, green, blue, alpha = ax.figure.get_facecolor()
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.4 or alpha < 0.5 else "#e8ecf1"


def thinned(items: Sequence, most: int = 16) -> list:
    """Every second, third, ... item, so that the labels of many layers do not overlap."""
    return list(items)[:: max(-(-len(items) // most), 1)]


def plain_ticks(ax: Any) -> None:
    """Ticks of logarithmic axes written as numbers: 1, 2, 5, 10, ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
