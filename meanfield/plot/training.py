"""Figures of a training run: particles, layers, the Polyak-Lojasiewicz ratio, step sizes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from meanfield.measure import RESULTS
from meanfield.training import Training

from .axes import label_axes, new_axes
from .palette import ACCENT, INK, MUTED, heat, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def particle_paths(
    run: Training,
    layers: Sequence[int] | None = None,
    coordinates: tuple[int, int] = (0, 1),
    ax: "Axes | None" = None,
) -> "Axes":
    """The paths of the particles in two of their coordinates: a ring where each begins, a dot where
    it is at the last record, one colour a layer.

    Args:
      run: with its particles, from `Record(particles=True)`.
      layers: by default the first, the middle and the last.
      coordinates: of a particle; for a hidden layer (u, w, b) in dimension d, u has the numbers 0
        to d - 1, w those from d, and b the last.
    """
    if run.particles is None:
        raise ValueError(
            "`run` must hold its particles; train with record=mf.training.Record(particles=True)."
        )
    ax, depth = new_axes(ax), run.net.depth
    colors = layer_colors(depth)
    present = np.asarray(run.net.params.masses) > 0
    for k in sorted({0, depth // 2, depth - 1}) if layers is None else layers:
        paths = run.particles[:, k, present[k]][..., list(coordinates)]
        ax.plot(paths[..., 0], paths[..., 1], color=colors[k], lw=0.6, alpha=0.5)
        ax.plot(*paths[0].T, "o", mfc="none", mec=colors[k], mew=0.6, ms=4)
        ax.plot(*paths[-1].T, "o", color=colors[k], ms=4, label=str(k))
    label_axes(ax, *(f"coordinate {i} of a particle" for i in coordinates))
    ax.legend(title="layer", frameon=False)
    return ax


def layer_travel(run: Training, ax: "Axes | None" = None) -> "Axes":
    """How far each layer is from where it began, in W2, over the time of the flow."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    ax = new_axes(ax)
    ramp = LinearSegmentedColormap.from_list("heat", [heat(i / 8) for i in range(9)])
    x, name = _clock(run)
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    image = ax.pcolormesh(
        edges, np.arange(run.net.depth + 1) - 0.5, run.layer_distance.T, cmap=ramp, vmin=0
    )
    ax.figure.colorbar(image, ax=ax, label="W2 to the start", pad=0.02)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(ax, name, "layer", grid=False)
    return ax


def polyak_lojasiewicz(run: Training, ax: "Axes | None" = None) -> "Axes":
    """The risk, the squared slope and their ratio over time, with its certified lower bound; where
    the certificate is zero or was not asked for it is left out."""
    ax = new_axes(ax)
    x, name = _clock(run)
    certified = np.where(run.certified > 0, run.certified, np.nan)
    ax.plot(x, run.risk, color=INK, lw=1.8, label="risk")
    ax.plot(x, run.slope**2, color=MUTED, lw=1.2, label="squared slope")
    ax.plot(x, run.polyak_lojasiewicz, color=heat(0.7), lw=1.8, label="ratio")
    if not np.all(np.isnan(certified)):
        ax.plot(x, certified, color=ACCENT, ls="--", lw=1.2, label="ratio, certified below")
    return _logarithmic(ax, name, "risk, its slope and its rate")


def step_sizes(runs: Mapping[str, Training], ax: "Axes | None" = None) -> "Axes":
    """The risk of several runs of one network, by name, over time: solid where the path may be that
    of a gradient flow, dashed where it is too long for one."""
    ax = new_axes(ax)
    for (name, run), color in zip(runs.items(), layer_colors(len(runs)), strict=True):
        stable = run.result != RESULTS.step_beyond_stability
        style = "-" if bool(stable) else "--"
        marker = "o" if len(run.times) < 15 else ""
        ax.plot(run.times, run.risk, ls=style, marker=marker, ms=3, color=color, label=name)
    return _logarithmic(ax, "time of the flow", "risk")


def _clock(run: Training) -> tuple[np.ndarray, str]:
    """The times of the records; the numbers of steps where the method has no time."""
    if np.all(np.isfinite(run.times)):
        return run.times, "time of the flow"
    return run.steps, "steps"


def _logarithmic(ax: "Axes", x: str, y: str) -> "Axes":
    if any(np.any(np.asarray(line.get_ydata()) > 0) for line in ax.lines):  # not of zeros alone
        ax.set_yscale("log")
    label_axes(ax, x, y)
    ax.legend(frameon=False)
    return ax
