"""Where the search begins: transforms that pair principal axes of both measures, in all signs."""

import itertools

import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from .lower_bound import largest_product
from .moments import Cloud, Moments


# An axis counts where its variance is at least this share of the largest.
_SEEN = 1e-10


def sign_starts(moments: Moments, axes: int) -> Float[np.ndarray, "s q p"]:
    r"""$M = \sum_k \pm \sqrt{\lambda_k \lambda'_k}\, u'_k u_k^\top$ for all signs of some axes.

    $\lambda_k, u_k$ are the principal variances and axes of mu, $\lambda'_k, u'_k$ those of nu.
    Each term is the largest cross-moment that the two axes can have.
    """
    scales, left, right = _paired(moments, axes)
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=len(scales))))
    return np.einsum("sk,qk,pk->sqp", signs * scales, left, right)


def random_starts(
    moments: Moments, axes: int, count: int, key: PRNGKeyArray
) -> Float[np.ndarray, "s q p"]:
    """The same with the axes of mu turned at random among themselves."""
    scales, left, right = _paired(moments, axes)
    normal = np.asarray(jr.normal(key, (count, len(scales), len(scales))), np.float64)
    turns, _ = np.linalg.qr(normal)
    return np.einsum("k,qk,skl,pl->sqp", scales, left, turns, right)


def ranked_starts(
    clouds: tuple[Cloud, Cloud], moments: Moments, axes: int
) -> Float[np.ndarray, "s q p"]:
    r"""Transforms that pair all principal axes, in all signs of the first `axes` of them; those of
    which couplings can reach more come first.

    For a sign $\sigma$, transport on the line tells the largest $\int \sigma \langle u_k, x \rangle
    \langle u'_k, y \rangle d\pi$ of any coupling. The sum over axes, weighted by $\sqrt{\lambda_k
    \lambda'_k}$, bounds what the start's transform can have with one; the further axes take the
    sign with the larger value. Skewed measures decide their signs by themselves.
    """
    scales, left, right = _paired(moments, len(moments.x))
    (x, a), (y, b) = (cloud[:2] for cloud in clouds)
    both = [
        (largest_product(u, a, v, b), largest_product(-u, a, v, b))
        for u, v in zip((x @ right).T, (y @ left).T, strict=True)
    ]
    plus, minus = np.array(both).T * scales
    best = np.where(plus >= minus, 1.0, -1.0)
    k = min(axes, len(scales))
    leading = np.array(list(itertools.product([1.0, -1.0], repeat=k)))
    signs = np.hstack([leading, np.broadcast_to(best[k:], (len(leading), len(best) - k))])
    order = np.argsort(-np.sum(np.where(signs > 0, plus, minus), axis=1), kind="stable")
    return np.einsum("sk,qk,pk->sqp", signs[order] * scales, left, right)


def _paired(moments: Moments, axes: int):
    (values, right), (others, left) = (np.linalg.eigh(moment) for moment in moments)
    values, others = values[::-1], others[::-1]
    k = max(
        min(axes, int(np.sum(values > _SEEN * values[0])), int(np.sum(others > _SEEN * others[0]))),
        1,
    )
    return np.sqrt(values[:k] * others[:k]), left[:, ::-1][:, :k], right[:, ::-1][:, :k]


def systematic_sample(shares: Float[np.ndarray, " n"], size: int, key: PRNGKeyArray) -> np.ndarray:
    """Atoms drawn with equal steps through the cumulated mass: each as often as its mass says, to
    within one; absent atoms never."""
    places = (float(jr.uniform(key)) + np.arange(size)) / size
    cumulated = np.cumsum(shares) / np.sum(shares)
    drawn = np.searchsorted(cumulated, places, side="right")
    return np.minimum(drawn, int(np.nonzero(shares > 0)[0][-1]))
