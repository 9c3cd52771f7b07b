"""Global Lipschitz bounds of attention in Wasserstein distance (proofs: docs/theory/regularity)."""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from meanfield.attention import (
    AbstractAttention,
    AbstractChoice,
    AbstractCoupledChoice,
    AbstractInContextMap,
    CausalAttention,
    DoublyStochastic,
    L2Attention,
    MultiheadAttention,
    SelfAttention,
    check_map,
    is_softmax,
)
from meanfield.measure import AbstractDomain

from .bound import Bound, smallest
from .choices import choice_sizes
from .heads import AttentionSizes, Head, attention_sizes


# The log of a bound on ||N|| in L^p for one head.
MovingBound = Callable[[Any], float]


@singledispatch
def lipschitz_bound(
    f: AbstractInContextMap, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None
) -> Bound:
    r"""A proved bound on the Lipschitz constant of $F(\mu) = G(\mu, \cdot)_\# \mu$ for $W_p$, on
    measures carried by a domain: the smallest that applies, with the name of its theorem.

    It is computed on the host in float64, in logarithms. The theorems and their proofs are on the
    theory page "Regularity".

    Args:
      f: the map. A new kind of map brings its rule with `lipschitz_bound.register`.
      domain: a `Ball`, a `Sphere` or a `LayerNormRange`.
      p: the exponent of the distance, 1 <= p <= inf. Where positions matter, the distance is
        the conditional one, between measures with equal bases.
      n: None for all measures, weighted as they may be; a number for n atoms of equal mass (n
        positions with one atom each, where positions matter).

    Raises:
      TypeError: for a map that no theorem covers.
      ValueError: if p < 1 or n < 1, or if no finite bound is known for this p and n.
    """
    check_map(f)
    raise TypeError(
        f"no theorem covers {type(f).__name__}; register a rule with `lipschitz_bound.register`."
    )


@singledispatch
def lipschitz_bounds(
    f: AbstractInContextMap, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None
) -> tuple[Bound, ...]:
    """Every finite bound that a theorem gives; the arguments are those of `lipschitz_bound`."""
    return (lipschitz_bound(f, domain, p=p, n=n),)


@lipschitz_bound.register(SelfAttention)
@lipschitz_bound.register(MultiheadAttention)
@lipschitz_bound.register(L2Attention)
@lipschitz_bound.register(CausalAttention)
def _(
    f: AbstractInContextMap, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None
) -> Bound:
    return smallest(lipschitz_bounds(f, domain, p=p, n=n))


@lipschitz_bounds.register(SelfAttention)
@lipschitz_bounds.register(MultiheadAttention)
@lipschitz_bounds.register(L2Attention)
def _(
    f: AbstractAttention, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None
) -> tuple[Bound, ...]:
    check_exponent(p, n)
    reach = math.inf if n is None else n
    if is_softmax(f.choice):
        sizes = attention_sizes(f, domain, reach)
        return _bounds(sizes, _everyone_sees_all(p, n), domain, p)
    sizes = choice_sizes(f, domain, reach, equal=n is not None)
    return _bounds(sizes, _chosen(f.choice, p), domain, p)


@lipschitz_bounds.register
def _(
    f: CausalAttention, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None
) -> tuple[Bound, ...]:
    check_exponent(p, n)
    reach = min(math.inf if limit is None else limit for limit in (n, f.window))
    if is_softmax(f.attention.choice):
        sizes = attention_sizes(f.attention, domain, reach)
        return _bounds(sizes, _masked(p, n, f.window), domain, p)
    _refuse_coupled(f.attention.choice)
    sizes = choice_sizes(f.attention, domain, reach, equal=n is not None)
    named = {f"{name}-of-choices": moving for name, moving in _masked(p, n, f.window).items()}
    return _bounds(sizes, named, domain, p)


def _bounds(
    sizes: AttentionSizes, theorems: dict[str, MovingBound], domain: AbstractDomain, p: float | int
) -> tuple[Bound, ...]:
    logs = {name: sizes.log_total(p, moving) for name, moving in theorems.items()}
    bounds = [
        Bound(log_value, "upper", domain, f"meanfield:{name}")
        for name, log_value in logs.items()
        if log_value < math.inf
    ]
    if not bounds:
        raise ValueError(
            f"no finite bound is known for p={p} and any number of atoms; give `n`, or take p=inf."
        )
    return tuple(bounds)


def _everyone_sees_all(p: float | int, n: int | None) -> dict[str, MovingBound]:
    if math.isinf(p):
        return {"wasserstein-infinity": lambda h: h.log_moving(p)}
    theorems = {
        "wasserstein-p": lambda h: h.log_moving(p) + h.oscillation / p,
        "sharp-exponent": lambda h: h.log_moving(p) + h.scores.log_column / p,
    }
    if n is not None:
        theorems["general-n"] = lambda h: h.log_moving(p) + _log_share_sum(h, n, n) / p
    return theorems


def _chosen(choice: AbstractChoice, p: float | int) -> dict[str, MovingBound]:
    """The theorem of a choice that is not the plain softmax; none looks at columns of shares."""
    if isinstance(choice, DoublyStochastic):
        return {"doubly-stochastic": lambda h: h.log_moving(p) if p == 2 else math.inf}
    name = "bounded-density" if choice.normalised else "free-shares"
    return {name: lambda h: h.log_moving(p)}


def _refuse_coupled(choice: AbstractChoice) -> None:
    if isinstance(choice, AbstractCoupledChoice):
        raise ValueError(
            f"`choice` must treat each query alone under a mask; got {type(choice).__name__}."
        )


def _masked(p: float | int, n: int | None, window: int | None) -> dict[str, MovingBound]:
    if math.isinf(p):
        return {"wasserstein-infinity": lambda h: h.log_moving(p)}
    theorems = {}
    if p > 1:
        theorems["masked-hardy"] = lambda h: _log_hardy(h, p)
    if window is not None:
        theorems["masked-window"] = lambda h: (
            h.log_moving(p) + (math.log(window) + h.oscillation) / p
        )
    if n is not None:
        rows = n if window is None else min(n, window)
        theorems["masked-n"] = lambda h: h.log_moving(p) + _log_masked_share_sum(h, rows) / p
    return theorems


def _log_share_sum(head: Head, n: int, rows: int) -> float:
    r"""$\log \sum_i P_{ij}$ for equal atoms: each share is at most $1 / (1 + (n-1) e^{-osc})$."""
    return math.log(rows) - math.log1p((n - 1) * math.exp(-head.oscillation))


def _log_masked_share_sum(head: Head, rows: int) -> float:
    """The same where the k-th row that sees an atom sees at least k atoms."""
    others = np.arange(rows) * math.exp(-head.oscillation)
    return math.log(float(np.sum(1 / (1 + others))))


def _log_hardy(head: Head, p: float | int) -> float:
    r"""$\min_{1 \le r < p} \log K_r + \frac1r (osc + \log \frac{p}{p - r})$."""
    exponents = 1 + (p - 1) * (1 - np.geomspace(1, 1e-4, 65))
    return min(
        head.log_moving(r) + (head.oscillation + math.log(p / (p - r))) / r
        for r in map(float, exponents)
    )


def check_exponent(p: float | int, n: int | None) -> None:
    """Refuse an exponent below one, and a number of atoms that is not a positive integer."""
    if not p >= 1:
        raise ValueError(f"`p` must be at least 1 (jnp.inf included); got {p}.")
    if n is not None and (n != int(n) or n < 1):
        raise ValueError(f"`n` must be None or a positive number of atoms; got {n}.")
