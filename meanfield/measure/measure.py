"""The measure: mu = sum_i w_i delta_{x_i}, points and nonnegative weights."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int


class Measure(eqx.Module):
    r"""A discrete measure $\mu = \sum_i w_i \delta_{x_i}$ on $\mathbb{R}^d$.

    An atom of weight zero is absent: every function of a measure gives the same answer with and
    without it. A batch of measures is a `Measure` whose arrays have a leading axis (`stack`,
    `jax.vmap`).

    Args:
      points: shape (n, d); integers become floats of the default precision.
      weights: shape (n,), nonnegative; by default 1/n each, a total mass of one.

    Raises:
      ValueError: the shapes do not match, or a weight is negative or not finite (values are
        checked when they are known, that is outside `jax.jit`).
    """

    points: Float[Array, "*batch n d"]
    weights: Float[Array, "*batch n"]

    def __init__(self, points: Any, weights: Any = None):
        self.points = _floating(points)
        if self.points.ndim < 2:
            raise ValueError(
                f"`points` must have shape (n, d); got {self.points.shape}. "
                "For points on a line use shape (n, 1): points[:, None]."
            )
        shape = self.points.shape[:-1]
        if weights is None:
            weights = jnp.full(shape, 1.0 / max(shape[-1], 1), self.points.dtype)
        self.weights = _check_weights(jnp.asarray(weights, self.points.dtype), shape, self.points)

    @property
    def size(self) -> int:
        """The number n of atoms, absent ones included."""
        return self.points.shape[-2]

    @property
    def dim(self) -> int:
        """The dimension d of the space."""
        return self.points.shape[-1]

    @property
    def masses(self) -> Float[Array, "*batch n"]:
        """The mass of each atom, in the layout of `points`."""
        return self.weights

    @property
    def atoms(self) -> "Measure":
        """All atoms as one plain measure: this one."""
        return self

    @property
    def positions(self) -> None:
        """A plain measure has no order, so its atoms have no positions."""
        return None

    @property
    def present(self) -> Bool[Array, "*batch n"]:
        """Which atoms have mass."""
        return self.weights > 0

    @property
    def mass(self) -> Float[Array, "*batch"]:
        """The total mass, sum_i w_i."""
        return jnp.sum(self.weights, axis=-1)

    @property
    def mean(self) -> Float[Array, "*batch d"]:
        """The barycentre, sum_i w_i x_i / mass."""
        return jnp.einsum("...n,...nd->...d", self.weights, self._seen) / self.mass[..., None]

    @property
    def covariance(self) -> Float[Array, "*batch d d"]:
        """The covariance, sum_i w_i (x_i - mean)(x_i - mean)^T / mass."""
        centred = self._seen - self.mean[..., None, :]
        moment = jnp.einsum("...n,...nd,...ne->...de", self.weights, centred, centred)
        return moment / self.mass[..., None, None]

    @property
    def radius(self) -> Float[Array, "*batch"]:
        """The largest Euclidean norm of an atom that has mass."""
        return jnp.max(_norms(self._seen), axis=-1, initial=0.0)

    @property
    def _seen(self) -> Float[Array, "*batch n d"]:
        """The points, with zeros where an atom is absent, so that what is there cannot matter."""
        return jnp.where(self.present[..., None], self.points, 0)

    def with_points(self, points: Float[Array, "*batch n e"]) -> "Measure":
        """The same masses at other points."""
        return Measure(points, self.weights)

    def normalize(self) -> "Measure":
        """The measure of total mass one with the same proportions; a measure without mass stays."""
        mass = self.mass[..., None]
        return Measure(self.points, self.weights / jnp.where(mass > 0, mass, 1.0))

    def pushforward(self, f: Callable[[Array], Array]) -> "Measure":
        """The image measure under a map of points, `f: (d,) -> (e,)`.

        An in-context map, whose value depends on the measure itself, acts by calling it: `f(mu)`.
        """
        over = f
        for _ in self.weights.shape:
            over = jax.vmap(over)
        return self.with_points(over(self.points))

    def split(self, copies_or_index: int, fractions: Any = None) -> "Measure":
        """The same measure written with more atoms.

        `split(copies)` replaces each atom by that many equal copies; `split(index, fractions)`
        replaces one atom by copies that carry the given fractions of its mass (they sum to one).
        """
        if fractions is None:
            return self._split_all(copies_or_index)
        return self._split_one(copies_or_index, _check_fractions(fractions))

    def _split_all(self, copies: int) -> "Measure":
        if copies < 1:
            raise ValueError(f"`copies` must be at least 1; got {copies}.")
        weights = jnp.repeat(self.weights, copies, axis=-1) / copies
        return Measure(jnp.repeat(self.points, copies, axis=-2), weights)

    def _split_one(self, index: int, fractions: Any) -> "Measure":
        if not -self.size <= index < self.size:
            raise ValueError(f"`index` must name one of {self.size} atoms; got {index}.")
        index = index % self.size
        keep = np.concatenate(
            [np.arange(index), np.full(len(fractions), index), np.arange(index + 1, self.size)]
        )
        share = jnp.ones(len(keep), self.weights.dtype)
        share = share.at[index : index + len(fractions)].set(jnp.asarray(fractions, share.dtype))
        return Measure(self.points[..., keep, :], self.weights[..., keep] * share)

    def pad(self, n: int) -> "Measure":
        """The same measure with absent atoms appended, `n` in all."""
        more = n - self.size
        if more < 0:
            raise ValueError(f"`n` must be at least the present size {self.size}; got {n}.")
        batch = [(0, 0)] * (self.weights.ndim - 1)
        points = jnp.pad(self.points, [*batch, (0, more), (0, 0)])
        return Measure(points, jnp.pad(self.weights, [*batch, (0, more)]))

    def restrict(self, n: int) -> "Measure":
        """The first `n` atoms, with the mass they have."""
        if n > self.size:
            raise ValueError(f"`n` must be at most the present size {self.size}; got {n}.")
        return Measure(self.points[..., :n, :], self.weights[..., :n])

    def merge(self, tol: float = 0.0) -> "Measure":
        """The same measure with equal atoms joined: the first keeps the mass of them all.

        The size stays (shapes are static under `jax.jit`); joined atoms are left with zero weight.
        With `tol` > 0, atoms within that distance of an earlier one join it. O(n^2 d) time, O(n d)
        memory.
        """
        if self.weights.ndim > 1:
            return jax.vmap(lambda mu: mu.merge(tol))(self)
        keeper = _first_equal(self, tol)
        weights = jnp.zeros_like(self.weights).at[keeper].add(self.weights)
        return Measure(self.points, weights)


def _norms(x: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Euclidean norms, in the unit of the largest coordinate: squares leave the range first."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0.0))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return unit[..., 0] * jnp.linalg.norm(x / unit, axis=-1)


def _first_equal(mu: Measure, tol: float) -> Int[Array, " n"]:
    """The index of the earliest present atom that each atom joins (itself if there is none)."""
    index = jnp.arange(mu.size)

    def first(i):
        gap = jnp.max(jnp.abs(mu.points - mu.points[i]), axis=-1)
        if tol > 0:
            gap = jnp.linalg.norm(mu.points - mu.points[i], axis=-1)
        joins = (gap <= tol) & mu.present & (index <= i)
        return jnp.where(mu.present[i], jnp.argmax(joins), i)

    keeper = jax.lax.map(first, index)
    for _ in range(max(mu.size - 1, 1).bit_length()):  # a joins b joins c: a joins c
        keeper = keeper[keeper]
    return keeper


def _floating(x: Any) -> Float[Array, "..."]:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def _check_fractions(fractions: Any) -> Any:
    """Fractions of an atom, checked where they are known (outside `jax.jit`)."""
    if isinstance(fractions, Tracer):
        return fractions
    known = np.asarray(fractions, float)
    if np.any(known < 0):
        raise ValueError(f"`fractions` must be nonnegative; got {known[known < 0][0]}.")
    if not abs(known.sum() - 1) <= 1e-5:
        raise ValueError(f"`fractions` must sum to 1; got {known.sum():.6g}.")
    return fractions if isinstance(fractions, Array) else known


def _check_weights(
    weights: Array, shape: tuple[int, ...], points: Array, name: str = "weights"
) -> Array:
    if weights.shape != shape:
        raise ValueError(
            f"`{name}` must have shape {shape} to match `points` of shape {points.shape}; "
            f"got {weights.shape}."
        )
    if not isinstance(weights, Tracer):
        known = np.asarray(weights)
        if not np.all(np.isfinite(known)) or np.any(known < 0):
            bad = known[~(np.isfinite(known) & (known >= 0))].flat[0]
            raise ValueError(
                f"`{name}` must be finite and nonnegative; got {bad}. Use zero where nothing is."
            )
    return weights
