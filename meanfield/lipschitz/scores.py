"""How far the scores of a head can go on a domain: the few numbers that the theorems read."""

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from jaxtyping import Float

from meanfield.attention import (
    AbstractAttention,
    AbstractScoreBias,
    L2Attention,
    LinearBias,
    MultiheadAttention,
    RelativeBias,
    SelfAttention,
)
from meanfield.attention.balance import on_host

from .ellipsoid import Ellipsoid, Matrix, float64, product_norm, spectral_norm
from .gauge import side_scales


@dataclass(frozen=True)
class ScoreSizes:
    r"""Sizes of the scores $s(x, y)$ of one head, for all points x, y of a domain.

    Args:
      query: $\sup \|\mathrm{Cov}_P(\partial_x s)\|^{1/2}$: how fast a query changes its scores.
      key: $\sup |\partial_y s|$: how fast an atom changes the score it is given.
      oscillation: the largest difference of the scores that one query gives.
      log_column: a bound on $\log \sup_y \int e^{s(x,y)} / Z(x)\, d\mu(x)$ that has the sharp
        exponent; inf where none is proved.
      aligned: whether $\partial_y s(x, y)$ does not depend on y.
    """

    query: float
    key: float
    oscillation: float
    log_column: float = math.inf
    aligned: bool = True


@dataclass(frozen=True)
class _Head:
    """The score $\\lambda <Q x + a, K y + b>$ of one head, in float64."""

    query: Matrix
    query_bias: Float[np.ndarray, " _"]
    key: Matrix
    key_bias: Float[np.ndarray, " _"]
    scale: float


@singledispatch
def score_sizes(
    f: AbstractAttention, domain: Ellipsoid, reach: float | int
) -> tuple[ScoreSizes, ...]:
    """The sizes of the scores of every head of f on a domain.

    Args:
      reach: how many positions a query can see (inf if there is no limit).

    Raises:
      TypeError: for an attention without a rule; register one with `score_sizes.register`.
    """
    raise TypeError(
        f"no theorem covers the scores of {type(f).__name__}; register a rule with "
        "`score_sizes.register`."
    )


@score_sizes.register
def _(f: SelfAttention, domain: Ellipsoid, reach: float | int) -> tuple[ScoreSizes, ...]:
    zeros = np.zeros(domain.dim)
    a = zeros if f.a is None else float64(f.a)
    head = _Head(float64(f.A), a, np.eye(domain.dim), zeros, 1.0)
    return (_with_bias(_linear(head, domain, f.soft_cap), f.score_bias, reach),)


@score_sizes.register
def _(f: MultiheadAttention, domain: Ellipsoid, reach: float | int) -> tuple[ScoreSizes, ...]:
    plain = f.rotary is None and f.query_norm is None and f.key_norm is None
    return tuple(
        _with_bias(
            _linear(_head(one), domain, one.soft_cap) if plain else _features(one, domain),
            one.score_bias,
            reach,
        )
        for one in f.heads
    )


@score_sizes.register
def _(f: L2Attention, domain: Ellipsoid, reach: float | int) -> tuple[ScoreSizes, ...]:
    return tuple(_with_bias(_distance(one, domain), one.score_bias, reach) for one in f.heads)


@singledispatch
def bias_oscillation(bias: AbstractScoreBias, reach: float | int) -> float:
    """The largest difference of the biases that one query gives to the positions it sees.

    A bias without a rule may be unbounded: the answer is inf, and only the theorems that do not
    need it remain.
    """
    return math.inf


@bias_oscillation.register
def _(bias: LinearBias, reach: float | int) -> float:
    slope = float(np.max(np.abs(float64(bias.slopes))))
    return slope * (reach - 1) if slope else 0.0


@bias_oscillation.register
def _(bias: RelativeBias, reach: float | int) -> float:
    return float(np.ptp(float64(bias.table)))


def _with_bias(sizes: ScoreSizes, bias: AbstractScoreBias | None, reach: float | int) -> ScoreSizes:
    if bias is None:
        return sizes
    more = bias_oscillation(bias, reach)
    return ScoreSizes(
        sizes.query, sizes.key, sizes.oscillation + more, sizes.log_column + more, sizes.aligned
    )


def _head(f: MultiheadAttention) -> _Head:
    query, key = float64(f.query_proj[0]), float64(f.key_proj[0])
    zeros = np.zeros(query.shape[0])
    query_bias = zeros if f.query_bias is None else float64(f.query_bias[0])
    key_bias = zeros if f.key_bias is None else float64(f.key_bias[0])
    sign = math.copysign(1.0, f.score_scale)
    return _Head(sign * query, sign * query_bias, key, key_bias, abs(f.score_scale))


def _linear(head: _Head, domain: Ellipsoid, cap: float | None) -> ScoreSizes:
    """Linear features: the score is <A x + a, y> with A = K^T Q, up to constants of a row."""
    key_of_z, query_of_z = domain.times(head.key), domain.times(head.query)
    query_at_centre = head.query @ domain.centre + head.query_bias
    slope = product_norm(head.key.T, query_of_z) + _norm(head.key.T @ query_at_centre)
    turn = product_norm(head.query.T, key_of_z)
    inner = product_norm(key_of_z.T, query_of_z)
    centre = _norm(key_of_z.T @ query_at_centre)
    spread = 2 * head.scale * (inner + centre)
    if cap is not None:
        turn += _norm(head.query.T @ (head.key @ domain.centre + head.key_bias))
        spread, column = min(spread, 2 * abs(cap)), math.inf
    else:
        lowest = _lowest_eigenvalue(key_of_z.T, query_of_z)
        column = _sharp_log_column(head.scale, inner, centre, lowest, min(head.key.shape))
    return ScoreSizes(head.scale * turn, head.scale * slope, spread, column, cap is None)


def _sharp_log_column(scale: float, inner: float, centre: float, lowest: float, dim: int) -> float:
    r"""$1 + k \log(1 + 4t) + \max_{0 \le r \le 1} (\|A\| r + |a| + |a| r - \lambda r^2)$."""
    norm, shift, lowest = scale * inner, scale * centre, scale * lowest
    best = 1.0 if lowest <= 0 else min(1.0, (norm + shift) / (2 * lowest))
    exponent = (norm + shift) * best + shift - lowest * best**2
    return 1 + dim * math.log1p(4 * (norm + shift)) + exponent


def _features(f: MultiheadAttention, domain: Ellipsoid) -> ScoreSizes:
    """Features behind norms and rotations: only their lengths and Lipschitz constants count."""
    head, (left, right) = _head(f), map(np.ravel, side_scales(on_host(f)))
    reach_q, slope_q = _feature(head.query, head.query_bias, f.query_norm, left, domain)
    reach_k, slope_k = _feature(head.key, head.key_bias, f.key_norm, right, domain)
    aligned = f.rotary is None and f.key_norm is None and f.soft_cap is None
    if aligned:  # the keys are then linear in the atom: their centre does not matter
        reach_k = spectral_norm(domain.times(right[:, None] * head.key))
    spread = 2 * head.scale * reach_q * reach_k
    spread = spread if f.soft_cap is None else min(spread, 2 * abs(f.soft_cap))
    query, key = head.scale * slope_q * reach_k, head.scale * slope_k * reach_q
    return ScoreSizes(query, key, spread, math.inf, aligned)


def _feature(matrix: Matrix, bias, norm, scale, domain: Ellipsoid) -> tuple[float, float]:
    """The largest length of a feature whose coordinates are scaled, and its Lipschitz constant."""
    if norm is None:
        matrix, bias = scale[:, None] * matrix, scale * bias
        return domain.reach(matrix, bias), spectral_norm(matrix)
    gamma = float(np.max(np.abs(scale * float64(norm.gamma))))
    slope = math.inf if norm.epsilon == 0 else gamma / math.sqrt(norm.epsilon)
    return math.sqrt(bias.size) * gamma, spectral_norm(matrix) * slope


def _distance(f: L2Attention, domain: Ellipsoid) -> ScoreSizes:
    """The score -lambda |Q x - K y|^2."""
    query, key = float64(f.query_proj[0]), float64(f.key_proj[0])
    scale, key_of_z = abs(f.sharpness), domain.times(key)
    turn = product_norm(query.T, key_of_z)
    far = _norm((query - key) @ domain.centre)
    far += spectral_norm(domain.times(query)) + spectral_norm(key_of_z)
    spread = scale * far**2
    if f.soft_cap is not None:
        turn += _norm(query.T @ key @ domain.centre)
        spread = min(spread, 2 * abs(f.soft_cap))
    slope = 2 * scale * spectral_norm(key) * far
    return ScoreSizes(2 * scale * turn, slope, spread, math.inf, aligned=False)


def _lowest_eigenvalue(left: Matrix, right: Matrix) -> float:
    """A lower bound on the eigenvalues of the symmetric part of L R, (d, k)(k, d)."""
    d, k = left.shape
    if 2 * k < d:  # everything happens in 2k dimensions; elsewhere the form vanishes
        basis = np.linalg.qr(np.concatenate([left, right.T], axis=1))[0]
        left, right = basis.T @ left, right @ basis
    product = left @ right
    lowest = float(np.linalg.eigvalsh((product + product.T) / 2)[0])
    lowest -= 16 * d * np.finfo(np.float64).eps * np.linalg.norm(left) * np.linalg.norm(right)
    return min(lowest, 0.0) if 2 * k < d else lowest


def _norm(vector) -> float:
    return float(np.linalg.norm(vector)) * (1 + 1e-13)
