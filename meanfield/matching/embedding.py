r"""Dissimilarities as squared distances in few signed dimensions: Neuc-MDS {cite}`deng2024`.

A symmetric matrix D with zero diagonal is $D_{ij} = B_{ii} + B_{jj} - 2 B_{ij}$ for $B = -\frac12
C D C^\top$. Keeping the largest and the smallest eigenvalues of B, with their signs, gives points
z with $\hat D_{ij} = \sum_k \sigma_k (z_{ik} - z_{jk})^2$ near D, for metric D or not.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..measure import Measure
from ..measure.wording import figure


_UNIT = np.finfo(np.float64).eps / 2


class SignedEmbedding(eqx.Module):
    r"""Points whose signed squared distances stand for dissimilarities.

    Attributes:
      points: z, shape (n, k); absent atoms stand at zero.
      signature: the signs of the coordinates, shape (k,).
      weights: shape (n,).
      stress: $\sum_{ij} a_i a_j (D_{ij} - \hat D_{ij})^2$ for the weights a as shares: the mean
        squared error of a pair.
      bound: at least $\sqrt{\text{stress}}$, whatever was rounded: the Gromov-Wasserstein distance
        to any other matrix, and the root of the distortion of any coupling, changes by no more
        when $\hat D$ takes the place of D (theory page).
      bent: whether kept eigenvalues were moved to make up for those that were dropped (Neuc-MDS+).
    """

    points: Float[Array, "n k"]
    signature: Float[np.ndarray, " k"]
    weights: Float[np.ndarray, " n"]
    stress: float
    bound: float
    bent: bool

    def __repr__(self) -> str:
        n, k = self.points.shape
        return f"SignedEmbedding({n} points in {k} coordinates, stress {figure(self.stress)})"

    @property
    def measure(self) -> Measure:
        """The points with their weights, to be matched with `SignedDistance`."""
        return Measure(self.points, self.weights)

    @property
    def dissimilarities(self) -> Float[np.ndarray, "n n"]:
        r"""$\hat D$, shape (n, n)."""
        return _signed_distances(np.asarray(self.points, np.float64), self.signature)[0]


def signed_embedding(
    dissimilarities: Any, rank: int, weights: Any = None, *, bend: bool = True
) -> SignedEmbedding:
    r"""The signed embedding of a matrix of dissimilarities, {cite}`deng2024`.

    The kept eigenvalues are the r largest and the k - r smallest of $\sqrt{a} B \sqrt{a}$. Some r
    is optimal for what the method minimises (theory page); that of least stress is taken. Weights
    make it a function of the measure; uniform ones give the published method. One decomposition
    of an (n, n) matrix, on the host, in float64.

    Args:
      dissimilarities: D, shape (n, n), symmetric with zero diagonal, of any sign; entries play the
        part of squared distances. Rows and columns of absent atoms are not read.
      rank: k, the number of coordinates.
      weights: shape (n,), nonnegative; uniform by default.
      bend: whether kept eigenvalues may be moved (Neuc-MDS+) where this lowers the stress.

    Raises:
      ValueError: a matrix that is not square, symmetric, finite or zero on the diagonal; weights
        that do not fit; a rank out of range.
    """
    given = np.asarray(dissimilarities, np.float64)
    a = _shares(given, weights)
    present = a > 0
    d, a = given[np.ix_(present, present)], a[present]
    _check(d, rank)
    values, vectors = _spectrum((d + d.T) / 2, a)
    kept = _best(values, vectors, a, rank, bend)
    z = np.zeros((len(given), rank))
    z[present] = vectors[:, kept.places] * np.sqrt(np.abs(kept.values))
    points, signs = jnp.asarray(z), np.where(kept.values < 0, -1.0, 1.0)
    stress, bound = _stress(d, np.asarray(points, np.float64)[present], signs, a)
    total = np.ones(len(given)) / len(given) if weights is None else np.asarray(weights, np.float64)
    return SignedEmbedding(points, signs, total, stress, bound, bool(kept.bent))


def distortion_interval(
    value: Any, first: SignedEmbedding, second: SignedEmbedding
) -> tuple[float, float]:
    r"""Where the distortion of a coupling lies for the dissimilarities themselves.

    For a distortion v of the embeddings it is between $(\sqrt v - \delta)_+^2$ and $(\sqrt v +
    \delta)^2$, with $\delta$ the sum of both bounds, and so is the least distortion if v is the
    least one of the embeddings (theory page).

    Args:
      value: `Match.value` for Gromov-Wasserstein between two embeddings (v, as it is given).
      first, second: the embeddings.
    """
    root, delta = np.sqrt(max(float(value), 0.0)), first.bound + second.bound
    low = max(root * (1 - 4 * _UNIT) - delta * (1 + 4 * _UNIT), 0.0)
    return low**2 * (1 - 8 * _UNIT), (root + delta) ** 2 * (1 + 8 * _UNIT)


class _Kept(NamedTuple):
    """Which eigenvectors are kept, with which values, and whether these were moved."""

    places: np.ndarray
    values: np.ndarray
    bent: bool
    stress: float


def _shares(d: np.ndarray, weights: Any) -> np.ndarray:
    if d.ndim != 2 or d.shape[0] != d.shape[1]:
        raise ValueError(f"`dissimilarities` must have shape (n, n); got {d.shape}.")
    a = np.ones(len(d)) if weights is None else np.asarray(weights, np.float64)
    if a.shape != (len(d),) or not (np.isfinite(a).all() and (a >= 0).all() and a.sum() > 0):
        raise ValueError(
            f"`weights` must be {len(d)} nonnegative numbers with a positive sum, one for each row "
            f"of `dissimilarities`; got an array of shape {a.shape}."
        )
    return a / a.sum()


def _check(d: np.ndarray, rank: int) -> None:
    size = np.abs(d).max()
    if not np.isfinite(size):
        raise ValueError("`dissimilarities` must be finite between atoms that have weight.")
    if not (np.abs(d - d.T).max() <= 1e-8 * size and not np.diag(d).any()):
        raise ValueError(
            "`dissimilarities` must be symmetric with zero diagonal. Take (D + D.T) / 2, and for "
            "similarities s the dissimilarities s_ii + s_jj - 2 s_ij."
        )
    if not 1 <= rank <= len(d):
        raise ValueError(f"`rank` must be between 1 and {len(d)}, the atoms; got {rank}.")


def _spectrum(d: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of B from the largest down, and vectors orthonormal in the weighted sense."""
    means = d @ a
    b = -(d - means[:, None] - means + a @ means) / 2
    root = np.sqrt(a)
    values, vectors = np.linalg.eigh(root[:, None] * b * root)
    return values[::-1], vectors[:, ::-1] / root[:, None]


def _best(values: np.ndarray, vectors: np.ndarray, a: np.ndarray, rank: int, bend: bool) -> _Kept:
    """The candidate of least stress: r largest and k - r smallest eigenvalues, moved or not."""
    n, candidates = len(values), []
    seen = 1 - (a @ vectors) ** 2  # no distance sees the constant vector, which has the value zero
    for top in range(rank + 1):
        places = np.concatenate([np.arange(top), np.arange(n - rank + top, n)])
        kept, dropped = values[places], np.arange(top, n - rank + top)
        middle = values[dropped].sum()
        shifts = [c * middle / (1 + c * rank) for c in (0.5, 1.0)] if bend else []
        for shift in [0.0, *shifts]:
            left = np.zeros(n)
            left[dropped], left[places] = values[dropped], -shift * seen[places]
            stress = three_terms(left, vectors, a)
            candidates.append(_Kept(places, kept + shift, shift != 0, stress))
    return min(candidates, key=lambda kept: kept.stress)


def three_terms(left: Any, vectors: Any, a: Any) -> float:
    r"""The stress of what is left of the spectrum, $4 \sum \lambda^2 + 2 (\sum \lambda)^2 + 2
    \sum_i a_i b_i^2$ with $b_i = \sum_k \lambda_k w_{ik}^2$."""
    diagonal = vectors**2 @ left
    return float(4 * left @ left + 2 * left.sum() ** 2 + 2 * a @ diagonal**2)


def _signed_distances(z: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed and plain squared distances: the second scales what the first may be rounded by."""
    signed, plain = np.zeros((2, len(z), len(z)))
    for column, sign in zip(z.T, signs, strict=True):
        squares = np.subtract.outer(column, column) ** 2
        signed += sign * squares
        plain += squares
    return signed, plain


def _stress(d: np.ndarray, z: np.ndarray, signs: np.ndarray, a: np.ndarray) -> tuple[float, float]:
    """The weighted stress of the points, and an upper bound on its root."""
    signed, plain = _signed_distances(z, signs)
    gaps = np.abs(d - signed)
    # k + 3 roundings in a signed distance, one in the gap, 2 n in the sums, few in shares and root
    safe = gaps * (1 + 2 * _UNIT) + 2 * (z.shape[1] + 4) * _UNIT * plain
    above = np.sqrt(a @ safe**2 @ a) * (1 + (4 * len(a) + 32) * _UNIT)
    return float(a @ gaps**2 @ a), float(above)
