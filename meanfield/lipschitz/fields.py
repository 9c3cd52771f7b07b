"""Tangent fields one entry at a time, lengths with gradients, and the best of a search."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Best(eqx.Module):
    """The best value of a search over atoms, the atom, and the point or direction found."""

    value: Float[Array, ""]
    atom: Int[Array, ""]
    point: Float[Array, " d"]


def alone_like(field: Float[Array, "*n d"], i: Int[Array, ""], u: Float[Array, " d"]) -> Array:
    """A field of the layout of `field` that is u at atom i and zero elsewhere."""
    return put(jnp.zeros_like(field), i, u)


def put(field: Float[Array, "*n d"], i: Int[Array, ""], u: Float[Array, " d"]) -> Array:
    """The field with u at atom i."""
    return field.reshape(-1, field.shape[-1]).at[i].set(u).reshape(field.shape)


def entry_of(field: Float[Array, "*n d"], i: Int[Array, ""]) -> Float[Array, " d"]:
    """The value of the field at atom i."""
    return field.reshape(-1, field.shape[-1])[i]


def lengths(x: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Euclidean lengths along the last axis, of zero gradient at zero."""
    squared = jnp.sum(x**2, axis=-1)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def unit(x: Float[Array, "*n d"], otherwise: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """x over its length along the last axis, or `otherwise` where it vanishes."""
    size = lengths(x)[..., None]
    return jnp.where(size > 0, x / jnp.where(size > 0, size, 1.0), otherwise)
