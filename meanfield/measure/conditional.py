"""The conditional measure: a measure on (position, point) with a fibre measure at each position.

Tokens over positions are the example at hand: mu = sum_s theta_s delta_s x mu_s, where the base
weights theta are fixed and mu_s is the fibre at position s. For a plain sequence each fibre is a
Dirac. Transport between such measures moves mass inside fibres only (conditional transport).
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .measure import Measure, _check_weights, _floating


class ConditionalMeasure(eqx.Module):
    r"""A measure $\mu = \sum_s \theta_s\, \delta_s \otimes \mu_s$ with fibres
    $\mu_s = \sum_j w_{sj} \delta_{x_{sj}}$.

    Args:
      points: shape (s, k, d), the k atoms of each of the s fibres.
      weights: shape (s, k), nonnegative, the weights inside each fibre (1/k by default); zero
        means absent.
      base: shape (s,), nonnegative base weights theta (1/s by default); zero means that the
        position is absent. The order of the positions is part of the measure.

    Raises:
      ValueError: shapes that do not match, negative weights.
    """

    points: Float[Array, "*batch s k d"]
    weights: Float[Array, "*batch s k"]
    base: Float[Array, "*batch s"]

    def __init__(self, points: Any, weights: Any = None, base: Any = None):
        self.points = _floating(points)
        if self.points.ndim < 3:
            raise ValueError(
                f"`points` must have shape (s, k, d); got {self.points.shape}. For one token a "
                "position use ConditionalMeasure.from_sequence(points)."
            )
        fibres = Measure(self.points, weights)
        self.weights = fibres.weights
        shape = self.points.shape[:-2]
        if base is None:
            base = jnp.full(shape, 1.0 / max(shape[-1], 1), self.points.dtype)
        base = jnp.asarray(base, self.points.dtype)
        self.base = _check_weights(base, shape, self.points, "base")

    @classmethod
    def from_sequence(cls, x: Any, base: Any = None) -> "ConditionalMeasure":
        """A sequence x of shape (s, d) as a conditional measure: one atom at each position."""
        points = _floating(x)
        if points.ndim < 2:
            raise ValueError(f"`x` must have shape (s, d); got {points.shape}.")
        points = points[..., None, :]
        return cls(points, jnp.ones(points.shape[:-1], points.dtype), base)

    @property
    def size(self) -> int:
        """The number s of positions, absent ones included."""
        return self.points.shape[-3]

    @property
    def dim(self) -> int:
        """The dimension d of the fibres' space."""
        return self.points.shape[-1]

    @property
    def fibres(self) -> Measure:
        """The s fibre measures, stacked along the leading axis."""
        return Measure(self.points, self.weights)

    @property
    def masses(self) -> Float[Array, "*batch s k"]:
        """The mass theta_s w_sj of each atom, in the layout of `points`."""
        return self.base[..., None] * self.weights

    @property
    def mass(self) -> Float[Array, "*batch"]:
        """The total mass."""
        return jnp.sum(self.masses, axis=(-2, -1))

    @property
    def atoms(self) -> Measure:
        """All atoms as one plain measure of s k atoms, positions forgotten."""
        *batch, s, k, d = self.points.shape
        return Measure(self.points.reshape(*batch, s * k, d), self.masses.reshape(*batch, s * k))

    @property
    def positions(self) -> Int[Array, " sk"]:
        """The position of each atom of `atoms`: 0 k times, then 1 k times, ..."""
        return jnp.repeat(jnp.arange(self.size), self.points.shape[-2])

    @property
    def radius(self) -> Float[Array, "*batch"]:
        """The largest Euclidean norm of an atom that has mass."""
        return self.atoms.radius

    def with_points(self, points: Float[Array, "*batch s k e"]) -> "ConditionalMeasure":
        """The same masses at other points."""
        return ConditionalMeasure(points, self.weights, self.base)

    def pushforward(self, f) -> "ConditionalMeasure":
        """The image under a map of points, `f: (d,) -> (e,)`, in every fibre."""
        return self.with_points(self.fibres.pushforward(f).points)

    def split(self, copies: int) -> "ConditionalMeasure":
        """The same measure with each atom of each fibre written as that many equal copies."""
        fibres = self.fibres.split(copies)
        return ConditionalMeasure(fibres.points, fibres.weights, self.base)

    def merge(self, tol: float = 0.0) -> "ConditionalMeasure":
        """The same measure with equal atoms of a fibre joined (see `Measure.merge`)."""
        return ConditionalMeasure(self.points, self.fibres.merge(tol).weights, self.base)

    def pad(self, s: int) -> "ConditionalMeasure":
        """The same measure with absent positions appended, `s` in all."""
        more = s - self.size
        if more < 0:
            raise ValueError(f"`s` must be at least the present size {self.size}; got {s}.")
        batch = [(0, 0)] * (self.base.ndim - 1)
        points = jnp.pad(self.points, [*batch, (0, more), (0, 0), (0, 0)])
        weights = jnp.pad(self.weights, [*batch, (0, more), (0, 0)])
        return ConditionalMeasure(points, weights, jnp.pad(self.base, [*batch, (0, more)]))

    def restrict(self, s: int) -> "ConditionalMeasure":
        """The first `s` positions, with the base mass they have."""
        if s > self.size:
            raise ValueError(f"`s` must be at most the present size {self.size}; got {s}.")
        return ConditionalMeasure(
            self.points[..., :s, :, :], self.weights[..., :s, :], self.base[..., :s]
        )
