"""Figures of conservation laws: the gap that sets them apart, and how far training takes them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import label_axes, new_axes
from .palette import ACCENT, INK, MUTED, heat, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from meanfield.training import QuadraticLaws


def law_spectrum(laws: "QuadraticLaws", ax: "Axes | None" = None) -> "Axes":
    """The singular values of the system that quadratic laws solve, laws in the accent colour."""
    ax, values = new_axes(ax), np.asarray(laws.singular_values)
    shown = np.maximum(values, np.finfo(np.float64).eps / 16)
    place, cut = np.arange(1, len(values) + 1), len(values) - laws.count
    ax.semilogy(place[:cut], shown[:cut], ".", ms=3, color=heat(0.8), label="not conserved")
    if laws.count:
        ax.semilogy(place[cut:], shown[cut:], ".", ms=6, color=ACCENT, label=f"{laws.count} laws")
    ax.legend(frameon=False, fontsize="small", loc="center left")
    label_axes(ax, "monomial combinations, by singular value", "singular value / largest")
    return ax


def law_drift(
    drifts: dict[str, Any],
    predicted: dict[str, Any] | None = None,
    steps: Any = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """How far laws have gone in training, one curve for each name; dots are what was predicted.

    Args:
      drifts: for each curve, a number for each time, such as norms of `LawMonitor.drift`.
      predicted: the same for what the steps alone say, of some of the curves.
      steps: the times; 1, 2, ... by default.
    """
    ax = new_axes(ax)
    for (name, values), color in zip(drifts.items(), layer_colors(len(drifts)), strict=True):
        times = np.arange(1, len(values) + 1) if steps is None else np.asarray(steps)
        ax.semilogy(times, _positive(values), color=color, lw=1.6, label=name)
        if predicted and name in predicted:
            some = slice(None, None, max(1, len(times) // 12))
            told = _positive(predicted[name])
            ax.semilogy(times[some], told[some], "o", ms=4, mfc="none", mec=INK, mew=0.8)
    if predicted:
        ax.semilogy([], [], "o", ms=4, mfc="none", mec=INK, mew=0.8, label="predicted")
    ax.legend(frameon=False, fontsize="small", labelcolor=INK, edgecolor=MUTED)
    label_axes(ax, "step", "drift of the laws")
    return ax


def _positive(values: Any) -> np.ndarray:
    values = np.abs(np.asarray(values, float))
    return np.where(values > 0, values, np.nan)
