r"""Rows of the Jacobian of several heads at once: they rarely share their worst direction.

The blocks of row i are $M_j = \sum_h P^h_{ij} O_h (V_h + \xi^h_{ij} b_i^{h\,T})$ and $D_i$, and
$(\sup_{|e| = 1} \sum_j |M_j^T e|)^2 \le \lambda_{\max}(\sum_j M_j M_j^T / w_j)$ for weights of sum
one. The sum is made before the output projections, from products of features.
"""

import math

import numpy as np
from jaxtyping import Float

from .head import Head
from .norms import EPS, top_eigenvalue


Array = np.ndarray
_STEPS, _CLOSE = 4, 1.02


class JointRows:
    """The heads of one layer side by side; for aligned heads only."""

    def __init__(self, heads: tuple[Head, ...], output: Float[Array, "e hv"]):
        self.heads, self.output = heads, output
        self.values = np.concatenate([head.value for head in heads])  # (H v, d)
        self.size = heads[0].value.shape[0]
        self.products = self.values @ self.values.T
        self.shares = np.stack([head.shares for head in heads])  # (H, n, n)
        self.slopes = np.stack([head.turned[:, 0] @ head.key for head in heads])  # (H, n, d)
        self.lengths = np.array([np.linalg.norm(head.value) for head in heads])
        self.whole = float(np.linalg.norm(output))

    def bound(self, i: int) -> float:
        r"""A bound on $\sup_{|e| = 1} |D_i^T e| + \sum_j |B_{ij}^T e|$."""
        shares, slopes = self.shares[:, i], self.slopes[:, i]
        centred = np.stack([head.v - head.means[i] for head in self.heads])  # (H, n, v)
        local = self.output @ np.concatenate([head.local(i) for head in self.heads])
        apart = np.linalg.norm(centred, axis=2) * np.linalg.norm(slopes, axis=1)[:, None]
        sizes = np.sum(shares * (self.lengths[:, None] + apart), axis=0)
        weights = np.append(sizes, np.linalg.norm(local) / self.whole) + 1e-12 * sizes.max()
        direct, best = local @ local.T, math.inf
        for _ in range(_STEPS):
            weights = weights / weights.sum()
            inner = self._gram(shares, slopes, centred, weights[:-1])
            gram = self.output @ inner @ self.output.T + direct / weights[-1]
            error = np.sum(sizes**2 / weights[:-1]) + np.sum(local**2) / weights[-1]
            error *= 8 * EPS * (sum(self.output.shape) + len(weights) + 16) * self.whole**2
            best = min(best, math.sqrt(top_eigenvalue(gram) + error))
            e = _direction(gram)
            reached = np.append(self._pulled(e, shares, slopes, centred), np.linalg.norm(e @ local))
            if best <= _CLOSE * reached.sum():
                break
            weights = (weights + (reached + 1e-12 * reached.max()) / reached.sum()) / 2
        return best

    def _gram(self, shares, slopes, centred, weights) -> Float[Array, "hv hv"]:
        """sum_j N_j N_j^T / w_j with N_j the blocks before the output projections."""
        heads, n, v = centred.shape
        scaled = shares / np.sqrt(weights)
        turned = (self.values @ slopes.T).reshape(heads, v, heads)  # V_h b_g
        seen = np.einsum("hj,gj,gjv->hgv", scaled, scaled, centred, optimize=True)
        mixed = np.einsum("hvg,hgw->hvgw", turned, seen).reshape(heads * v, heads * v)
        moved = np.swapaxes(scaled[:, :, None] * centred, 0, 1).reshape(n, heads * v)
        direct = np.repeat(np.repeat(scaled @ scaled.T, v, 0), v, 1) * self.products
        steep = np.repeat(np.repeat(slopes @ slopes.T, v, 0), v, 1)
        return direct + mixed + mixed.T + steep * (moved.T @ moved)

    def _pulled(self, e, shares, slopes, centred) -> Float[Array, " n"]:
        """|M_j^T e|."""
        parts = (e @ self.output).reshape(len(shares), -1)
        values = np.einsum("hvd,hv->hd", self.values.reshape(*parts.shape, -1), parts)
        along = np.einsum("hjv,hv->hj", centred, parts)
        return np.linalg.norm(shares.T @ values + (shares * along).T @ slopes, axis=1)


def _direction(gram: Float[Array, "e e"]) -> Float[Array, " e"]:
    """Near the top eigenvector: any unit vector will do."""
    e = gram[np.argmax(np.diag(gram))]
    for _ in range(12):
        e = gram @ (e / max(float(np.linalg.norm(e)), 1e-300))
    return e / max(float(np.linalg.norm(e)), 1e-300)
