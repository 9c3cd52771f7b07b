r"""The linear factors of an attention map at a measure, from which bounds are made.

Per head, with x_i an atom as a query and y_j an atom as a key,

    dq_i = T_i Q dx_i,   b_ij = d(score_ij) / dy_j,   dv_j = V dy_j,   output: O (mean of v),

where T_i is the derivative of what follows the projection (scale, norm, rotation).
"""

from functools import singledispatch

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.attention import (
    AbstractAttention,
    L2Attention,
    MultiheadAttention,
    RMSNorm,
    SelfAttention,
)
from meanfield.measure import Measure

from .gauge import side_scales
from .powers import operator_norm


class Sizes(eqx.Module):
    """Bounds on the sums of absolute terms behind the features of a head, over all atoms: for
    q = Q x + c it is |Q|_F max|x| + |c|, which may be far above |q|.

    Attributes:
      query, key, reach, value: of q_i, k_j, b_ij and v_j, each of shape (H,).
    """

    query: Float[Array, " H"]
    key: Float[Array, " H"]
    reach: Float[Array, " H"]
    value: Float[Array, " H"]


class Factors(eqx.Module):
    """What `upper_at` needs to know of each head.

    Attributes:
      query: Q, shape (H, p, d).
      twist: T_i, shape (H, n, k, p), or None for the identity (k = p).
      reach: shape (H, n, 1) or (H, n, n): upper bounds on |b_ij|.
      steady: whether b_ij is the same for all j.
      value: V, shape (H, v, d).
      output: O, shape (H, e, v), or None for the identity (e = v).
      sizes: the sizes that rounding is relative to, see `Sizes`.
    """

    query: Float[Array, "H p d"]
    twist: Float[Array, "H n k p"] | None
    reach: Float[Array, "H n m"]
    steady: bool = eqx.field(static=True)
    value: Float[Array, "H v d"]
    output: Float[Array, "H e v"] | None
    sizes: Sizes


@singledispatch
def factors(f: AbstractAttention, atoms: Measure, positions: Array | None) -> Factors | None:
    """The factors of f at the atoms; None where the kind of attention has no rule yet."""
    return None


@factors.register
def _(f: SelfAttention, atoms: Measure, positions: Array | None) -> Factors:
    length = jnp.linalg.norm(f.queries(atoms.points, positions), axis=-1)
    radius = atoms.radius[None]
    query = affine_size(f.A[None], None if f.a is None else f.a[None], radius)
    sizes = Sizes(query, radius, query, affine_size(f.V[None], None, radius))
    return Factors(f.A[None], None, length[..., None], True, f.V[None], None, sizes)


@factors.register
def _(f: L2Attention, atoms: Measure, positions: Array | None) -> Factors:
    q = jnp.einsum("hkd,nd->hnk", f.query_proj, atoms.points)
    k = jnp.einsum("hkd,nd->hnk", f.key_proj, atoms.points)
    # one query at a time: all differences at once would be n^2 k numbers a head
    apart = jax.lax.map(lambda x: jnp.linalg.norm(x[:, None] - k, axis=-1), q.swapaxes(0, 1))
    apart = apart.swapaxes(0, 1)
    key_norm = operator_norm(f.key_proj, squarings=5)
    reach = 2 * f.sharpness * key_norm[:, None, None] * apart
    query = 2 * f.sharpness * jnp.pad(f.query_proj, ((0, 0), (0, 1), (0, 0)))
    q, k = (affine_size(m, None, atoms.radius) for m in (f.query_proj, f.key_proj))
    sizes = Sizes(
        query=2 * f.sharpness * q + 1,
        key=k + f.sharpness * k**2,
        reach=2 * f.sharpness * key_norm * (q + k),
        value=affine_size(f.value_proj, None, atoms.radius),
    )
    return Factors(query, None, reach, False, f.value_proj, f.output_proj, sizes)


@factors.register
def _(f: MultiheadAttention, atoms: Measure, positions: Array | None) -> Factors:
    q = f.queries(atoms.points, positions)
    keys = jnp.repeat(f.key_proj, f.group, axis=0)
    values = jnp.repeat(f.value_proj, f.group, axis=0)
    if f.rotary is None and f.query_norm is None and f.key_norm is None:
        reach = jnp.linalg.norm(jnp.einsum("hnk,hkd->hnd", q, keys), axis=-1)
        query = f.score_scale * f.query_proj
        sizes = _multihead_sizes(f, atoms, jnp.ones(()))
        return Factors(query, None, reach[..., None], True, values, f.output_proj, sizes)
    left, right = side_scales(f)
    behind = keys if f.key_norm is not None else right[..., None] * keys
    longest = operator_norm(behind, squarings=5)[:, None]
    reach = (longest * jnp.linalg.norm(left[:, None] * q, axis=-1))[..., None]
    stretch = jnp.ones((1, atoms.size))
    if f.key_norm is not None:
        stretch = _stretch(f, atoms)
        reach = reach * _stretch(f, atoms, right)[:, None, :]
    twist = _query_twist(f, atoms, positions)
    sizes = _multihead_sizes(f, atoms, jnp.max(stretch, 1, where=atoms.present, initial=0))
    return Factors(f.query_proj, twist, reach, False, values, f.output_proj, sizes)


def _multihead_sizes(f: MultiheadAttention, atoms: Measure, stretch: Float[Array, "..."]) -> Sizes:
    """`stretch` is what a key norm multiplies small moves by."""

    def size(matrices, bias):
        return affine_size(matrices, bias, atoms.radius)

    def shared(sizes):
        return jnp.repeat(sizes, f.group)

    query = f.score_scale * size(f.query_proj, f.query_bias)
    if f.query_norm is not None:  # |norm(z)| <= max|gamma| sqrt(k)
        query = f.score_scale * _norm_size(f.query_norm)
    key = shared(size(f.key_proj, f.key_bias))
    if f.key_norm is not None:
        key = stretch * key + _norm_size(f.key_norm)
    reach = shared(jnp.linalg.norm(f.key_proj, axis=(1, 2))) * query * stretch
    query = jnp.broadcast_to(query, key.shape)
    return Sizes(query, key, reach, shared(size(f.value_proj, f.value_bias)))


def _norm_size(norm: RMSNorm) -> Float[Array, ""]:
    return jnp.max(jnp.abs(norm.gamma)) * norm.gamma.size**0.5


def affine_size(
    matrices: Float[Array, "H k d"], bias: Float[Array, "H k"] | None, radius: Float[Array, "*H"]
) -> Float[Array, " H"]:
    """|M|_F r + |b|, at least the norm of |M| |x| + |b| wherever |x| <= r."""
    size = jnp.linalg.norm(matrices, axis=(1, 2)) * radius
    return size if bias is None else size + jnp.linalg.norm(bias, axis=-1)


def _query_twist(
    f: MultiheadAttention, atoms: Measure, positions: Array | None
) -> Float[Array, "H n k k"]:
    """The derivative of scale, norm and rotation at each projected query."""
    z = _projected(f.query_proj, f.query_bias, atoms.points)
    where = jnp.zeros(atoms.size, int) if positions is None else positions

    def place(z, position):
        z = z if f.query_norm is None else f.query_norm.point(z)
        z = z if f.rotary is None else f.rotary.rotate(z[None, None], position[None])[0, 0]
        return f.score_scale * z

    each = jax.vmap(jax.vmap(jax.jacfwd(place)), in_axes=(0, None))
    return each(z, where)


def _stretch(
    f: MultiheadAttention, atoms: Measure, scale: Float[Array, "H k"] | None = None
) -> Float[Array, "H n"]:
    """The operator norm (a Frobenius bound) of the key norm's derivative at each key, its
    coordinates scaled or not."""
    assert f.key_norm is not None
    z = _projected(f.key_proj, f.key_bias, atoms.points)
    slopes = jax.vmap(jax.vmap(jax.jacfwd(f.key_norm.point)))(z)
    slopes = jnp.repeat(slopes, f.group, axis=0)
    if scale is not None:
        slopes = scale[:, None, :, None] * slopes
    return jnp.linalg.norm(slopes, axis=(2, 3))


def _projected(matrices: Array, bias: Array | None, x: Array) -> Float[Array, "H n k"]:
    z = jnp.einsum("hkd,nd->hnk", matrices, x)
    return z if bias is None else z + bias[:, None]
