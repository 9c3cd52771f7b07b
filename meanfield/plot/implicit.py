"""Figures of implicit derivatives: their error against the distance from the solution."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import label_axes, new_axes
from .palette import MUTED, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def derivative_errors(errors: Mapping[str, tuple[Any, Any]], ax: "Axes | None" = None) -> "Axes":
    """Relative errors of derivatives against the distance of the point where they were taken.

    Args:
      errors: for each method, the distances and the errors, two arrays of shape (k,). Dotted lines
        of slope 1 and 2 begin at the largest error of the first method.
    """
    ax = new_axes(ax)
    for (name, (distance, error)), color in zip(
        errors.items(), layer_colors(len(errors)), strict=True
    ):
        ax.loglog(distance, error, "o-", ms=3, lw=1, color=color, label=name)
    distance, error = (np.asarray(values, float) for values in next(iter(errors.values())))
    top, least = distance.argmax(), min(np.min(values[1]) for values in errors.values())
    for slope in (1, 2):
        line = error[top] * (distance / distance[top]) ** slope
        seen = line >= least / 10
        ax.loglog(distance[seen], line[seen], ":", lw=1, color=MUTED)
    ax.legend(frameon=False, fontsize="small")
    label_axes(ax, "distance from the solution", "relative error of the derivative")
    return ax
