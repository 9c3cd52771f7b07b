"""Atoms written as copies: what an attack moves, and the measure that the moved copies make."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from ..attention import AnyMeasure
from ..measure import ConditionalMeasure, Measure


class Copies(eqx.Module):
    r"""Each atom $x_i$ of a measure as c copies, of shares $\beta_i = \mathrm{softmax}(b_i)$ of its
    mass, displaced by $w_{ic}$.

    Args:
      moves: the displacements w, a copy axis after the layout of the atoms.
      logits: the logarithms b of the shares, up to a constant of each atom.
    """

    moves: Float[Array | np.ndarray, "*n c d"]
    logits: Float[Array | np.ndarray, "*n c"]

    @property
    def shares(self) -> Float[Array, "*n c"]:
        """The share of each copy in the mass of its atom."""
        return jax.nn.softmax(self.logits, axis=-1)

    def masses(self, mu: AnyMeasure) -> Float[Array, "*n c"]:
        """The mass of each copy, zero for absent atoms."""
        return mu.masses[..., None] * self.shares

    def applied(self, mu: AnyMeasure) -> AnyMeasure:
        """The measure of the moved copies; the copies of an atom follow one another."""
        points = mu.points[..., None, :] + self.moves
        weights = mu.weights[..., None] * self.shares
        return in_layout(mu, _joined(points, axis=-2), _joined(weights, axis=-1))


def in_layout(mu: AnyMeasure, points: Array, weights: Array) -> AnyMeasure:
    """A measure of the kind of mu, on its base, with other atoms."""
    if isinstance(mu, Measure):
        return Measure(points, weights)
    return ConditionalMeasure(points, weights, mu.base)


def _joined(array: Array, axis: int) -> Array:
    """The copy axis, at `axis`, joined with the axis of atoms before it."""
    axis = array.ndim + axis
    n, c = array.shape[axis - 1 : axis + 1]
    return array.reshape(*array.shape[: axis - 1], n * c, *array.shape[axis + 1 :])
