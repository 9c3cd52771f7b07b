r"""What a tangent attains, evaluated in float64 whatever the precision of the search, and whether
that precision could see the derivative at all.

The derivative of attention depends on differences of scores. Where scores are so large that their
rounding changes shares, a search looks at the derivative of another map, and its residual knows
nothing of it. Gaussian fields tell: $E |\Delta g|^2 = \|\Delta\|_F^2$ for the difference
$\Delta$ of the two derivatives, in orthonormal coordinates of $|\cdot|_\mu$.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from meanfield.attention import AbstractInContextMap, AnyMeasure

from .double import in_double
from .jacobian import jacobian


Field = Float[Array, "*n d"]
Image = Float[Array, "*n e"]

# An error of the derivative, relative to its norm, that a search may have.
BLUR = 1e-2


def root_masses(mu: AnyMeasure) -> tuple[Float[Array, "*n 1"], Float[Array, "*n 1"]]:
    """The square roots of the masses and their inverses, zero for absent atoms."""
    present = mu.masses > 0
    root = jnp.sqrt(jnp.where(present, mu.masses, 1))
    return jnp.where(present, root, 0)[..., None], jnp.where(present, 1 / root, 0)[..., None]


class Attained(eqx.Module):
    """What a search in some precision is worth in float64.

    Attributes:
      lower: |J t|_mu / |t|_mu at its tangent, or |D t|_mu / |t|_mu, less 64 epsilon.
      blur: how far J and its transpose were from those of float64, in Frobenius norm as Gaussian
        fields tell it.
    """

    lower: Float[Array, ""]
    blur: Float[Array, ""]

    @classmethod
    def by(
        cls, f: AbstractInContextMap, mu: AnyMeasure, tangent: Field, split: Array, seen: "Seen"
    ) -> "Attained":
        """Of a tangent, of D if `split`, where the search has `seen` these images."""
        minus, blur = in_double(_in_double, f, mu, tangent, split, seen, _margin(tangent))
        return cls(-minus, blur)


class Seen(eqx.Module):
    """Gaussian fields, before and after, and their images by J and its transpose."""

    before: Field
    after: Image
    forward: Image
    backward: Field

    @classmethod
    def by(cls, derivative: Any, mu: AnyMeasure, key: PRNGKeyArray) -> "Seen":
        """The images by a derivative, in its precision."""
        x, y = derivative.points, derivative.outputs
        root, inverse = root_masses(mu)
        keys = jr.split(key)
        before = inverse * jr.normal(keys[0], x.shape, x.dtype)
        after = root * jr.normal(keys[1], y.shape, y.dtype)
        return cls(before, after, derivative.smooth(before), derivative.smooth_transpose(after))


def _in_double(f, mu, tangent, split, seen, margin):
    """Minus the lower bound, since results are rounded upwards, and the blur."""
    derivative, (root, inverse) = jacobian(f, mu), root_masses(mu)
    # functions, since methods of modules with arrays cannot be hashed
    moved = jax.lax.cond(
        split, lambda v: derivative.split(v), lambda v: derivative.smooth(v), tangent
    )
    length = jnp.linalg.norm(root * tangent)
    ratio = jnp.linalg.norm(root * moved) / jnp.where(length > 0, length, 1)
    forward = root * (derivative.smooth(seen.before) - seen.forward)
    backward = inverse * (derivative.smooth_transpose(seen.after) - seen.backward)
    missed = jnp.maximum(jnp.linalg.norm(forward), jnp.linalg.norm(backward))
    return (margin - 1) * ratio, missed


def _margin(tangent: Field) -> Float[Array, ""]:
    return jnp.asarray(64 * jnp.finfo(tangent.dtype).eps, tangent.dtype)


def converted(tree: Any, dtype: Any) -> Any:
    """The tree with its floating arrays in a dtype."""

    def convert(x):
        return x.astype(dtype) if eqx.is_inexact_array(x) else x

    return jax.tree.map(convert, tree)


def at_least_single(tree: Any) -> Any:
    """The tree with half precision in float32: searches need more digits than it has."""

    def convert(x):
        half = eqx.is_inexact_array(x) and jnp.finfo(x.dtype).bits < 32
        return x.astype(jnp.float32) if half else x

    return jax.tree.map(convert, tree)


def is_traced(tree: Any) -> bool:
    """Whether some leaf is known only when a compiled program runs."""
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))
