r"""One head at a measure in float64: shares, centred values and keys, slopes of scores.

Scores are $\langle q_i, k_j \rangle$ with $q_i = R_i (Q x_i + \cdot)$, $k_j = R_j (K x_j + \cdot)$,
values are $V x_j + \cdot$; $R_j$ turns features by position and is the identity without rotary.
"""

from collections.abc import Iterator
from functools import singledispatch

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from meanfield.attention import (
    AbstractAttention,
    AnyMeasure,
    MultiheadAttention,
    Rotary,
    SelfAttention,
    is_softmax,
)
from meanfield.attention.attending import AbstractMask

from ..ellipsoid import float64, product_norm, spectral_norm
from .margin import longest, unit


Array = np.ndarray


class Atoms(eqx.Module):
    """The atoms that have mass, in float64: points, masses, positions (None without an order)."""

    points: Float[Array, "n d"]
    masses: Float[Array, " n"]
    positions: Int[Array, " n"] | None

    @classmethod
    def of(cls, mu: AnyMeasure) -> "Atoms":
        masses = float64(mu.atoms.weights)
        seen = masses > 0
        where = None if mu.positions is None else np.asarray(mu.positions)[seen]
        return cls(float64(mu.atoms.points)[seen], masses[seen], where)

    def at(self, points: Float[Array, "n d"]) -> "Atoms":
        """The same masses at other points."""
        return Atoms(points, self.masses, self.positions)


class Head(eqx.Module):
    """One head at a measure.

    Args:
      query, key, value: Q (k, d) with the scale of the scores, K (k, d), V (v, d).
      q, k, v: features of the n atoms; q and k turned by their positions.
      turned: R_j^T q_i, shape (n, n, k), or (n, 1, k) without rotary.
      shares: P, shape (n, n).
      output: O, shape (e, v).
      angles: cosines and sines of each position, or None without rotary.
      far: the largest |x_i|; offset: the largest part of a logit beside the score.
    """

    query: Float[Array, "k d"]
    key: Float[Array, "k d"]
    value: Float[Array, "v d"]
    q: Float[Array, "n k"]
    k: Float[Array, "n k"]
    v: Float[Array, "n v"]
    turned: Float[Array, "n m k"]
    shares: Float[Array, "n n"]
    output: Float[Array, "e v"]
    angles: tuple[Array, Array] | None
    far: float
    offset: float

    @property
    def rounding(self) -> float:
        """The relative error of the shares, and of features relative to `sizes`."""
        n, k = self.q.shape
        q, k_size, _ = self.sizes
        score = q * k_size + self.offset
        return unit(n * max(k, self.v.shape[1], 8) + self.query.shape[1], score)

    @property
    def sizes(self) -> tuple[float, float, float]:
        """What the features of queries, keys and values are sums of, at most."""
        q = longest(self.q) + self.far * float(np.linalg.norm(self.query))
        k = longest(self.k) + self.far * float(np.linalg.norm(self.key))
        return q, k, longest(self.v) + self.far * float(np.linalg.norm(self.value))

    def slack(self, masses: Float[Array, " n"]) -> float:
        """The rounding error of the constants at the measure, before the output projection."""
        q, k, v = self.sizes
        query, key, value = (float(np.linalg.norm(x)) for x in (self.query, self.key, self.value))
        share = masses[:, None] / masses * self.shares
        columns = max(1.0, share.sum(0).max(), float(np.sqrt(np.sum(share * self.shares))))
        local = 4 * v * k * query * len(self.q) ** 0.5
        return self.rounding * (local + (value + 4 * v * q * key) * float(columns))

    @property
    def aligned(self) -> bool:
        """Whether the slope of the scores along an atom is the same for all atoms."""
        return self.turned.shape[1] == 1

    @property
    def means(self) -> Float[Array, "n v"]:
        """The mean value that each atom sees."""
        return self.shares @ self.v

    def slopes(self) -> Float[Array, "n m"]:
        """|b_ij|: how fast an atom changes the score it is given."""
        return np.linalg.norm(self.turned @ self.key, axis=-1)

    def cross(self) -> tuple[float, float, float]:
        r"""Bounds on $\\|V\\|$, on the products of a query's and a key's move, and on the query."""
        across = product_norm(self.query.T, self.key)
        query = spectral_norm(self.query)
        return (
            spectral_norm(self.value),
            across if self.aligned else query * spectral_norm(self.key),
            query,
        )

    def local(self, i: int) -> Float[Array, "v d"]:
        """D_i before the output projection."""
        share = self.shares[i]
        centred = self.k - share @ self.k
        moment = ((self.v - share @ self.v).T * share) @ centred
        return self._back(moment, i) @ self.query

    def context(self, i: int) -> Float[Array, "n v d"]:
        r"""$V + \xi_{ij} b_{ij}^T$ before the output projection; times P_ij it is B_ij."""
        centred = self.v - self.shares[i] @ self.v
        return self.value + centred[:, :, None] * (self.turned[i] @ self.key)[:, None, :]

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n v"]:
        """J applied to some moves of the atoms, before the output projection."""
        keys = np.swapaxes(self._turn(moves @ self.key.T), 1, 2)
        weight = self.shares * (self.q @ keys + self._turn(moves @ self.query.T) @ self.k.T)
        centred = weight @ self.v - weight.sum(-1, keepdims=True) * self.means
        return centred + self.shares @ (moves @ self.value.T)

    def backward(self, pulls: Float[Array, "r n v"]) -> Float[Array, "r n d"]:
        """The transpose of `forward`."""
        level = np.sum(pulls * self.means, axis=-1, keepdims=True)
        weight = self.shares * (pulls @ self.v.T - level)
        moves = self._turn(np.swapaxes(weight, 1, 2) @ self.q, -1) @ self.key
        moves += self._turn(weight @ self.k, -1) @ self.query
        return moves + (self.shares.T @ pulls) @ self.value

    def _turn(self, features: Float[Array, "r n k"], sign: int = 1) -> Float[Array, "r n k"]:
        if self.angles is None:
            return features
        cos, sin = self.angles
        return _rotated(features, cos, sign * sin)

    def _back(self, moment: Float[Array, "v k"], i: int) -> Float[Array, "v k"]:
        """C_i R_i."""
        if self.angles is None:
            return moment
        cos, sin = self.angles
        return _rotated(moment, cos[i], -sin[i])


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
    """The affine maps of one head: the scale of the scores is in the query."""

    query: Float[Array, "k d"]
    query_bias: Float[Array, " k"]
    key: Float[Array, "k d"]
    key_bias: Float[Array, " k"]
    value: Float[Array, "v d"]
    output: Float[Array, "e v"]
    rotary: Rotary | None = None


@singledispatch
def _projections(f: AbstractAttention) -> Iterator[Projections]:
    raise TypeError(
        f"`f` has no certificate on a ball: {type(f).__name__} has no rule; SelfAttention and "
        "MultiheadAttention have. On a domain, `lipschitz_bound` may have one."
    )


@_projections.register
def _(f: SelfAttention) -> Iterator[Projections]:
    d = f.A.shape[0]
    bias = np.zeros(d) if f.a is None else float64(f.a)
    value = float64(f.V)
    yield Projections(float64(f.A), bias, np.eye(d), np.zeros(d), value, np.eye(value.shape[0]))


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
    for h in range(H):
        g = h // f.group
        yield Projections(
            f.score_scale * float64(f.query_proj[h]),
            f.score_scale * query_bias[h],
            float64(f.key_proj[g]),
            key_bias[g],
            float64(f.value_proj[g]),
            float64(f.output_proj[h]),
            f.rotary,
        )


def _head(
    one: Projections, f: AbstractAttention, h: int, atoms: Atoms, visible: Array | None
) -> Head:
    x = atoms.points
    q, k = x @ one.query.T + one.query_bias, x @ one.key.T + one.key_bias
    turned, angles = q[:, None, :], None
    if one.rotary is not None:
        if atoms.positions is None:
            raise ValueError(
                "`mu` must be a ConditionalMeasure, because rotary scores depend on positions; got "
                "a Measure."
            )
        angles = cos, sin = _angles(one.rotary, q.shape[1], atoms.positions)
        q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
        turned = _rotated(q[:, None, :], cos[None], -sin[None])
    beside = np.broadcast_to(np.log(atoms.masses), (len(q), len(q)))
    if f.score_bias is not None:
        beside = beside + _biases(f, atoms)[h]
    logits = q @ k.T + beside
    if visible is not None:
        logits = np.where(visible, logits, -np.inf)
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
        output=one.output,
        angles=angles,
        far=longest(x),
        offset=float(np.abs(beside).max()),
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


def _rotated(features: Array, cos: Array, sin: Array) -> Array:
    """Features (..., k) turned in the pairs (i, i + r) of coordinates, r the number of angles."""
    half = cos.shape[-1]
    features = np.broadcast_to(
        features, (*np.broadcast_shapes(features.shape[:-1], cos.shape[:-1]), features.shape[-1])
    )
    first, second, rest = np.split(features, [half, 2 * half], axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return np.concatenate(turned, axis=-1)
