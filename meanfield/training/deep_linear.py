r"""Deep linear networks for regression: how sharp minimisers must be, and which steps are too long.

The network $x \mapsto p^\top W_L \cdots W_1 x$ with one output is trained on the mean squared error
$R(W) = \frac1n |y - X W_1^\top \cdots W_L^\top p|^2$ (no factor one half). Minimisers all compute
least squares, and differ in their sharpness, the largest eigenvalue of the Hessian
{cite}`marion2024`; proofs are on the theory page on deep linear networks. Everything here is
computed on the host, in float64.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float


class SharpnessBounds(eqx.Module):
    r"""How sharp the minimisers of a deep linear network are.

    With w the least-squares solution, $\hat\Sigma = X^\top X / n$ and $a = \langle w, \hat\Sigma w
    \rangle / |w|^2$:

    Attributes:
      lower: $2 L |w|^{2 - 2/L} a$, a lower bound on the sharpness of every minimiser.
      balanced: $2 |w|^{2 - 2/L} \lambda_{\max}(\hat\Sigma + (L - 1) v v^\top)$ with $v =
        \hat\Sigma^{1/2} w / |w|$, the sharpness of the balanced minimisers. The flattest minimiser
        lies between `lower` and this number.
      upper: $2 L \lambda_{\max}(\hat\Sigma) (|w|^{2/L} + 2 (L - 1) \delta)^{L - 1}$, an upper bound
        for every minimiser whose imbalance is at most delta; so for where the gradient flow from
        weights of this imbalance ends, which it conserves. The last layer must be a row, trained.
      longest_step: `2 / lower`. Under gradient descent with a longer step no minimiser is stable.
    """

    lower: float
    balanced: float
    upper: float

    @property
    def longest_step(self) -> float:
        return 2 / self.lower


def sharpness_bounds(x: Any, y: Any, depth: int, *, imbalance: float = 0.0) -> SharpnessBounds:
    """The bounds on the sharpness of minimisers of a network of so many layers.

    Args:
      x: inputs, shape (n, d), of full column rank.
      y: targets, shape (n,).
      depth: L, the number of trained matrices.
      imbalance: delta, as `imbalance_of(weights)` tells it; zero for infinitely small weights.

    Raises:
      ValueError: shapes that do not fit, a covariance that is (nearly) singular, targets that no
        input predicts, depth < 1, imbalance < 0.
    """
    if not imbalance >= 0:
        raise ValueError(f"`imbalance` must be at least 0; got {imbalance}.")
    w, covariance = _least_squares(x, y, depth)
    size = float(np.linalg.norm(w))
    scale = 2 * size ** (2 - 2 / depth)
    root = np.linalg.cholesky(covariance)
    v = root.T @ w / size  # any square root of the covariance serves: v v^T + C^T C
    top = float(np.linalg.eigvalsh(covariance)[-1])
    balanced = float(np.linalg.eigvalsh(root.T @ root + (depth - 1) * np.outer(v, v))[-1])
    spread = size ** (2 / depth) + 2 * (depth - 1) * float(imbalance)
    return SharpnessBounds(
        lower=scale * depth * float(v @ v),
        balanced=scale * balanced,
        upper=2 * depth * top * spread ** (depth - 1),
    )


def balanced_minimizer(
    x: Any, y: Any, depth: int, *, width: int | None = None, readout: Any = None
) -> tuple[Float[np.ndarray, "_ _"], ...]:
    r"""A minimiser with $W_{k+1}^\top W_{k+1} = W_k W_k^\top$: matrices of rank one, all of norm
    $|w|^{1/L}$, each taking the direction of the one before to the next.

    Args:
      x, y, depth: as for `sharpness_bounds`.
      width: the size of the hidden layers; by default d, or that of the readout.
      readout: a fixed p of norm one, shape (width,); without, the last matrix is a row.

    Returns:
      the matrices $W_1, \dots, W_L$.

    Raises:
      ValueError: as `sharpness_bounds`; a readout that is not of norm one.
    """
    w, _ = _least_squares(x, y, depth)
    size = float(np.linalg.norm(w))
    p = _readout(readout, 1)
    hidden = np.eye(1, (len(p) if readout is not None else len(w)) if width is None else width)[0]
    directions = [w / size, *[hidden] * (depth - 1), p]
    scale = size ** (1 / depth)
    return tuple(
        scale * np.outer(after, before)
        for before, after in zip(directions[:-1], directions[1:], strict=True)
    )


def minimizer_sharpness(weights: Sequence[Any], x: Any, *, readout: Any = None) -> float:
    r"""The largest eigenvalue of the Hessian at a minimiser, from matrices of size d:

    $$S = 2 \lambda_{\max}\Big( \hat\Sigma^{1/2} \sum_k |A_{k+1}|^2 B_k^\top B_k \hat\Sigma^{1/2}
    \Big), \qquad A_{k+1} = p^\top W_L \cdots W_{k+1}, \quad B_k = W_{k-1} \cdots W_1 .$$

    At weights that are no minimiser this is the largest eigenvalue of the Gauss-Newton part only.

    Args:
      weights: $W_1, \dots, W_L$, the last with one row unless there is a readout.
      x: inputs, shape (n, d).
      readout: a fixed p of norm one, shape (rows of the last matrix,).
    """
    matrices = [np.asarray(matrix, np.float64) for matrix in weights]
    x = np.asarray(x, np.float64)
    before, after = [np.eye(x.shape[1])], [_readout(readout, len(matrices[-1]))]
    for matrix in matrices[:-1]:
        before.append(matrix @ before[-1])
    for matrix in matrices[:0:-1]:
        after.append(after[-1] @ matrix)
    total = sum(
        (after @ after) * before.T @ before
        for after, before in zip(reversed(after), before, strict=True)
    )
    # the spectrum of Sigma^(1/2) M Sigma^(1/2) is that of X M X^T / n, and zeros
    root = np.linalg.qr(x, mode="r") / np.sqrt(len(x))
    return 2 * float(np.linalg.eigvalsh(root @ total @ root.T)[-1])


def imbalance_of(weights: Sequence[Any]) -> float:
    r"""The imbalance $\max_k |W_{k+1}^\top W_{k+1} - W_k W_k^\top|$, in the operator norm; the
    gradient flow conserves each of these matrices."""
    matrices = [np.asarray(matrix, np.float64) for matrix in weights]
    pairs = zip(matrices[:-1], matrices[1:], strict=True)
    return max((float(np.linalg.norm(b.T @ b - a @ a.T, 2)) for a, b in pairs), default=0.0)


def _least_squares(
    x: Any, y: Any, depth: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """The solution of least squares and the covariance of the inputs."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if depth < 1:
        raise ValueError(f"`depth` must be at least 1; got {depth}.")
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"`x` and `y` must have shapes (n, d) and (n,); got {x.shape} and {y.shape}."
        )
    w, _, rank, values = np.linalg.lstsq(x, y)
    if rank < x.shape[1]:
        raise ValueError(
            f"`x` must have full column rank {x.shape[1]}, so that minimisers compute one map; its "
            f"rank is {rank} (singular values {values[0]:.3g} to {values[-1]:.3g}). Leave out "
            "columns that depend on others."
        )
    if not np.linalg.norm(x @ w) > 1e-12 * np.linalg.norm(y):
        raise ValueError("`y` must not be orthogonal to `x`: the best map would be zero.")
    return w, x.T @ x / len(x)


def _readout(readout: Any, size: int) -> Float[np.ndarray, " h"]:
    if readout is None:
        if size != 1:
            raise ValueError(
                f"`weights` must end with a matrix of one row; got {size} rows and no `readout`."
            )
        return np.ones(1)
    p = np.asarray(readout, np.float64)
    if p.ndim != 1 or abs(np.linalg.norm(p) - 1) > 1e-6:
        raise ValueError(
            f"`readout` must be a vector of norm one; got shape {p.shape}, norm "
            f"{np.linalg.norm(p):.6g}. Divide by its norm."
        )
    return p
