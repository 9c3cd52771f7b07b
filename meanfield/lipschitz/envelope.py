r"""Derivatives of local constants, by the envelope theorem.

A constant is the largest of the quotients $q_t(f, \mu) = |Jt|_\mu / |t|_\mu$ over tangents t. At
the best one the quotient is stationary in t, so the constant changes as the quotient of that
tangent does (docs: theory/regularity, "The derivative of the constant"). The search need not be
differentiated.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.attention import AbstractInContextMap, AnyMeasure

from .jacobian import jacobian


Parts = tuple[Float[Array, ""], ...]
Fields = tuple[Float[Array, "*n d"], ...]


def held(tree: Any) -> Any:
    """The tree with its arrays held fixed by derivatives."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, tree)


@eqx.filter_custom_jvp
def moving(parts: Parts, fields: Fields, f: AbstractInContextMap, mu: AnyMeasure) -> Parts:
    """The smooth part, and the split part if there is one, that move with f and mu: as their
    quotients at the tangents `fields` do."""
    return parts


@moving.def_jvp
def _(primals, tangents):
    parts, fields, f, mu = primals
    fields = _once(fields, f, mu)

    def of_fields(f, mu):
        return quotients(f, mu, fields)

    dots = eqx.filter_jvp(of_fields, (f, mu), tangents[2:])[1]
    return parts, dots


@eqx.filter_custom_jvp
def _once(fields: Fields, f: AbstractInContextMap, mu: AnyMeasure) -> Fields:
    """The tangents; whoever differentiates again would miss that they turn with f and mu."""
    return fields


@_once.def_jvp
def _(primals, tangents):
    raise NotImplementedError(
        "`local_lipschitz` has first derivatives only. For a second one, take finite differences "
        "of the first."
    )


def quotients(f: AbstractInContextMap, mu: AnyMeasure, fields: Fields) -> Parts:
    r"""$|J t|_\mu / |t|_\mu$ for the first tangent and $|D t|_\mu / |t|_\mu$ for the second."""
    derivative = jacobian(f, mu)
    images = [derivative.smooth(fields[0])]
    images += [derivative.split(field) for field in fields[1:]]
    return tuple(
        _length(mu, image) / _length(mu, field) for image, field in zip(images, fields, strict=True)
    )


def _length(mu: AnyMeasure, field: Float[Array, "*n d"]) -> Float[Array, ""]:
    r"""$|v|_\mu$, at least the smallest number, with the derivative zero at zero."""
    squared = jnp.sum(mu.masses * jnp.sum(field**2, axis=-1))
    positive = squared > 0
    tiny = jnp.finfo(squared.dtype).tiny
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), tiny)
