"""Constants of one head at a measure: upper values that are nearly exact, with a proof.

Moves are seen in the span of the rows of Q, K and V: elsewhere the derivative vanishes.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..ellipsoid import spectral_norm
from .head import Head
from .model import LocalModel
from .norms import EPS, below, chebyshev_level, lanczos_value, top_eigenvalue


Array = np.ndarray
_BLOCK = 2**22


def smooth_at(head: Head, masses: Float[Array, " n"]) -> float:
    r"""An upper bound on $\|J\|_{L^2(\mu)}$, from the Gram matrix of the whole Jacobian."""
    head = _in_span(head)
    n, v, r = len(head.q), head.v.shape[1], head.value.shape[1]
    gram = np.zeros((n * v, n * v))
    ratio = np.sqrt(masses[:, None] / masses)
    local = np.stack([head.local(i) for i in range(n)])
    group = max(1, _BLOCK // (n * v * r))
    for start in range(0, n, group):
        part = np.arange(start, min(start + group, n))
        blocks = _columns(head, part)
        blocks[part, np.arange(len(part))] += local[part]
        blocks *= ratio[:, part, None, None]
        flat = np.ascontiguousarray(np.moveaxis(blocks, 1, 2)).reshape(n * v, -1)
        gram += flat @ flat.T
    return float(np.sqrt(top_eigenvalue(gram)))


def split_at(head: Head) -> float:
    r"""$\max_i \|D_i\|$."""
    head = _in_span(head)
    return max(spectral_norm(head.local(i)) for i in range(len(head.q)))


def rows_at(head: Head, splitting: bool) -> Float[Array, " n"]:
    r"""For each row, a bound on $\sup_{|e| = 1} |D_i^T e| + \sum_j |B_{ij}^T e|$, or, without
    splitting, with $|(D_i + B_{ii})^T e|$ in the place of its two terms."""
    head = _in_span(head)

    def matrices(i):
        blocks = head.shares[i][:, None, None] * head.context(i)
        return _with_local(blocks, head.local(i), i, splitting)

    return _dual(matrices, len(head.q))


def columns_at(head: Head, masses: Float[Array, " n"], splitting: bool) -> Float[Array, " n"]:
    r"""For each atom, a bound on $\sup_{|u| = 1} |D_i u| + \sum_l \frac{a_l}{a_i} |B_{li} u|$."""
    head = _in_span(head)

    def matrices(i):
        blocks = _columns(head, np.array([i]))[:, 0] * (masses / masses[i])[:, None, None]
        return np.swapaxes(_with_local(blocks, head.local(i), i, splitting), 1, 2)

    return _dual(matrices, len(head.q))


def _with_local(blocks: Array, local: Array, i: int, splitting: bool) -> Array:
    if splitting:
        return np.concatenate([blocks, local[None]])
    blocks[i] += local
    return blocks


def _dual(matrices, n: int) -> Float[Array, " n"]:
    """Bounds on sup_e sum_j |M_j^T e| for each i; those that could be the largest are refined."""
    bounds, done = np.array([_norm_sum(matrices(i), 1) for i in range(n)]), np.zeros(n, bool)
    while not done[i := int(np.argmax(bounds))]:
        bounds[i], done[i] = min(bounds[i], _norm_sum(matrices(i), 40)), True
    return bounds


def _norm_sum(blocks: Float[Array, "n s r"], steps: int) -> float:
    r"""A bound on $\sup_{|e| = 1} \sum_j |M_j^T e|$: for any weights w of sum one it is at
    most $\lambda_{\max}(\sum_j M_j M_j^T / w_j)^{1/2}$, with equality at the best w if that
    eigenvalue is simple. The weights follow $|M_j^T e|$ at the top eigenvector."""
    grams = blocks @ np.swapaxes(blocks, 1, 2)
    sizes = np.sqrt(np.trace(grams, axis1=1, axis2=2))
    if not sizes.max() > 0:
        return 0.0
    floor, best = 1e-12 * sizes.max(), np.inf
    weights = sizes + floor
    for _ in range(steps):
        weights = weights / weights.sum()
        values, vectors = np.linalg.eigh(np.tensordot(1 / weights, grams, 1))
        best = min(best, float(values[-1]) * (1 + 64 * len(grams[0]) * EPS))
        e = vectors[:, -1]
        reached = np.sqrt(np.maximum(np.einsum("a,jab,b->j", e, grams, e), 0))
        if best <= (1 + 1e-4) * reached.sum() ** 2:
            break
        weights = (weights + (reached + floor) / (reached + floor).sum()) / 2
    return float(np.sqrt(best))


def _columns(head: Head, part: Array) -> Float[Array, "n m v r"]:
    """The blocks B_ij for some atoms j."""
    centred = head.v[part] - head.means[:, None]
    turned = head.turned if head.aligned else head.turned[:, part]
    slopes = turned @ head.key
    blocks = head.value + centred[..., :, None] * slopes[..., None, :]
    return head.shares[:, part, None, None] * blocks


def _in_span(head: Head) -> Head:
    """The head seen in an orthonormal basis of the span of the rows of Q, K and V."""

    rows = np.concatenate([head.query, head.key, head.value])
    if rows.shape[0] >= rows.shape[1]:
        return head
    inner = np.linalg.qr(rows.T)[1].T
    k = len(head.query)
    parts = (inner[:k], inner[k : 2 * k], inner[2 * k :])
    return eqx.tree_at(lambda h: (h.query, h.key, h.value), head, parts)


def whole_at(model: LocalModel) -> float:
    r"""An upper bound on $\|J\|_{L^2(\mu)}$ for any map, from its dense Jacobian."""
    root = np.sqrt(model.atoms.masses)[:, None]
    n, d = model.atoms.points.shape
    units = np.eye(n * d).reshape(-1, n, d) / root
    dense = (model.forward(units) * root).reshape(n * d, -1)
    gram = dense @ dense.T if dense.shape[0] <= dense.shape[1] else dense.T @ dense
    return float(np.sqrt(top_eigenvalue(gram)))


def drawn_at(model: LocalModel, rng: np.random.Generator) -> float:
    r"""A number that $\|J\|_{L^2(\mu)}$ exceeds with probability at most 1e-12 over the draws."""
    root = np.sqrt(model.atoms.masses)[:, None]
    shape = model.atoms.points.shape

    def times(moves: Float[Array, "r m"]) -> Float[Array, "r m"]:
        fields = moves.reshape(-1, *shape) / root
        pulled = model.backward(root**2 * model.forward(fields)) / root
        return pulled.reshape(moves.shape)

    size = model.atoms.points.size
    # the test accepts a level two per cent too low, so the estimate need not be a good one
    top = lanczos_value(lambda x: times(x[None])[0], size, rtol=1e-3)
    return float(np.sqrt(chebyshev_level(times, size, max(top, 1e-300), rng)))


def with_split(model: LocalModel, smooth: float, size: float) -> float:
    r"""An upper bound on $\max(\text{smooth}, \max_i \|D_i\|)$: what is known of the ball of this
    size, or else factorisations, prove that no D_i is larger, or by how much one is."""
    level = max(smooth, 1e-300) ** 2
    for i in map(int, np.flatnonzero(model.local_bounds(size) > smooth)):
        local = model.local(i)
        gram = local @ local.T if local.shape[0] <= local.shape[1] else local.T @ local
        if not below(gram, level):
            level = max(level, top_eigenvalue(gram))
    return float(np.sqrt(level))
