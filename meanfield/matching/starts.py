"""Where the search begins: transforms that pair principal axes of both measures, in all signs."""

import itertools

import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from .moments import Moments


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
