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

from meanfield.attention import AbstractAttention, L2Attention, MultiheadAttention, SelfAttention
from meanfield.measure import Measure

from .powers import operator_norm


class Factors(eqx.Module):
    """What `upper_at` needs to know of each head.

    Attributes:
      query: Q, shape (H, p, d).
      twist: T_i, shape (H, n, k, p), or None for the identity (k = p).
      reach: shape (H, n, 1) or (H, n, n): upper bounds on |b_ij|.
      steady: whether b_ij is the same for all j.
      value: V, shape (H, v, d).
      output: O, shape (H, e, v), or None for the identity (e = v).
    """

    query: Float[Array, "H p d"]
    twist: Float[Array, "H n k p"] | None
    reach: Float[Array, "H n m"]
    steady: bool = eqx.field(static=True)
    value: Float[Array, "H v d"]
    output: Float[Array, "H e v"] | None


@singledispatch
def factors(f: AbstractAttention, atoms: Measure, positions: Array | None) -> Factors | None:
    """The factors of f at the atoms; None where the kind of attention has no rule yet."""
    return None


@factors.register
def _(f: SelfAttention, atoms: Measure, positions: Array | None) -> Factors:
    length = jnp.linalg.norm(f.queries(atoms.points, positions), axis=-1)
    return Factors(f.A[None], None, length[..., None], True, f.V[None], None)


@factors.register
def _(f: L2Attention, atoms: Measure, positions: Array | None) -> Factors:
    q = jnp.einsum("hkd,nd->hnk", f.query_proj, atoms.points)
    k = jnp.einsum("hkd,nd->hnk", f.key_proj, atoms.points)
    apart = jnp.linalg.norm(q[:, :, None] - k[:, None], axis=-1)
    key_norm = operator_norm(f.key_proj, squarings=5)
    reach = 2 * f.sharpness * key_norm[:, None, None] * apart
    query = 2 * f.sharpness * jnp.pad(f.query_proj, ((0, 0), (0, 1), (0, 0)))
    return Factors(query, None, reach, False, f.value_proj, f.output_proj)


@factors.register
def _(f: MultiheadAttention, atoms: Measure, positions: Array | None) -> Factors:
    q = f.queries(atoms.points, positions)
    keys = jnp.repeat(f.key_proj, f.group, axis=0)
    values = jnp.repeat(f.value_proj, f.group, axis=0)
    if f.rotary is None and f.query_norm is None and f.key_norm is None:
        reach = jnp.linalg.norm(jnp.einsum("hnk,hkd->hnd", q, keys), axis=-1)
        query = f.score_scale * f.query_proj
        return Factors(query, None, reach[..., None], True, values, f.output_proj)
    longest = operator_norm(keys, squarings=5)[:, None]
    reach = (longest * jnp.linalg.norm(q, axis=-1))[..., None]
    if f.key_norm is not None:
        reach = reach * _stretch(f, atoms)[:, None, :]
    twist = _query_twist(f, atoms, positions)
    return Factors(f.query_proj, twist, reach, False, values, f.output_proj)


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


def _stretch(f: MultiheadAttention, atoms: Measure) -> Float[Array, "H n"]:
    """The operator norm (a Frobenius bound) of the key norm's derivative at each key."""
    assert f.key_norm is not None
    z = _projected(f.key_proj, f.key_bias, atoms.points)
    slopes = jax.vmap(jax.vmap(jax.jacfwd(f.key_norm.point)))(z)
    return jnp.repeat(jnp.linalg.norm(slopes, axis=(2, 3)), f.group, axis=0)


def _projected(matrices: Array, bias: Array | None, x: Array) -> Float[Array, "H n k"]:
    z = jnp.einsum("hkd,nd->hnk", matrices, x)
    return z if bias is None else z + bias[:, None]
