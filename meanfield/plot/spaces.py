"""Figures of measures across spaces: signed embeddings, and the mass that found a partner."""

from typing import TYPE_CHECKING, Any

import numpy as np

from meanfield.matching import Match, SignedEmbedding

from .axes import label_axes, new_axes
from .palette import ACCENT, MUTED, heat


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def embedded_dissimilarities(
    embedding: SignedEmbedding, dissimilarities: Any, ax: "Axes | None" = None
) -> "Axes":
    """The signed squared distances of an embedding against the dissimilarities they stand for, a
    dot for each pair of atoms; the band is the root mean square error, the certified bound."""
    ax = new_axes(ax)
    present = embedding.weights > 0
    d = np.asarray(dissimilarities, np.float64)[np.ix_(present, present)]
    near = embedding.dissimilarities[np.ix_(present, present)]
    rows, cols = np.triu_indices(len(d), 1)
    ends = np.array([min(d.min(), near.min()), max(d.max(), near.max())])
    ax.fill_between(
        ends, ends - embedding.bound, ends + embedding.bound, color=MUTED, alpha=0.3, lw=0,
        label=f"root mean square error at most {embedding.bound:.3g}",
    )  # fmt: skip
    ax.plot(ends, ends, color=ACCENT, lw=1)
    ax.scatter(d[rows, cols], near[rows, cols], s=6, color=heat(0.8), alpha=0.5, linewidths=0)
    plus, minus = (int(np.sum(embedding.signature == sign)) for sign in (1, -1))
    ax.legend(frameon=False, fontsize="small")
    label_axes(ax, "dissimilarity", f"signed squared distance ({plus} plus, {minus} minus)")
    return ax


def matched_mass(match: Match, side: int = 0, ax: "Axes | None" = None) -> "Axes":
    """The share of each atom's mass that found a partner, in the plane of the largest variance:
    full atoms are matched, pale ones are left.

    Args:
      match: of an unbalanced problem, say.
      side: 0 for the atoms of mu, 1 for those of nu.
    """
    from matplotlib.colors import LinearSegmentedColormap

    ax, measure = new_axes(ax), (match.mu, match.nu)[side]
    seen = np.asarray(measure.present)
    points, weights = np.asarray(measure.points)[seen], np.asarray(measure.weights)[seen]
    share = np.asarray(match.coupling.marginals[side])[seen] / weights
    centred = points - np.average(points, axis=0, weights=weights)
    plane = np.linalg.svd(centred, full_matrices=False)[2][:2].T
    flat = centred @ plane if centred.shape[1] > 1 else np.column_stack([centred, 0 * centred])
    ramp = LinearSegmentedColormap.from_list("heat", [heat(i / 8) for i in range(9)])
    dots = ax.scatter(
        *flat.T,
        c=share,
        cmap=ramp,
        vmin=0,
        vmax=max(share.max(), 1),
        s=24,
        edgecolors=MUTED,
        lw=0.4,
    )
    ax.figure.colorbar(dots, ax=ax, label="matched share of the mass", pad=0.02)
    label_axes(ax, "first principal coordinate", "second principal coordinate")
    return ax
