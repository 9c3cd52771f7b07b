"""Figures of the limits in depth and in width: errors that fall along straight lines."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .axes import label_axes, new_axes
from .palette import MUTED, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = Sequence[float] | Sequence[int] | np.ndarray


def depth_errors(
    depths: Sequence[int], errors: Mapping[str, Values], ax: "Axes | None" = None
) -> "Axes":
    """Errors against the continuous network for each depth, a line for each kind of error, beside
    the slope -1 of a first-order method (dashed)."""
    ax = new_axes(ax)
    for (name, values), color in zip(errors.items(), layer_colors(len(errors)), strict=True):
        ax.loglog(depths, values, "o-", ms=4, lw=1.2, color=color, label=name)
    _guide(ax, depths, errors, -1.0)
    ax.legend(frameon=False, fontsize="small")
    ax.set_xticks(depths, [str(L) for L in depths])
    ax.xaxis.minorticks_off()
    label_axes(ax, "depth L", "error against the continuous network")
    return ax


def width_errors(
    counts: Mapping[str, Values],
    errors: Mapping[str, Values],
    ax: "Axes | None" = None,
) -> "Axes":
    """Errors against the limit in width, for each number of particles drawn independently (L M for
    independent layers, M for tied ones), beside the slope -1/2 of averages (dashed).

    Args:
      counts, errors: for each family of networks, the numbers of particles and the errors.
    """
    ax = new_axes(ax)
    for name, color in zip(errors, layer_colors(len(errors)), strict=True):
        ax.loglog(counts[name], errors[name], "o", ms=5, alpha=0.8, color=color, label=name)
    _guide(ax, np.concatenate(list(map(np.asarray, counts.values()))), errors, -0.5)
    ax.legend(frameon=False, fontsize="small")
    label_axes(ax, "particles drawn independently", "error against the limit in width")
    return ax


def _guide(ax: "Axes", sizes, errors: Mapping[str, Values], slope: float) -> None:
    """A dashed line of this slope through the middle of the errors, on logarithmic axes."""
    ends = np.array([np.min(sizes), np.max(sizes)], float)
    values = np.log(np.concatenate([np.asarray(v) for v in errors.values()]))
    many = np.concatenate([np.asarray(sizes)] * (len(values) // len(sizes)))
    level = np.exp(np.mean(values - slope * np.log(many)))
    ax.plot(ends, level * ends**slope, ls="--", lw=1, color=MUTED, label=f"slope {slope:g}")
