"""Figures of deep linear networks: which steps find a minimiser."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from meanfield.training import StepSweep

from .axes import label_axes, new_axes
from .palette import MUTED, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def step_threshold(sweeps: StepSweep | Sequence[StepSweep], ax: "Axes | None" = None) -> "Axes":
    """How far from least squares gradient descent ended, against its step as a share of the longest
    stable one (the vertical line); a line for each depth. Where it diverged there is no point."""
    ax = new_axes(ax)
    sweeps = [sweeps] if isinstance(sweeps, StepSweep) else list(sweeps)
    for sweep, color in zip(sweeps, layer_colors(len(sweeps)), strict=True):
        order = np.argsort(sweep.shares)
        heights = np.where(np.isfinite(sweep.distances), sweep.distances, np.nan)[order]
        heights = np.maximum(heights, 1e-32)  # exactly zero has no logarithm
        ax.semilogy(
            sweep.shares[order],
            heights,
            "o-",
            ms=3,
            lw=1,
            color=color,
            label=f"depth {sweep.depth}",
        )
    ax.axvline(1.0, color=MUTED, lw=1, ls="--")
    ax.legend(frameon=False, fontsize="small")
    label_axes(ax, "step, as a share of 2 / lower bound on sharpness", "squared distance, relative")
    return ax
