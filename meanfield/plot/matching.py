"""Figures of a match: transform, coupling by label, both clouds in one space, all starts, and what
remains along a regularization path."""

from typing import TYPE_CHECKING, Any

import numpy as np

from meanfield.matching import Match, RegularizationPath, label_transfer_accuracy

from .axes import label_axes, new_axes
from .palette import ACCENT, MUTED, heat, layer_colors


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def transform(
    match: Match, x_names: Any = None, y_names: Any = None, ax: "Axes | None" = None
) -> "Axes":
    """The transform as a heat map, a column for each feature of x and a row for each of y.

    Zero is white; the share of entries that are exactly zero stands below.

    Raises:
      ValueError: names of another number than the features.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    ax, values = new_axes(ax), np.asarray(match.transform)
    ramp = LinearSegmentedColormap.from_list("signed", [ACCENT, "#ffffff", heat(0.8)])
    size = np.abs(values).max(initial=0.0) or 1.0
    image = ax.imshow(values, cmap=ramp, vmin=-size, vmax=size, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="entry", pad=0.02)
    label_axes(ax, f"feature of x ({np.mean(values == 0):.0%} zeros)", "feature of y", grid=False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    if x_names is not None:
        names = _one_each("x_names", x_names, values.shape[1], "feature of x")
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize="x-small")
    if y_names is not None:
        names = _one_each("y_names", y_names, values.shape[0], "feature of y")
        ax.set_yticks(range(len(names)), names, fontsize="x-small")
    return ax


def coupling_by_label(
    match: Match, x_labels: Any, y_labels: Any, ax: "Axes | None" = None
) -> "Axes":
    """How the mass of each label of x is shared among the labels of y, in per cent.

    Nothing of size n m is formed.

    Raises:
      ValueError: labels of another number than the atoms.
    """
    import jax.numpy as jnp
    from matplotlib.colors import LinearSegmentedColormap

    ax = new_axes(ax)
    x_labels = _one_each("x_labels", x_labels, match.mu.size, "atom of mu")
    y_labels = _one_each("y_labels", y_labels, match.nu.size, "atom of nu")
    (rows, in_x), (cols, in_y) = (_indicators(labels) for labels in (x_labels, y_labels))
    mass = in_x.T @ np.asarray(match.coupling.apply(jnp.asarray(in_y)))
    shares = 100 * mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-300)
    ramp = LinearSegmentedColormap.from_list("heat", [heat(i / 8) for i in range(9)])
    image = ax.imshow(shares, cmap=ramp, vmin=0, vmax=100, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="mass of the row, per cent", pad=0.02)
    ax.set_xticks(range(len(cols)), cols)
    ax.set_yticks(range(len(rows)), rows)
    label_axes(ax, "label of y", "label of x", grid=False)
    return ax


def joint_embedding(match: Match, labels: Any = None, ax: "Axes | None" = None) -> "Axes":
    """The atoms of nu (hollow) and the images of those of mu (full, the means of their partners) in
    the plane of nu's largest variance; `labels` colour the atoms of mu.

    Raises:
      ValueError: labels of another number than the atoms of mu.
    """
    ax = new_axes(ax)
    seen_x, seen_y = np.asarray(match.mu.present), np.asarray(match.nu.present)
    x = np.asarray(match.coupling.barycentric(match.nu.points))[seen_x]
    y = np.asarray(match.nu.points)[seen_y]
    centre = y.mean(axis=0)
    plane = np.linalg.svd(y - centre, full_matrices=False)[2][:2].T
    x, y = ((points - centre) @ plane for points in (x, y))
    if x.shape[1] == 1:
        x, y = (np.column_stack([points, np.zeros(len(points))]) for points in (x, y))
    ax.scatter(*y.T, s=14, facecolors="none", edgecolors=MUTED, linewidths=0.6, label="nu")
    if labels is None:
        ax.scatter(*x.T, s=8, color=heat(0.8), label="images of mu")
    else:
        labels = _one_each("labels", labels, match.mu.size, "atom of mu")[seen_x]
        names = np.unique(labels)
        for name, color in zip(names, layer_colors(len(names)), strict=True):
            ax.scatter(*x[labels == name].T, s=8, color=color, label=f"mu, {name}")
    ax.legend(frameon=False, fontsize="small")
    label_axes(ax, "first principal coordinate", "second principal coordinate")
    return ax


def starts(match: Match, ax: "Axes | None" = None) -> "Axes":
    """The objective that each start came to, from the lowest; starts at one optimum share a
    colour, hollow ones were not carried on to all atoms. Nothing can be below the dashed line."""
    ax, found = new_axes(ax), match.starts
    order = np.argsort(found.objective, kind="stable")
    optima = list(dict.fromkeys(found.optimum[order].tolist()))
    colors = dict(zip(optima, layer_colors(len(optima)), strict=True))
    for place, k in enumerate(order):
        color = colors[int(found.optimum[k])]
        face = color if found.refined[k] else "none"
        ax.scatter(place, found.objective[k], facecolors=face, edgecolors=color)
    if np.isfinite(match.lower_bound):
        ax.axhline(match.lower_bound, color=MUTED, lw=1, ls="--", label="lower bound")
        ax.legend(frameon=False, fontsize="small")
    label_axes(ax, "start, by objective", "objective")
    return ax


def regularization_path(
    path: RegularizationPath,
    x_labels: Any = None,
    y_labels: Any = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The share of entries of the transform that are not zero, and the objective (right), against
    the strength of the regularizer.

    Full dots are strengths where the solver's own starts were run too, crosses are collapsed
    matches. With labels of the atoms of mu and nu, the label transfer accuracy of each match.

    Raises:
      ValueError: labels of another number than the atoms.
    """
    ax, first = new_axes(ax), path.matches[0]
    shares = 100 * path.nonzeros / path.transforms[0].size
    _along(ax, path, shares, heat(0.8), "nonzero entries")
    if x_labels is not None and y_labels is not None:
        x_labels = _one_each("x_labels", x_labels, first.mu.size, "atom of mu")
        y_labels = _one_each("y_labels", y_labels, first.nu.size, "atom of nu")
        accuracy = [100 * _transferred(sol, x_labels, y_labels) for sol in path.matches]
        _along(ax, path, accuracy, ACCENT, "label transfer accuracy")
    right = ax.twinx()
    right.plot(path.strengths, path.objectives, "--", color=MUTED, lw=1, label="objective (right)")
    label_axes(right, "", "objective", grid=False)
    right.spines["right"].set_visible(True)
    handles = [*ax.get_lines(), *right.get_lines()]
    shown = [line for line in handles if not str(line.get_label()).startswith("_")]
    ax.legend(handles=shown, frameon=False, fontsize="small", loc="center left")
    ax.set_ylim(-4, 104)
    if path.strengths[0] > 0:
        ax.set_xscale("log")
    label_axes(ax, "strength of the regularizer", "per cent")
    return ax


def _one_each(name: str, given: Any, count: int, what: str) -> np.ndarray:
    array = np.asarray(given)
    if array.shape != (count,):
        raise ValueError(
            f"`{name}` must have one entry for each {what}, {count}; got shape {array.shape}."
        )
    return array


def _along(ax: "Axes", path: RegularizationPath, values: Any, color: str, label: str) -> None:
    values = np.asarray(values)
    ax.plot(path.strengths, values, color=color, lw=1.2, label=label)
    for chosen, marker, face in (
        (path.fresh & ~path.collapsed, "o", color),
        (~path.fresh & ~path.collapsed, "o", "white"),
        (path.collapsed, "x", color),
    ):
        ax.plot(
            path.strengths[chosen], values[chosen], marker, color=color, mfc=face, ms=5, zorder=3
        )


def _transferred(match: Match, x_labels: Any, y_labels: Any) -> float:
    seen_x, seen_y = np.asarray(match.mu.present), np.asarray(match.nu.present)
    mapped = np.asarray(match.map(np.asarray(match.mu.points)[seen_x]))
    known = np.asarray(match.nu.points)[seen_y], np.asarray(y_labels)[seen_y]
    return float(label_transfer_accuracy(mapped, np.asarray(x_labels)[seen_x], *known))


def _indicators(labels: Any) -> tuple[Any, np.ndarray]:
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    return names, np.eye(len(names))[numbers]
