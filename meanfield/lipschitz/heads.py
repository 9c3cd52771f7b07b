"""Sizes of attention heads on a domain, and how the bounds of heads make the bound of a layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from meanfield.attention import (
    AbstractAttention,
    L2Attention,
    MultiheadAttention,
    SelfAttention,
    is_softmax,
)
from meanfield.measure import AbstractDomain

from .ellipsoid import Matrix, enclosing, float64, product_norm
from .gauge import StackedHeads
from .scores import ScoreSizes, score_sizes


@dataclass(frozen=True)
class HeadSizes:
    r"""One head on a domain: its scores and its values $V y$.

    Args:
      scores: the sizes of the scores.
      value: $\|V\|$.
      spread: $\|V E\|$: the values of the domain lie in a ball of this radius.
    """

    scores: ScoreSizes
    value: float
    spread: float

    @property
    def oscillation(self) -> float:
        """How far the scores that one query gives can differ."""
        return self.scores.oscillation

    @property
    def log_local(self) -> float:
        r"""A bound on $\log \|D_i\|$: what the query channel of a token can do."""
        return _log(self.spread * self.scores.query)

    def log_moving(self, p: float | int) -> float:
        r"""$\log K_p$, where $|(N u)_i| \le K_p (\sum_j P_{ij} |u_j|^p)^{1/p}$ in every row."""
        turning = self.scores.key * self.spread
        if p >= 2 and self.scores.aligned:
            return _log(math.hypot(self.value, turning))
        return _log(self.value + 2 ** max(2 / p - 1, 0) * turning)


@runtime_checkable
class Head(Protocol):
    """What the theorems read of a head."""

    @property
    def log_local(self) -> float: ...

    @property
    def oscillation(self) -> float: ...

    def log_moving(self, p: float | int) -> float: ...


@dataclass(frozen=True)
class AttentionSizes:
    """All heads of an attention: seen after their output projections, and before them.

    Args:
      heads: the values are those that come out, O_h V_h y.
      inner: the values are V_h y, with V_h and O_h balanced.
      output: the norm of the balanced output projections side by side, [O_1 ... O_H].
    """

    heads: tuple[Head, ...]
    inner: tuple[Head, ...]
    output: float

    def log_total(self, p: float | int, log_moving: Callable[[Head], float]) -> float:
        r"""The log of a bound on the layer, from bounds on $\|N^h\|_{L^p}$ for each of its heads.

        Heads are summed, or stacked and then projected: ||[O_1 ... O_H]|| times the root of the
        sum of squares (of p-th powers for p < 2), whichever is less.
        """
        local = self._log_sum([h.log_local for h in self.heads], [h.log_local for h in self.inner])
        moving = self._log_sum(
            [log_moving(h) for h in self.heads], [log_moving(h) for h in self.inner], min(p, 2)
        )
        return float(np.logaddexp(local, moving))

    def _log_sum(self, heads: list[float], inner: list[float], power: float | int = 2) -> float:
        stacked = _log(self.output) + _log_sum_exp([power * h for h in inner]) / power
        return min(_log_sum_exp(heads), stacked)


def attention_sizes(
    f: AbstractAttention, domain: AbstractDomain, reach: float | int
) -> AttentionSizes:
    """The sizes of all heads of f on a domain; `reach` is how many positions a query can see.

    Raises:
      TypeError: for an attention or a choice that no theorem covers.
    """
    if not is_softmax(f.choice):
        raise TypeError(
            "`choice` must be Softmax without a cap for the theorems of softmax attention; got "
            f"{type(f.choice).__name__}."
        )
    return head_sizes(f, domain, reach)


def head_sizes(f: AbstractAttention, domain: AbstractDomain, reach: float | int) -> AttentionSizes:
    """The sizes of all heads of f on a domain, whatever its choice."""
    if f.score_bias is None:
        reach = math.inf  # only a bias of the positions depends on how many are seen
    return _latest.sizes(f, domain, reach)


class _Latest:
    """The sizes last asked for: one attention is asked for several exponents in a row."""

    def __init__(self):
        self._known: tuple[AbstractAttention, AbstractDomain, float, AttentionSizes] | None = None

    def sizes(
        self, f: AbstractAttention, domain: AbstractDomain, reach: float | int
    ) -> AttentionSizes:
        known = self._known
        if known and known[0] is f and known[1] is domain and known[2] == reach:
            return known[3]
        sizes = _measured_sizes(f, domain, reach)
        self._known = (f, domain, reach, sizes)
        return sizes


_latest = _Latest()


def _measured_sizes(
    f: AbstractAttention, domain: AbstractDomain, reach: float | int
) -> AttentionSizes:
    maps = value_maps(f)
    around = enclosing(domain, maps.dim)
    scores = score_sizes(f, around, reach)
    pairs = zip(scores, maps.outputs, maps.values, strict=True)
    heads = tuple(
        HeadSizes(score, product_norm(O, V), product_norm(O, around.times(V)))
        for score, O, V in pairs
    )
    if len(heads) == 1:
        return AttentionSizes(heads, heads, 1.0)
    stacked = StackedHeads.of(maps.outputs, maps.values)
    sizes = zip(scores, stacked.norms(), stacked.spreads(around), strict=True)
    return AttentionSizes(heads, tuple(HeadSizes(*size) for size in sizes), stacked.whole)


@dataclass(frozen=True)
class ValueMaps:
    """What heads put out: sum_h O_h V_h y_h + constant, for an average y_h of each head.

    Args:
      outputs: the matrices O_h; values: the matrices V_h; both in float64.
      constant: all biases, behind their output projections.
    """

    outputs: list[Matrix]
    values: list[Matrix]
    constant: Float[np.ndarray, " e"]

    @property
    def dim(self) -> int:
        """The dimension of the points that are read."""
        return self.values[0].shape[1]

    def at(self, point: Float[np.ndarray, " d"]) -> Float[np.ndarray, " e"]:
        """The output where every head averages to the same point."""
        heads = zip(self.outputs, self.values, strict=True)
        return sum((O @ (V @ point) for O, V in heads), start=self.constant)


@singledispatch
def value_maps(f: AbstractAttention) -> ValueMaps:
    """The output and value projections of all heads.

    Raises:
      TypeError: for an attention without a rule; register one with `value_maps.register`.
    """
    raise TypeError(
        f"no theorem covers the values of {type(f).__name__}; register a rule with "
        "`value_maps.register`."
    )


@value_maps.register
def _(f: SelfAttention) -> ValueMaps:
    e = f.V.shape[0]
    return ValueMaps([np.eye(e)], [float64(f.V)], np.zeros(e) if f.c is None else float64(f.c))


@value_maps.register
def _(f: MultiheadAttention) -> ValueMaps:
    outputs, values = float64(f.output_proj), float64(f.value_proj)
    constant = np.zeros(outputs.shape[1]) if f.output_bias is None else float64(f.output_bias)
    if f.value_bias is not None:
        biases = np.repeat(float64(f.value_bias), f.group, axis=0)
        constant = constant + np.einsum("hev,hv->e", outputs, biases)
    return ValueMaps(list(outputs), list(np.repeat(values, f.group, axis=0)), constant)


@value_maps.register
def _(f: L2Attention) -> ValueMaps:
    outputs = float64(f.output_proj)
    return ValueMaps(list(outputs), list(float64(f.value_proj)), np.zeros(outputs.shape[1]))


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _log_sum_exp(logs: list[float]) -> float:
    top = max(logs)
    return top if math.isinf(top) else top + math.log(sum(math.exp(x - top) for x in logs))
