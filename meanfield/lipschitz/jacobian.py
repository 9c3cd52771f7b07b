r"""The derivative of an in-context map at a measure, as linear maps between tangent fields.

Two derivatives matter. J moves all atoms, in the points and in the context together; D = (D_i)
moves each query while the context stays. Splitting an atom into copies that move apart leaves the
context's barycentre where it was, so it feels D alone (docs: theory/regularity).
"""

from collections.abc import Callable
from functools import singledispatch

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.attention import (
    AbstractAttention,
    AbstractInContextMap,
    AnyMeasure,
    AttentionDerivative,
    CausalAttention,
)


class LinearisedMap(eqx.Module):
    """J and D of any map, by automatic linearisation.

    `smooth` and `smooth_transpose` apply J and its Euclidean transpose, `split` and
    `split_transpose` apply D; tangent fields have the layout of `mu.points`.
    """

    smooth: Callable[[Array], Array]
    split: Callable[[Array], Array]
    points: Float[Array, "*n d"]
    outputs: Float[Array, "*n e"]

    def __init__(self, f: AbstractInContextMap, mu: AnyMeasure):
        self.points = mu.points
        outputs, self.smooth = jax.linearize(lambda x: f(mu.with_points(x)).points, mu.points)
        _, self.split = jax.linearize(lambda x: f.at(mu, x), mu.points)
        self.outputs = jnp.zeros_like(outputs)

    def smooth_transpose(self, w: Float[Array, "*n e"]) -> Float[Array, "*n d"]:
        """J^T w."""
        return jax.linear_transpose(self.smooth, self.points)(w)[0]

    def split_transpose(self, w: Float[Array, "*n e"]) -> Float[Array, "*n d"]:
        """(D_i^T w_i)_i."""
        return jax.linear_transpose(self.split, self.points)(w)[0]


@singledispatch
def jacobian(f: AbstractInContextMap, mu: AnyMeasure) -> LinearisedMap | AttentionDerivative:
    """The derivatives of f at mu: in closed form for attention, by linearisation otherwise."""
    return LinearisedMap(f, mu)


@jacobian.register
def _(f: AbstractAttention, mu: AnyMeasure) -> AttentionDerivative:
    return AttentionDerivative(f, mu)


@jacobian.register
def _(f: CausalAttention, mu: AnyMeasure) -> AttentionDerivative:
    return AttentionDerivative(f.attention, mu, f.mask)
