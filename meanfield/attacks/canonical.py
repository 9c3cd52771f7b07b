"""One way to write a measure: so that an attack depends on the measure and not on its arrays.

Absent atoms are left out, equal atoms are joined where the attack may split them, and atoms are
sorted. What is random in a search then falls on the same atoms however the measure was written.
"""

from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from ..attention import AnyMeasure
from ..measure import ConditionalMeasure, Measure
from .distances import widened


_Tree = TypeVar("_Tree")


class Canonical(eqx.Module):
    """A measure written canonically, and where its atoms were.

    Args:
      measure: the measure, with the masses and points of the original.
      origin: the flat index of the original atom (the first of those joined), in the layout of
        `measure.masses`; -1 for padding.
    """

    measure: AnyMeasure
    origin: Int[np.ndarray, "*n"]


def at_least_single(tree: _Tree) -> _Tree:
    """The tree with half-precision arrays in float32: half precision cannot tell a search where to
    go, nor write down where it has been."""
    return widened(tree, np.float32)


def canonical(mu: AnyMeasure, *, merge: bool) -> Canonical:
    """The measure without absent atoms, in sorted order.

    Args:
      merge: whether equal atoms become one.

    Raises:
      TypeError: mu is no measure.
      ValueError: a batch of measures; no mass; a point with mass that is not finite.
    """
    if not isinstance(mu, Measure | ConditionalMeasure):
        raise TypeError(
            f"`mu` must be a Measure or a ConditionalMeasure; got {type(mu).__name__}. Wrap points "
            "with mf.Measure(points)."
        )
    plain = isinstance(mu, Measure)
    if mu.points.ndim != (2 if plain else 3):
        raise ValueError(
            f"`mu` must be one measure, not a batch; got points of shape {mu.points.shape}."
        )
    points, masses = np.asarray(mu.points), np.asarray(mu.masses)
    if not np.any(masses > 0):
        raise ValueError("`mu` must have mass; every weight is zero.")
    if not np.all(np.isfinite(points[masses > 0])):
        raise ValueError("`mu` must have finite points where it has mass; one holds NaN or inf.")
    if plain:
        return _plain(mu, merge)
    return _conditional(mu, merge)


def _plain(mu: Measure, merge: bool) -> Canonical:
    points, weights, first = _sorted(np.asarray(mu.points), np.asarray(mu.weights), merge)
    return Canonical(Measure(jnp.asarray(points), jnp.asarray(weights)), first)


def _conditional(mu: ConditionalMeasure, merge: bool) -> Canonical:
    """Positions stay where they are (scores may depend on them); fibres are written canonically."""
    base, weights = np.asarray(mu.base), np.asarray(mu.weights)
    s = int(np.flatnonzero(np.any(np.asarray(mu.masses) > 0, axis=1)).max()) + 1
    points = np.asarray(mu.points)[:s]
    weights = np.where(base[:s, None] > 0, weights[:s], 0)
    fibres = [_sorted(x, w, merge) for x, w in zip(points, weights, strict=True)]
    size = max(len(first) for *_, first in fibres)
    origin = np.full((s, size), -1)
    filled = np.zeros((s, size, mu.dim), points.dtype), np.zeros((s, size), weights.dtype)
    for position, (x, w, first) in enumerate(fibres):
        filled[0][position, : len(w)], filled[1][position, : len(w)] = x, w
        origin[position, : len(w)] = position * mu.points.shape[1] + first
    points, weights = (jnp.asarray(array) for array in filled)
    return Canonical(ConditionalMeasure(points, weights, jnp.asarray(base[:s])), origin)


def _sorted(points, weights, merge: bool):
    """The atoms that have mass in lexicographic order, and the index that each had first."""
    present = np.flatnonzero(weights)
    points, weights = points[present] + 0.0, weights[present]  # no negative zeros
    order = np.lexsort((weights, *points.T[::-1]))
    points, weights, present = points[order], weights[order], present[order]
    if not merge or len(weights) == 0:
        return points, weights, present
    fresh = np.concatenate([[True], np.any(points[1:] != points[:-1], axis=1)])
    group = np.cumsum(fresh) - 1
    joined = np.zeros(group[-1] + 1, weights.dtype)
    np.add.at(joined, group, weights)
    first = np.full(len(joined), np.iinfo(present.dtype).max)
    np.minimum.at(first, group, present)
    return points[fresh], joined, first
