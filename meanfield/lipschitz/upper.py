r"""An upper bound on the local Lipschitz constant at a measure (docs: theory/regularity).

For attention, J = D + N with D_i the local part of atom i and N what reaches it through the
context, so ||J|| <= max_i ||D_i|| + ||N||. The norms of small matrices are bounded by traces of
powers (see `powers`).
"""

from functools import singledispatch

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.attention import (
    AbstractAttention,
    AbstractInContextMap,
    AbstractPointMap,
    AnyMeasure,
    CausalAttention,
    Composition,
    Residual,
)
from meanfield.attention.attending import AbstractMask
from meanfield.measure import Measure

from .factors import Factors, factors
from .powers import largest_eigenvalue, operator_norm


# Beyond these sizes no bound is computed: entries of the shares, and of all covariances of a head.
_SHARES = 5 * 10**7
_COVARIANCES = 10**8


@singledispatch
def upper_at(f: AbstractInContextMap, mu: AnyMeasure) -> Float[Array, ""]:
    """An upper bound on max(||J||, max_i ||D_i||) at mu; inf where no rule is known."""
    return jnp.asarray(jnp.inf, mu.points.dtype)


@upper_at.register
def _(f: AbstractPointMap, mu: AnyMeasure) -> Float[Array, ""]:
    x = mu.atoms.points
    if x.shape[0] * x.shape[1] ** 2 > _COVARIANCES:
        return jnp.asarray(jnp.inf, x.dtype)
    norms = operator_norm(jax.vmap(jax.jacfwd(f.point))(x))
    return jnp.max(norms, where=mu.atoms.present, initial=0)


@upper_at.register
def _(f: Residual, mu: AnyMeasure) -> Float[Array, ""]:
    return 1 + jnp.abs(f.scale) * upper_at(f.f, mu)


@upper_at.register
def _(f: Composition, mu: AnyMeasure) -> Float[Array, ""]:
    bound = jnp.ones((), mu.points.dtype)
    for g in f.maps:
        bound, mu = bound * upper_at(g, mu), g(mu)
    return bound


@upper_at.register
def _(f: CausalAttention, mu: AnyMeasure) -> Float[Array, ""]:
    return _attention_bound(f.attention, mu, f.mask)


@upper_at.register
def _(f: AbstractAttention, mu: AnyMeasure) -> Float[Array, ""]:
    return _attention_bound(f, mu, None)


def _attention_bound(f: AbstractAttention, mu: AnyMeasure, mask: AbstractMask | None) -> Array:
    atoms = mu.atoms
    parts = factors(f, atoms, mu.positions)
    seen = f.attending(mu, mu.points, mask)
    heads, m, n = seen.shape
    dims = seen.values.shape[-1] * max(seen.keys.shape[-1], seen.values.shape[-1])
    if parts is None or heads * m * n > _SHARES or n * dims > _COVARIANCES:
        return jnp.asarray(jnp.inf, atoms.points.dtype)
    shares = seen.weights()
    slopes = None if f.soft_cap is None else _slopes(seen)
    if slopes is not None:
        parts = Factors(parts.query, parts.twist, parts.reach, False, parts.value, parts.output)
    output = None
    if parts.output is not None:
        output = jnp.einsum("hea,heb->hab", parts.output, parts.output)
    query = jnp.einsum("had,hbd->hab", parts.query, parts.query)
    scene = (shares, slopes, seen.keys, seen.values)
    maps = (parts.twist, parts.reach, parts.value, query, output)

    def one(arrays):
        return _head_norms(parts.steady, *arrays)

    local, row, local_inner, row_inner = jax.lax.map(one, (*scene, *maps))
    whole = 1.0
    if parts.output is not None:
        whole = operator_norm(jnp.concatenate(list(parts.output), axis=1), squarings=5)
    present = atoms.present
    local_part = jnp.minimum(local.sum(0), whole * jnp.sqrt(jnp.sum(local_inner**2, 0)))
    spread = jnp.einsum("hn,hnm->nm", row, shares) * row.sum(0)[:, None]
    spread_inner = jnp.einsum("hn,hnm->nm", row_inner**2, shares)
    context = jnp.minimum(_columns(spread, atoms), whole * _columns(spread_inner, atoms))
    return jnp.max(local_part, where=present, initial=0) + context


def _columns(spread: Float[Array, "n n"], atoms: Measure) -> Float[Array, ""]:
    """sqrt( max_j sum_i (w_i / w_j) spread_ij )."""
    safe = jnp.where(atoms.present, atoms.weights, 1)
    columns = jnp.einsum("i,ij->j", atoms.weights, spread) / safe
    return jnp.sqrt(jnp.max(columns, where=atoms.present, initial=0))


def _slopes(seen) -> Float[Array, "H n n"]:
    return jax.lax.map(
        lambda qk: 1 - jnp.tanh(qk[0] @ qk[1].T / seen.soft_cap) ** 2, (seen.queries, seen.keys)
    )


def _head_norms(
    steady: bool, shares, slopes, keys, values, twist, reach, value_map, query, output
) -> tuple[Array, Array, Array, Array]:
    """For each query of a head: bounds on ||O C_i T_i Q|| and on the norm of the row N_i, with the
    output projection and, for the sum over heads, without; from the Gram matrices Q Q^T, O^T O."""
    cross, second = _covariances(shares, slopes, keys, values, reach)
    cross = cross if twist is None else cross @ twist
    local = (cross @ query) @ cross.swapaxes(1, 2)
    direct = value_map @ value_map.T

    def norms(local, direct, second):
        value, through = largest_eigenvalue(direct, squarings=5), largest_eigenvalue(second)
        row = jnp.sqrt(value + through) if steady else jnp.sqrt(value) + jnp.sqrt(through)
        return jnp.sqrt(largest_eigenvalue(local)), row

    inner = norms(local, direct, second)
    if output is None:
        return *inner, *inner
    return *norms(local @ output, direct @ output, second @ output), *inner


def _covariances(shares, slopes, keys, values, reach) -> tuple[Array, Array]:
    """The second moments that the two parts of the derivative see, for each query i.

    With xi_ij = v_j - mean_i and c_ij the slope of the soft cap (1 without),
    C_i = sum_j P_ij c_ij xi_ij k_j^T  and  S_i = sum_j P_ij c_ij^2 |b_ij|^2 xi_ij xi_ij^T.
    """
    values = values - jnp.mean(values, axis=0)
    mean = shares @ values
    bent = shares if slopes is None else shares * slopes
    cross = _moment(bent, values, keys) - _outer(mean, bent @ keys)
    weight = bent * reach if slopes is None else bent * slopes * reach
    weight = weight * reach
    first = _outer(weight @ values, mean)
    total = jnp.sum(weight, axis=1)[:, None, None]
    second = _moment(weight, values, values) - first - first.swapaxes(1, 2)
    return cross, second + total * _outer(mean, mean)


def _moment(weight: Float[Array, "m n"], a: Float[Array, "n v"], b: Float[Array, "n k"]) -> Array:
    """sum_j weight_ij a_j b_j^T for every i, as one matrix product."""
    return (weight @ _outer(a, b).reshape(len(a), -1)).reshape(-1, a.shape[1], b.shape[1])


def _outer(a: Float[Array, "n v"], b: Float[Array, "n k"]) -> Float[Array, "n v k"]:
    return a[:, :, None] * b[:, None, :]
