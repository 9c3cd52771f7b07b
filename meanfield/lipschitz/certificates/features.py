r"""The heads of an attention at the atoms of a measure: features and shares, in float64."""

import math
from collections.abc import Iterator
from functools import singledispatch

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from meanfield.attention import (
    AbstractAttention,
    L2Attention,
    MultiheadAttention,
    Rotary,
    SelfAttention,
    is_softmax,
)
from meanfield.attention.attending import AbstractMask
from meanfield.attention.balance import on_host

from ..ellipsoid import float64, product_norm
from ..gauge import side_scales
from .head import Atoms, Head, rotated
from .margin import longest


Array = np.ndarray


def heads_at(
    f: AbstractAttention, atoms: Atoms, mask: AbstractMask | None = None
) -> tuple[Head, ...]:
    """The heads of an attention at the atoms of a measure.

    Raises:
      TypeError: for an attention without a certificate.
      ValueError: points of another dimension, or an order that is needed and missing.
    """
    if not is_softmax(f.choice) or f.soft_cap is not None:
        raise TypeError(
            "`f` has no certificate on a ball: shares must be Softmax without a soft cap; got "
            f"choice {type(f.choice).__name__}, soft_cap={f.soft_cap}. On a domain, "
            "`lipschitz_bound` may have one."
        )
    projections = list(_projections(f))
    dim = projections[0].query.shape[1]
    if atoms.points.shape[1] != dim:
        raise ValueError(
            f"`mu` must have points of dimension {dim}, that of the map; got "
            f"{atoms.points.shape[1]}."
        )
    visible = None if mask is None else _seen(mask, atoms)
    return tuple(_head(one, f, h, atoms, visible) for h, one in enumerate(projections))


class Projections(eqx.Module):
    """The affine maps of one head: the scale of the scores is in the query, and the output
    projection is orthogonal, so that sizes of values are those that come out. `lost` covers the
    rounding of that in V, `bowl` is the lambda of scores that are distances."""

    query: Float[Array, "k d"]
    query_bias: Float[Array, " k"]
    key: Float[Array, "k d"]
    key_bias: Float[Array, " k"]
    value: Float[Array, "v d"]
    output: Float[Array, "e v"]
    lost: float
    rotary: Rotary | None = None
    bowl: float = 0.0


@singledispatch
def _projections(f: AbstractAttention) -> Iterator[Projections]:
    raise TypeError(
        f"`f` has no certificate on a ball: {type(f).__name__} has no rule; SelfAttention, "
        "MultiheadAttention and L2Attention have. On a domain, `lipschitz_bound` may have one."
    )


@_projections.register
def _(f: SelfAttention) -> Iterator[Projections]:
    d = f.A.shape[0]
    bias = np.zeros(d) if f.a is None else float64(f.a)
    value = float64(f.V)
    output = np.eye(value.shape[0])
    yield Projections(float64(f.A), bias, np.eye(d), np.zeros(d), value, output, 0.0)


@_projections.register
def _(f: MultiheadAttention) -> Iterator[Projections]:
    if f.query_norm is not None or f.key_norm is not None:
        raise TypeError(
            "`f` has no certificate on a ball: scores with a query_norm or a key_norm have no "
            "rule. On a domain, `lipschitz_bound` may have one."
        )
    H, k, _ = f.query_proj.shape
    query_bias = np.zeros((H, k)) if f.query_bias is None else float64(f.query_bias)
    key_bias = np.zeros((H // f.group, k)) if f.key_bias is None else float64(f.key_bias)
    left = right = np.ones((H, k))
    if f.rotary is not None:
        left, right = side_scales(on_host(f))
    for h in range(H):
        g = h // f.group
        yield Projections(
            f.score_scale * left[h, :, None] * float64(f.query_proj[h]),
            f.score_scale * left[h] * query_bias[h],
            right[h, :, None] * float64(f.key_proj[g]),
            right[h] * key_bias[g],
            *_folded(float64(f.output_proj[h]), float64(f.value_proj[g]), H),
            f.rotary,
        )


@_projections.register
def _(f: L2Attention) -> Iterator[Projections]:
    H, k, _ = f.query_proj.shape
    zero = np.zeros(k)
    for h in range(H):
        query, key = 2 * f.sharpness * float64(f.query_proj[h]), float64(f.key_proj[h])
        value, output, lost = _folded(float64(f.output_proj[h]), float64(f.value_proj[h]), H)
        yield Projections(query, zero, key, zero, value, output, lost, bowl=f.sharpness)


def _folded(output: Array, value: Array, heads: int) -> tuple[Array, Array, float]:
    """R V and Z with Z (R V) = O V and orthonormal columns in Z; and what covers the rounding E of
    that in the norm of R V: |sum_h E_h y_h| <= sqrt(H) (sum_h |E_h|^2 |y_h|^2)^(1/2)."""
    basis, inner = np.linalg.qr(output)
    inner = inner @ value
    error = product_norm(np.hstack([output, basis]), np.vstack([value, -inner]))
    return inner, basis, math.sqrt(heads) * error


def _head(
    one: Projections, f: AbstractAttention, h: int, atoms: Atoms, visible: Array | None
) -> Head:
    x = atoms.points
    q, k = x @ one.query.T + one.query_bias, x @ one.key.T + one.key_bias
    turned, angles = q[:, None, :], None
    if one.bowl:
        turned = turned - 2 * one.bowl * k
    if one.rotary is not None:
        if atoms.positions is None:
            raise ValueError(
                "`mu` must be a ConditionalMeasure, because rotary scores depend on positions; got "
                "a Measure."
            )
        angles = cos, sin = _angles(one.rotary, q.shape[1], atoms.positions)
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        turned = rotated(q[:, None, :], cos[None], -sin[None])
    beside = np.broadcast_to(np.log(atoms.masses), (len(q), len(q)))
    if f.score_bias is not None:
        beside = beside + _biases(f, atoms)[h]
    logits = q @ k.T - one.bowl * np.sum(k**2, axis=1) + beside
    if visible is not None:
        logits = np.where(visible, logits, -np.inf)
    seen = ~np.isneginf(logits)
    likes = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Head(
        query=one.query,
        key=one.key,
        value=one.value,
        q=q,
        k=k,
        v=x @ one.value.T,
        turned=turned,
        shares=likes / likes.sum(axis=1, keepdims=True),
        seen=seen,
        output=one.output,
        angles=angles,
        far=longest(x),
        lost=one.lost,
        bowl=one.bowl,
        offset=float(np.abs(beside, where=seen, out=np.zeros_like(logits)).max()),
    )


def _seen(mask: AbstractMask, atoms: Atoms) -> Bool[Array, "n n"]:
    if atoms.positions is None:
        raise ValueError(
            "`mu` must be a ConditionalMeasure, because causal attention needs an order; got a "
            "Measure. Use mf.ConditionalMeasure.from_sequence(points)."
        )
    where = jnp.asarray(atoms.positions)
    return np.asarray(mask(where, where))


def _biases(f: AbstractAttention, atoms: Atoms) -> Float[Array, "heads n n"]:
    if atoms.positions is None:
        raise ValueError(
            "`mu` must be a ConditionalMeasure, because the scores depend on positions; got a "
            "Measure. Use mf.ConditionalMeasure.from_sequence(points)."
        )
    assert f.score_bias is not None
    where = jnp.asarray(atoms.positions)
    return float64(f.score_bias(where, where))


def _angles(rotary: Rotary, k: int, positions: Int[Array, " n"]) -> tuple[Array, Array]:
    """Cosines and sines, (n, k/2): coordinates that do not turn have angle zero."""
    dims = k if rotary.dims is None else rotary.dims
    if rotary.frequencies is None:
        frequencies = rotary.theta ** (-np.arange(0, dims, 2) / dims)
    else:
        frequencies = float64(rotary.frequencies)
    angle = positions[:, None] * frequencies
    return np.cos(angle), np.sin(angle)
