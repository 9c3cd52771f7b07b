"""How good a match is where the truth is known."""

from typing import Any

import numpy as np
from jaxtyping import Float


def foscttm(
    x: Float[Any, "n d"], y: Float[Any, "m e"], *, block: int = 1024
) -> Float[np.ndarray, ""]:
    """The mean fraction of samples closer than the true match, over both directions.

    Row i of x and row i of y are the same sample, in one space. For each row the fraction of rows
    of the other array that are strictly closer than its partner, ties counted as one half, out of
    n - 1: zero is perfect, one half is chance. Distances are sums of squared differences, so that
    equal rows tie exactly. O(n (d + block)) memory.

    Raises:
      ValueError: the arrays differ in shape, have fewer than two rows, or are not finite.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 2 or len(x) < 2:
        raise ValueError(
            "`x` and `y` must have the same shape (n, d) with n >= 2, one row for each sample; got "
            f"{x.shape} and {y.shape}."
        )
    _finite(x=x, y=y)
    return np.asarray((_closer(x, y, block) + _closer(y, x, block)) / 2)


def _finite(**arrays: np.ndarray) -> None:
    """Refuse NaN: every comparison with it is false, and a bad map would score well."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"`{name}` must be finite; it holds NaN or inf.")


def _closer(x: np.ndarray, y: np.ndarray, block: int) -> float:
    from scipy.spatial.distance import cdist

    n, total = len(x), 0.0
    for begin in range(0, n, block):
        rows = np.arange(begin, min(begin + block, n))
        distances = cdist(x[rows], y, "sqeuclidean")
        own = distances[np.arange(len(rows)), rows][:, None]
        closer = np.sum(distances < own) + (np.sum(distances == own) - len(rows)) / 2
        total += float(closer)
    return total / (n * (n - 1))


def label_transfer_accuracy(
    mapped: Float[Any, "n d"],
    labels: Any,
    target: Float[Any, "m e"],
    target_labels: Any,
    k: int = 5,
) -> Float[np.ndarray, ""]:
    """The share of mapped points whose label is that of most of their k nearest targets.

    Ties between labels go to the smallest label, as in scikit-learn's classifier.

    Raises:
      ValueError: labels of the wrong length, no points, points that are not finite, different
        dimensions, or k out of range.
    """
    from scipy.spatial import KDTree

    mapped, target = np.asarray(mapped, np.float64), np.asarray(target, np.float64)
    labels, known = np.asarray(labels), np.asarray(target_labels)
    for name, given, points in (("labels", labels, mapped), ("target_labels", known, target)):
        if given.shape != (len(points),):
            raise ValueError(
                f"`{name}` must have one label for each of {len(points)} points; got shape "
                f"{given.shape}."
            )
    if mapped.ndim != 2 or mapped.shape[1:] != target.shape[1:] or not len(mapped):
        raise ValueError(
            "`mapped` and `target` must have shapes (n, d) and (m, d) with the same d and "
            f"at least one point; got {mapped.shape} and {target.shape}."
        )
    _finite(mapped=mapped, target=target)
    if not 1 <= k <= len(target):
        raise ValueError(f"`k` must be between 1 and {len(target)}; got {k}.")
    names, numbers = np.unique(known, return_inverse=True)
    nearest = KDTree(target).query(mapped, k=k)[1].reshape(len(mapped), k)
    votes = np.apply_along_axis(np.bincount, 1, numbers[nearest], minlength=len(names))
    return np.asarray(np.mean(names[np.argmax(votes, axis=1)] == labels))


def support_recovery(transform: Float[Any, "q p"], truth: Float[Any, "k l"]) -> dict[str, float]:
    r"""How well the nonzero entries are found: precision, recall, and the relative error of M,
    $|M - M^*|_F / |M^*|_F$.

    Raises:
      ValueError: different shapes, entries that are not finite, or a truth without nonzero entries.
    """
    found, true = np.asarray(transform, np.float64), np.asarray(truth, np.float64)
    if found.shape != true.shape:
        raise ValueError(
            f"`transform` must have the shape {true.shape} of `truth`; got {found.shape}."
        )
    _finite(transform=found, truth=true)
    if not true.any():
        raise ValueError("`truth` must have a nonzero entry; without one nothing can be recovered.")
    both = np.sum((found != 0) & (true != 0))
    return {
        "precision": float(both / max(np.sum(found != 0), 1)),
        "recall": float(both / max(np.sum(true != 0), 1)),
        "error": float(np.linalg.norm(found - true) / np.linalg.norm(true)),
    }
