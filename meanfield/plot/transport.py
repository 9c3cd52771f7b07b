"""Figures of a transport: the coupling drawn between two clouds, and as a matrix."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from meanfield.measure import Measure
from meanfield.transport import AbstractCoupling

from .axes import label_axes, new_axes
from .palette import ACCENT, MUTED, heat


if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = 2000  # more cannot be told apart


def coupling(
    coupling: AbstractCoupling, mu: Measure, nu: Measure, ax: "Axes | None" = None
) -> "Axes":
    """The mass that moves, as lines from the atoms of mu (blue) to those of nu (orange).

    The area of a dot is the mass of its atom, the strength of a line the mass that it carries
    (the 2000 heaviest). Clouds of more than two dimensions are seen in the plane of their largest
    variance, clouds on the line as two rows.
    """
    from matplotlib.collections import LineCollection

    ax = new_axes(ax)
    x, y, labels = _in_the_plane(mu, nu)
    rows, cols, masses = coupling.support()
    heaviest = np.argsort(masses)[::-1][:_LINES]
    rows, cols, masses = rows[heaviest], cols[heaviest], masses[heaviest]
    strength = masses / max(masses.max(initial=0.0), 1e-300)
    lines = np.stack([x[rows], y[cols]], axis=1)
    ax.add_collection(
        LineCollection(list(lines), colors=MUTED, linewidths=1.0, alpha=0.9 * strength)
    )
    for points, measure, color, name in ((x, mu, heat(0.75), "mu"), (y, nu, ACCENT, "nu")):
        seen = np.asarray(measure.present)
        ax.scatter(*points[seen].T, s=_areas(measure)[seen], color=color, label=name, zorder=2)
    label_axes(ax, *labels)
    if mu.dim == 1:
        ax.set_yticks([0, 1], ["mu", "nu"])
    else:
        ax.legend(frameon=False, fontsize="small")
    return ax


def coupling_matrix(coupling: AbstractCoupling, ax: "Axes | None" = None) -> "Axes":
    """The coupling as a heat map: a row for each atom of mu, a column for each of nu."""
    from matplotlib.colors import LinearSegmentedColormap

    ax = new_axes(ax)
    ramp = LinearSegmentedColormap.from_list("heat", [heat(i / 8) for i in range(9)])
    image = ax.imshow(np.asarray(coupling.matrix), cmap=ramp, aspect="auto", vmin=0)
    ax.figure.colorbar(image, ax=ax, label="mass", pad=0.02)
    label_axes(ax, "atom of nu", "atom of mu", grid=False)
    return ax


def _areas(measure: Measure) -> Float[np.ndarray, " n"]:
    weights = np.asarray(measure.weights)
    return 40 * weights / max(weights.mean(where=weights > 0), 1e-300)


def _in_the_plane(mu: Measure, nu: Measure) -> tuple[Any, Any, tuple[str, str]]:
    """Both clouds in two coordinates, and the names of the coordinates."""
    x, y = (np.where(np.asarray(m.present)[:, None], np.asarray(m.points), 0.0) for m in (mu, nu))
    if mu.dim == 1:
        below, above = (np.column_stack([z, np.full(len(z), h)]) for z, h in ((x, 0), (y, 1)))
        return below, above, ("position", "")
    if mu.dim == 2:
        return x, y, ("first coordinate", "second coordinate")
    both = np.concatenate([x[np.asarray(mu.present)], y[np.asarray(nu.present)]])
    centre = both.mean(axis=0)
    _, _, directions = np.linalg.svd(both - centre, full_matrices=False)
    plane = directions[:2].T
    names = ("first principal coordinate", "second principal coordinate")
    return (x - centre) @ plane, (y - centre) @ plane, names
