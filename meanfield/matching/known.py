"""Pairs that are known beforehand: part of every coupling, and of every moment."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .moments import Cloud


class Pinned(NamedTuple):
    """The known part of a coupling, as entries and by its moments, on the host."""

    rows: Int[np.ndarray, " k"]
    cols: Int[np.ndarray, " k"]
    masses: Float[np.ndarray, " k"]
    cross: Float[np.ndarray, "q p"]
    second: Float[np.ndarray, "p p"]


class KnownPairs(eqx.Module):
    r"""Atoms of mu whose partners in nu are known.

    Every coupling then holds the mass $\min(a_i, b_j)$ on each known pair (i, j); what is left of
    the two measures is matched. The known pairs enter the cross-moment, so a few of them decide
    between optima that are mirror images.

    Args:
      rows, cols: shape (k,), the atom of mu and the atom of nu of each pair; no atom twice.

    Raises:
      ValueError: entries that are not whole numbers, different lengths, or an atom in two pairs.
    """

    rows: Int[np.ndarray, " k"]
    cols: Int[np.ndarray, " k"]

    def __init__(self, rows: Any, cols: Any):
        self.rows, self.cols = _indices("rows", rows), _indices("cols", cols)
        if len(self.rows) != len(self.cols):
            raise ValueError(
                "`rows` and `cols` must have one entry for each known pair; got "
                f"{len(self.rows)} and {len(self.cols)}."
            )
        for name, indices in (("rows", self.rows), ("cols", self.cols)):
            if len(np.unique(indices)) < len(indices):
                raise ValueError(f"`{name}` must name each atom at most once; one is named twice.")

    def masses(self, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " k"]:
        """The mass of each known pair, checked against the sizes of the measures."""
        for name, indices, weights in (("rows", self.rows, a), ("cols", self.cols, b)):
            if len(indices) and not 0 <= indices.min() <= indices.max() < len(weights):
                raise ValueError(
                    f"`{name}` of the known pairs must be indices below {len(weights)}, the number "
                    f"of atoms; got {indices.min()} to {indices.max()}."
                )
        return np.minimum(a[self.rows], b[self.cols])


def _indices(name: str, given: Any) -> Int[np.ndarray, " k"]:
    array = np.asarray(given).reshape(-1)
    if len(array) and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"`{name}` must hold the numbers of atoms, integers; got {array.dtype} {array[:5]}. "
            "For a mask take `np.nonzero(mask)[0]`."
        )
    return array.astype(np.int64)


def pinned(
    known: KnownPairs | None, mu: Cloud, nu: Cloud, a: np.ndarray, b: np.ndarray
) -> tuple[Pinned, np.ndarray, np.ndarray]:
    """The moments of the known pairs, and the weights that they leave."""
    if known is None:
        known = KnownPairs([], [])
    masses = known.masses(a, b)
    x, y = mu.points[known.rows], nu.points[known.cols]
    left, right = a.copy(), b.copy()
    left[known.rows] -= masses
    right[known.cols] -= masses
    weighted = x.T * masses
    pairs = Pinned(known.rows, known.cols, masses, (weighted @ y).T, weighted @ x)
    return pairs, left, right
