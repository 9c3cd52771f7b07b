"""Exact distances before and after a map, on the host in float64 whatever dtype measures have.

The search may run in float32; what it found is measured again. JAX's own callbacks cannot be used:
the scope of `jax.enable_x64` does not reach the thread in which they run.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ..attention import AbstractInContextMap, AnyMeasure
from ..measure import ConditionalMeasure
from ..transport.bottleneck_flow import in_units
from ..transport.bottleneck_search import least_threshold
from ..transport.network_simplex import Vertex, optimal_vertex
from ..transport.plan import Status
from .comparison import Matching
from .copies import in_layout


Rows = Float[np.ndarray, "_ _"]
Column = Float[np.ndarray, " _"]

_MAX_STEPS = 10_000_000  # of the network simplex


class Distances(eqx.Module):
    """The exact distances between two measures and between their images, which are kept.

    Args:
      mu, nu, image_before, image_after: measures in float64.
      parents: for each atom of nu, the flat index of the atom of mu that it is a part of.
      p: the exponent.
    """

    mu: AnyMeasure
    nu: AnyMeasure
    parents: Int[np.ndarray, " _"]
    image_before: AnyMeasure
    image_after: AnyMeasure
    p: float

    @property
    def before(self) -> float:
        """The distance of the measures: never above what moving each part from its parent costs."""
        return min(exact_distance(self.mu, self.nu, self.p), self.moved)

    @property
    def after(self) -> float:
        """The distance of their images."""
        return exact_distance(self.image_before, self.image_after, self.p)

    @property
    def displacement(self) -> float:
        """The longest move of a part that has mass."""
        return float(np.max(self._moves[0], initial=0.0))

    @property
    def moved(self) -> float:
        """The $L^p$ norm of the moves."""
        lengths, masses = self._moves
        return _norm(lengths, masses, self.p)

    @property
    def _moves(self) -> tuple[Column, Column]:
        """The length of each move and the mass that makes it."""
        x, (y, b) = np.asarray(self.mu.atoms.points), map(np.asarray, _flat(self.nu))
        seen = b > 0
        return np.linalg.norm(y[seen] - x[self.parents[seen]], axis=-1), b[seen]

    def matching(self) -> Matching:
        """The optimal coupling of the images; for p = inf that of a large p."""
        return optimal_matching(self.image_before, self.image_after, min(self.p, 8.0))


def distances(
    f: AbstractInContextMap,
    mu: AnyMeasure,
    nu: AnyMeasure,
    parents: Int[np.ndarray, " _"],
    p: float,
) -> Distances:
    """Both distances, the images computed with f, mu and nu widened to float64.

    The masses of the parts are widened so that they make up the mass of their parent: the rounding
    of a narrower type, left over, would have to travel to another atom.
    """
    with jax.enable_x64(True):
        wide_f, wide_mu, wide_nu = (widened(tree, np.float64) for tree in (f, mu, nu))
        wide_nu = _shared_out(wide_mu, wide_nu, parents)
        return Distances(wide_mu, wide_nu, parents, *_images(wide_f, wide_mu, wide_nu), p)


def _shared_out(mu: AnyMeasure, nu: AnyMeasure, parents: Int[np.ndarray, " _"]) -> AnyMeasure:
    """nu with the masses of the parts of each atom scaled to sum to the mass of that atom."""
    whole, parts = (np.asarray(each.weights).reshape(-1) for each in (mu, nu))
    sums = np.bincount(parents, parts, len(whole))[parents]
    parts = np.where(sums > 0, parts * (whole[parents] / np.where(sums > 0, sums, 1)), 0)
    return in_layout(nu, nu.points, jnp.asarray(parts.reshape(nu.weights.shape)))


@eqx.filter_jit
def _images(f, mu, nu):
    return f(mu), f(nu)


def widened(tree: Any, dtype: Any) -> Any:
    """The tree with the real arrays that are narrower than `dtype` in it."""

    def wide(leaf):
        real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        narrow = real and jnp.finfo(leaf.dtype).bits < jnp.finfo(dtype).bits
        return jnp.asarray(np.asarray(leaf).astype(dtype)) if narrow else leaf

    return jax.tree.map(wide, tree)


def exact_distance(mu: AnyMeasure, nu: AnyMeasure, p: float) -> float:
    r"""$W_p(\mu, \nu)$; the conditional distance for conditional measures of equal bases."""
    if isinstance(mu, ConditionalMeasure):
        return _conditional(mu, nu, p)
    return _distance(*_present(*_flat(mu)), *_present(*_flat(nu)), p)


def _conditional(mu: ConditionalMeasure, nu: AnyMeasure, p: float) -> float:
    base = np.asarray(mu.base, np.float64)
    x, a, y, b = (np.asarray(array) for array in (mu.points, mu.weights, nu.points, nu.weights))
    each = [
        _distance(*_present(x[s], a[s]), *_present(y[s], b[s]), p) for s in np.flatnonzero(base)
    ]
    return _norm(np.array(each), base[base > 0], p)


def _flat(mu: AnyMeasure) -> tuple[Rows, Column]:
    return np.asarray(mu.atoms.points), np.asarray(mu.atoms.weights)


def _present(points: Rows, weights: Column) -> tuple[Rows, Column]:
    """The atoms that have mass: points in float64, weights in the precision that they are meant."""
    return points[weights > 0].astype(np.float64), weights[weights > 0]


def _distance(x: Rows, a: Column, y: Rows, b: Column, p: float) -> float:
    """W_p between atoms that all have mass; the masses are equal up to rounding."""
    if len(a) == 0:
        return 0.0
    apart = _apart(x, y)
    if not np.all(np.isfinite(apart)):
        return math.nan
    if math.isinf(p):
        return float(least_threshold(apart, in_units(a, b)).value)
    return float(_top(apart) * _root(_vertex(apart, a, b, p).value, p))


def optimal_matching(before: AnyMeasure, after: AnyMeasure, p: float) -> Matching:
    """The entries of an optimal coupling, of the sizes that `own_atoms` has."""
    x, a, y, b = (
        np.asarray(array, np.float64)
        for array in (before.points, before.weights, after.points, after.weights)
    )
    if not isinstance(before, ConditionalMeasure):
        return Matching(*_entries(x, a, y, b, p))
    n, m = a.shape[1], b.shape[1]
    each = [_entries(x[s], a[s], y[s], b[s], p) for s in range(len(x))]
    rows = np.concatenate([found[0] + s * n for s, found in enumerate(each)])
    cols = np.concatenate([found[1] + s * m for s, found in enumerate(each)])
    return Matching(rows, cols, np.concatenate([found[2] for found in each]))


def _entries(x: Rows, a: Column, y: Rows, b: Column, p: float):
    """Rows, columns and shares of the mass of the column, n + m - 1 of each."""
    size, (here, there) = len(a) + len(b) - 1, (np.flatnonzero(a), np.flatnonzero(b))
    rows, cols, shares = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size)
    if len(here):
        found = _vertex(_apart(x[here], y[there]), a[here], b[there], p)
        count, arrived = len(found.rows), np.bincount(found.cols, found.masses)
        rows[:count], cols[:count] = here[found.rows], there[found.cols]
        shares[:count] = found.masses / arrived[found.cols]
    return rows, cols, shares


def _vertex(apart: Rows, a: Column, b: Column, p: float) -> Vertex:
    """An optimal coupling for the cost |x - y|^p, in the unit of the longest, of the mass of a."""
    a, b = (weights.astype(np.float64) for weights in (a, b))
    found = optimal_vertex((apart / _top(apart)) ** p, a, b * (a.sum() / b.sum()), _MAX_STEPS)
    if found.status != Status.successful:  # a plan that is not optimal is no distance
        raise RuntimeError(f"Exact transport between {len(a)} and {len(b)} atoms was not solved.")
    return found


def _apart(x: Rows, y: Rows) -> Rows:
    return np.stack([np.linalg.norm(y - point, axis=1) for point in x])


def _norm(lengths: Column, masses: Column, p: float) -> float:
    """The norm of $L^p$ of the masses."""
    top = _top(lengths)
    if math.isinf(p):
        return float(np.max(lengths, initial=0.0))
    return float(top * _root(np.sum(masses * (lengths / top) ** p), p))


def _top(values: np.ndarray) -> float:
    """The largest value, or one: what is divided by it neither overflows nor vanishes."""
    return float(values.max(initial=0.0)) or 1.0


def _root(power: float, p: float) -> float:
    return power ** (1 / p)
