"""Sizes of attention heads whose choice is not the plain softmax (proofs: docs/theory/choices).

A normalised choice with densities h <= H, whose responses have a density w <= W and the total r,
obeys one theorem, `bounded-density`; for chi-square and entmax its sizes are polynomials.
"""

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from meanfield.attention import (
    AbstractAttention,
    AbstractChoice,
    ChiSquare,
    DoublyStochastic,
    Entmax,
    Linear,
    MultiheadAttention,
    SelfAttention,
    Sigmoid,
    Softmax,
    TopMass,
)
from meanfield.attention.balance import balanced_pair
from meanfield.measure import AbstractDomain

from .ellipsoid import Ellipsoid, Matrix, enclosing, float64, product_norm, spectral_norm
from .gauge import StackedHeads
from .heads import AttentionSizes, HeadSizes, head_sizes, value_maps


@dataclass(frozen=True)
class DensitySizes:
    r"""What a normalised choice can do to scores that differ by at most omega.

    Args:
      log_density: $\log H$, $h \le H$.
      log_square: the same for $\int h^2$, not above `log_density`.
      log_response: $\log W$, $w \le W$ with $R = a w$.
      log_total: $\log r$, $\int w \le r$.
    """

    log_density: float
    log_square: float
    log_response: float
    log_total: float


@singledispatch
def density_sizes(choice: AbstractChoice, oscillation: float, reach: float | int) -> DensitySizes:
    """The sizes of a choice.

    Args:
      oscillation: how far the scores of one query differ at most.
      reach: how many atoms of equal mass a query can see; inf for any masses.

    Raises:
      TypeError: for a choice without a rule; register one with `density_sizes.register`.
      ValueError: for a choice that is not continuous.
    """
    raise TypeError(
        f"no theorem covers the choice {type(choice).__name__}; register a rule with "
        "`density_sizes.register`."
    )


@density_sizes.register
def _(choice: Softmax, oscillation: float, reach: float | int) -> DensitySizes:
    cap = math.inf if choice.cap is None else float(choice.cap)
    largest = min(oscillation, math.log(cap), math.log(reach))
    return DensitySizes(largest, largest, largest, 0.0)


@density_sizes.register
def _(choice: ChiSquare, oscillation: float, reach: float | int) -> DensitySizes:
    cap = math.inf if choice.cap is None else float(choice.cap)
    scale = float(choice.scale)
    spread = oscillation / scale
    largest = math.log(min(1 + spread, cap, reach))
    square = min(largest, math.log1p(spread**2 / 4))
    return DensitySizes(largest, square, -math.log(scale), -math.log(scale))


@density_sizes.register
def _(choice: Entmax, oscillation: float, reach: float | int) -> DensitySizes:
    scale, more = float(choice.scale), choice.alpha - 1
    largest = min(math.log1p(more * oscillation / scale) / more, math.log(reach))
    return DensitySizes(largest, largest, (1 - more) * largest - math.log(scale), -math.log(scale))


@density_sizes.register
def _(choice: TopMass, oscillation: float, reach: float | int) -> DensitySizes:
    raise ValueError(
        "no finite bound exists: the shares of TopMass jump where scores tie. Use ChiSquare(scale, "
        "cap=1 / fraction), which keeps the fraction softly and has a polynomial bound."
    )


@dataclass(frozen=True)
class DensityHead:
    """A head with a normalised choice: its plain sizes and those of the choice."""

    plain: HeadSizes
    choice: DensitySizes
    oscillation: float = 0.0  # columns of shares play no part in this theorem

    @property
    def log_local(self) -> float:
        r"""$\log(r \rho \tau)$."""
        return self.choice.log_total + self.plain.log_local

    def log_moving(self, p: float | int) -> float:
        r"""$\log(\ell H^{1/p} + \kappa_p \beta \rho\, W^{1/p} r^{1 - 1/p})$."""
        head, size = self.plain, self.choice
        density = size.log_square if p >= 2 else size.log_density
        turning = _log(head.scores.key * head.spread) + math.log(2) * max(2 / p - 1, 0)
        turning += size.log_response / p + size.log_total * (1 - 1 / p)
        return float(np.logaddexp(_log(head.value) + density / p, turning))


@dataclass(frozen=True)
class CoupledHead:
    """A head of doubly stochastic attention, in W_2."""

    plain: HeadSizes
    oscillation: float = 0.0  # columns sum to one

    @property
    def log_local(self) -> float:
        return self.plain.log_local

    def log_moving(self, p: float | int) -> float:
        r"""$\log(K_2 + e^{2 \omega} \rho (\tau + \beta))$."""
        scores = self.plain.scores
        back = 2 * scores.oscillation + _log(self.plain.spread * (scores.query + scores.key))
        return float(np.logaddexp(self.plain.log_moving(2), back))


@dataclass(frozen=True)
class FreeHead:
    r"""A head whose shares are not normalised: $|h| \le \hat h$, $|w| \le \hat w$.

    Args:
      query, key: $\sup |\partial_x s|$, $\sup |\partial_y s|$.
      reach: $\sup |v|$, biases included.
      value: $\ell$.
      density, response: $\hat h$, $\hat w$.
    """

    query: float
    key: float
    reach: float
    value: float
    density: float
    response: float
    oscillation: float = 0.0

    @property
    def log_local(self) -> float:
        return _log(self.response * self.reach * self.query)

    def log_moving(self, p: float | int) -> float:
        r"""$\log(\hat h \ell + \hat w \beta \sup |v|)$, for every p."""
        return _log(self.density * self.value + self.response * self.key * self.reach)


def choice_sizes(
    f: AbstractAttention, domain: AbstractDomain, reach: float | int, equal: bool
) -> AttentionSizes:
    """The sizes of all heads of f, whose choice is not the plain softmax.

    Args:
      reach: how many positions a query can see; equal: whether their masses are equal.

    Raises:
      TypeError, ValueError: see `density_sizes` and `free_scores`.
    """
    if not f.choice.normalised:
        return _free_sizes(f, domain)
    sizes = head_sizes(f, domain, reach)

    def wrap(heads):
        if isinstance(f.choice, DoublyStochastic):
            return tuple(CoupledHead(head) for head in heads)
        atoms = reach if equal else math.inf
        return tuple(
            DensityHead(head, density_sizes(f.choice, head.scores.oscillation, atoms))
            for head in heads
        )

    return AttentionSizes(wrap(sizes.heads), wrap(sizes.inner), sizes.output)


def _free_sizes(f: AbstractAttention, domain: AbstractDomain) -> AttentionSizes:
    maps = value_maps(f)
    around = enclosing(domain, maps.dim)
    values = [np.column_stack(pair) for pair in zip(maps.values, value_biases(f), strict=True)]
    stacked, far = StackedHeads.of(maps.outputs, values), _farthest(around)
    heads, inner = [], []
    parts = zip(free_scores(f, around), maps.outputs, maps.values, values, strict=True)
    for h, ((score, query, key), O, V, with_bias) in enumerate(parts):
        density, response = _free_density(f.choice, score)
        outer, product = around.reach(O @ V, O @ with_bias[:, -1]), product_norm(O, V)
        heads.append(FreeHead(query, key, outer, product, density, response))
        W, lost = stacked.values[h], stacked.lost[h]
        reach, norm = around.reach(W[:, :-1], W[:, -1]) + lost * far, spectral_norm(W[:, :-1])
        inner.append(FreeHead(query, key, reach, norm + lost, density, response))
    return AttentionSizes(tuple(heads), tuple(inner), stacked.whole)


def _farthest(domain: Ellipsoid) -> float:
    """A bound on |(x, 1)| over the domain."""
    return math.hypot(domain.reach(np.eye(domain.dim), np.zeros(domain.dim)), 1.0)


def _free_density(choice: AbstractChoice, largest_score: float) -> tuple[float, float]:
    """Bounds on |h| and on w."""
    if isinstance(choice, Sigmoid):
        return 1.0, 0.25
    if isinstance(choice, Linear):
        return largest_score, 1.0
    raise TypeError(f"no theorem covers the choice {type(choice).__name__}.")


@singledispatch
def free_scores(f: AbstractAttention, domain: Ellipsoid) -> tuple[tuple[float, float, float], ...]:
    r"""$\sup |s|$, $\sup |\partial_x s|$ and $\sup |\partial_y s|$ of every head on a domain.

    Raises:
      TypeError: for an attention without a rule; register one with `free_scores.register`.
    """
    raise TypeError(
        f"no theorem covers the scores of {type(f).__name__} where shares are not normalised; "
        "register a rule with `free_scores.register`."
    )


@free_scores.register
def _(f: SelfAttention, domain: Ellipsoid) -> tuple[tuple[float, float, float], ...]:
    A, zeros = float64(f.A), np.zeros(domain.dim)
    key = domain.reach(A, zeros if f.a is None else float64(f.a))
    longest = domain.reach(np.eye(domain.dim), zeros)
    return ((_largest(f, key * longest), domain.reach(A.T, zeros), key),)


@free_scores.register
def _(f: MultiheadAttention, domain: Ellipsoid) -> tuple[tuple[float, float, float], ...]:
    if f.rotary is not None or f.query_norm is not None or f.key_norm is not None:
        raise TypeError(
            "no theorem covers rotary positions or norms of queries and keys where shares are not "
            f"normalised; got the choice {type(f.choice).__name__}."
        )
    return tuple(_plain_scores(one, domain) for one in f.heads)


def _plain_scores(f: MultiheadAttention, domain: Ellipsoid) -> tuple[float, float, float]:
    Q, K, scale = float64(f.query_proj[0]), float64(f.key_proj[0]), abs(f.score_scale)
    q = np.zeros(Q.shape[0]) if f.query_bias is None else float64(f.query_bias[0])
    k = np.zeros(K.shape[0]) if f.key_bias is None else float64(f.key_bias[0])
    largest = scale * _largest_product(np.column_stack([Q, q]), np.column_stack([K, k]), domain)
    query, key = domain.reach(Q.T @ K, Q.T @ k), domain.reach(K.T @ Q, K.T @ q)
    return _largest(f, largest), scale * query, scale * key


def _largest_product(queries: Matrix, keys: Matrix, domain: Ellipsoid) -> float:
    r"""A bound on $\langle L (x, 1), R (y, 1) \rangle$ by the lengths of balanced factors."""
    left, right = balanced_pair(queries, keys)
    lost = product_norm(np.hstack([queries.T, left.T]), np.vstack([keys, -right]))
    lengths = [domain.reach(side[:, :-1], side[:, -1]) for side in (left, right)]
    return lengths[0] * lengths[1] + lost * _farthest(domain) ** 2


def _largest(f: SelfAttention | MultiheadAttention, score: float) -> float:
    if f.score_bias is not None:
        return math.inf
    return score if f.soft_cap is None else min(score, abs(f.soft_cap))


def value_biases(f: AbstractAttention) -> list[np.ndarray]:
    """The value bias of every head, zero where there is none."""
    maps = value_maps(f)
    if isinstance(f, MultiheadAttention) and f.value_bias is not None:
        return list(np.repeat(float64(f.value_bias), f.group, axis=0))
    return [np.zeros(V.shape[0]) for V in maps.values]


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf
