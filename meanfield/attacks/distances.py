"""Exact distances before and after a map, on the host in float64 whatever dtype measures have.

The search may run in float32; what it found is measured again. JAX's own callbacks cannot be used:
the scope of `jax.enable_x64` does not reach the thread in which they run.
"""

import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..attention import AbstractInContextMap, AnyMeasure
from ..measure import ConditionalMeasure
from ..transport.bottleneck_flow import in_units
from ..transport.bottleneck_search import least_threshold
from .comparison import Matching


Rows = Float[np.ndarray, "_ _"]
Column = Float[np.ndarray, " _"]


class Distances(eqx.Module):
    """The exact distances between two measures and between their images, which are kept."""

    mu: AnyMeasure
    nu: AnyMeasure
    image_before: AnyMeasure
    image_after: AnyMeasure
    p: float

    @property
    def before(self) -> float:
        """The distance of the measures."""
        return exact_distance(self.mu, self.nu, self.p)

    @property
    def after(self) -> float:
        """The distance of their images."""
        return exact_distance(self.image_before, self.image_after, self.p)

    def matching(self) -> Matching:
        """The optimal coupling of the images; for p = inf that of a large p."""
        return optimal_matching(self.image_before, self.image_after, min(self.p, 8.0))


def distances(f: AbstractInContextMap, mu: AnyMeasure, nu: AnyMeasure, p: float) -> Distances:
    """Both distances, the images computed with f, mu and nu widened to float64."""
    with jax.enable_x64(True):
        wide = [_widened(tree) for tree in (f, mu, nu)]
        return Distances(mu, nu, *_images(*wide), p)


@eqx.filter_jit
def _images(f, mu, nu):
    return f(mu), f(nu)


def _widened(tree: Any) -> Any:
    def wide(leaf):
        real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(np.asarray(leaf), jnp.float64) if real else leaf

    return jax.tree.map(wide, tree)


def exact_distance(mu: AnyMeasure, nu: AnyMeasure, p: float) -> float:
    r"""$W_p(\mu, \nu)$; the conditional distance for conditional measures of equal bases."""
    if isinstance(mu, ConditionalMeasure):
        return _conditional(mu, nu, p)
    return _distance(*_atoms(mu), *_atoms(nu.atoms), p)


def _conditional(mu: ConditionalMeasure, nu: AnyMeasure, p: float) -> float:
    base = np.asarray(mu.base, np.float64)
    x, a, y, b = (
        np.asarray(array, np.float64) for array in (mu.points, mu.weights, nu.points, nu.weights)
    )
    each = np.array(
        [_distance(*_present(x[s], a[s]), *_present(y[s], b[s]), p) for s in np.flatnonzero(base)]
    )
    base = base[base > 0]
    if math.isinf(p):
        return float(each.max(initial=0.0))
    return float(_root(np.sum(base * (each / _top(each)) ** p), p) * _top(each))


def _atoms(mu: AnyMeasure) -> tuple[Rows, Column]:
    return _present(np.asarray(mu.points, np.float64), np.asarray(mu.weights, np.float64))


def _present(points: Rows, weights: Column) -> tuple[Rows, Column]:
    return points[weights > 0], weights[weights > 0]


def _distance(x: Rows, a: Column, y: Rows, b: Column, p: float) -> float:
    """W_p between atoms that all have mass; the masses are equal up to rounding."""
    if len(a) == 0:
        return 0.0
    apart = np.stack([np.linalg.norm(y - point, axis=1) for point in x])
    if not np.all(np.isfinite(apart)):
        return math.nan
    if math.isinf(p):
        return float(least_threshold(apart, in_units(a, b)).value)
    top = _top(apart)
    return float(top * _root(np.sum(_plan(apart, a, b, p) * (apart / top) ** p), p))


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
        apart = np.stack([np.linalg.norm(y[there] - point, axis=1) for point in x[here]])
        plan = _plan(apart, a[here], b[there], p)
        i, j = np.nonzero(plan)
        rows[: len(i)], cols[: len(i)] = here[i], there[j]
        shares[: len(i)] = (plan / plan.sum(axis=0))[i, j]
    return rows, cols, shares


def _plan(apart: Rows, a: Column, b: Column, p: float) -> Rows:
    """An optimal coupling for the cost |x - y|^p, of the mass of a."""
    if len(a) == 1 or len(b) == 1:
        return a[:, None] * b[None] / b.sum()
    import ot

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a plan that is not optimal is no distance
        costs = (apart / _top(apart)) ** p
        return a.sum() * ot.emd(a / a.sum(), b / b.sum(), costs, numItermax=10_000_000)


def _top(values: np.ndarray) -> float:
    """The largest value, or one: what is divided by it neither overflows nor vanishes."""
    return float(values.max(initial=0.0)) or 1.0


def _root(power: float, p: float) -> float:
    return power ** (1 / p)
