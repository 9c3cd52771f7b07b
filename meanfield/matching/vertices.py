r"""The coupling that is best for a transform, exactly, on the host: a vertex of the polytope.

Costs are $-\langle u_i, v_j \rangle + T_{ij}$, and functions of i or of j alone change no optimum.
An assignment solver is quick where such functions have made nearly all optimal entries the least of
their rows, so costs are first lowered by a potential of the columns: that of Gaussians with the
same moments, which makes of the products squared distances, or that of the last transform.
"""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


# Nearest neighbours are found without the matrix of costs in spaces of at most so many dimensions.
_FLAT = 12
# Rounds in which a potential is raised for the coupling found, in between and for the last one,
# those in which ties are loosened, and rows looked at at once.
_ROUNDS, _LAST, _SWEEPS, _BLOCK = 10, 100, 20, 64
# Masses that differ by less than this share are equal.
_EQUAL = 1e-12
# No tie is left where the second best of each row is apart by this share of the largest such room.
_CLEAR = 1e-6


class Products(NamedTuple):
    r"""Costs $-\langle u_i, v_j \rangle + T_{ij}$ between atoms with mass, and their masses."""

    u: Float[np.ndarray, "n k"]
    v: Float[np.ndarray, "m k"]
    table: Float[np.ndarray, "n m"] | None
    a: Float[np.ndarray, " n"]
    b: Float[np.ndarray, " m"]


class Vertex(NamedTuple):
    """A coupling by its entries, and a potential of the columns near an optimal one, if known."""

    rows: Int[np.ndarray, " e"]
    cols: Int[np.ndarray, " e"]
    masses: Float[np.ndarray, " e"]
    potential: Float[np.ndarray, " m"] | None

    def same_as(self, other: "Vertex") -> bool:
        return np.array_equal(self.cols, other.cols) and np.array_equal(self.rows, other.rows)


def best_vertex(costs: Products, potential: Float[np.ndarray, " m"] | None = None) -> Vertex:
    """An optimal coupling; `potential`, of nearby costs, makes it quicker.

    Nearest neighbours where these are distinct and have equal masses, otherwise an assignment where
    all masses are equal, otherwise the network simplex.

    Raises:
      RuntimeError: the simplex failed.
    """
    if potential is None:
        near = _nearest(costs)
        if near is not None:
            return near
        potential = _gaussian_potential(costs)
    lowered = _lowered(costs, potential)
    j = np.argmin(lowered, axis=1)
    if _bijective(costs, j):
        return Vertex(np.arange(len(j)), j, costs.a, potential)
    if len(costs.a) == len(costs.b) and _equal(costs.a) and _equal(costs.b):
        return _assigned(costs, lowered, potential)
    return _by_simplex(costs, lowered, potential)


def _lowered(costs: Products, potential: Float[np.ndarray, " m"]) -> Float[np.ndarray, "n m"]:
    """The costs less a potential of the columns and the least of each row."""
    matrix = costs.u @ -costs.v.T
    if costs.table is not None:
        matrix += costs.table
    matrix -= potential
    matrix -= matrix.min(axis=1)[:, None]
    return matrix


def _assigned(costs: Products, lowered: np.ndarray, potential: np.ndarray) -> Vertex:
    from scipy.optimize import linear_sum_assignment

    i, j = linear_sum_assignment(lowered)
    return Vertex(i, j, costs.a, potential + _raised(lowered, j, _ROUNDS))


def _by_simplex(costs: Products, lowered: np.ndarray, potential: np.ndarray) -> Vertex:
    import ot

    scale = lowered.max() or 1.0  # POT's tolerances are absolute
    mass = costs.a.sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the code says it
        plan, log = ot.emd(
            costs.a / mass, costs.b / costs.b.sum(), lowered / scale, 10_000_000, log=True
        )
    if log["result_code"] != 1:
        raise RuntimeError(
            "The network simplex found no optimal coupling. Look for weights that span more than "
            "fifteen orders of magnitude."
        )
    i, j = np.nonzero(plan)
    return Vertex(i, j, mass * plan[i, j], potential + scale * log["v"])


def potentials(costs: Products, vertex: Vertex) -> tuple[np.ndarray, np.ndarray]:
    """Potentials f and g whose sum is the cost where the coupling has mass, and not above it
    elsewhere (up to the rounds allowed); equal atoms are moved away from ties."""
    if vertex.potential is None:
        g, i, j = _gaussian_potential(costs), vertex.rows, vertex.cols
        f = -np.sum(costs.u[i] * costs.v[j], axis=1) - g[j]
        return f[np.argsort(i)], g
    slack = costs.u @ -costs.v.T - vertex.potential
    if costs.table is not None:
        slack += costs.table
    f = slack.min(axis=1)
    slack -= f[:, None]
    if len(vertex.cols) > len(costs.a) or not _bijective(costs, vertex.cols):
        return f, vertex.potential
    up = _raised(slack, vertex.cols, _LAST)
    down = _least_of_rows(slack, up)
    slack -= up + down[:, None]
    t = _untied(slack, vertex.cols)
    g = vertex.potential + up
    g[vertex.cols] -= t
    return f + down + t, g


def _untied(slack: Float[np.ndarray, "n n"], j: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """By how much the potential of each row can rise, and that of its partner fall, so that no
    other pair is as cheap: a quarter of the room on both sides at a time, which leaves room."""
    rows, moved = np.arange(len(j)), np.zeros(len(j))
    slack[rows, j] = np.inf
    for _ in range(_SWEEPS):
        by_row, by_partner = slack.min(axis=1), slack.min(axis=0)[j]
        if by_row.min() > _CLEAR * by_row.max():
            break
        t = (by_row - by_partner) / 4
        by_column = np.empty_like(t)
        by_column[j] = t
        slack += by_column - t[:, None]
        moved += t
    return moved


def _raised(
    lowered: Float[np.ndarray, "n m"], j: Int[np.ndarray, " n"], rounds: int
) -> Float[np.ndarray, " m"]:
    r"""A potential of the columns for which the pairs (i, j(i)) are nearer to the least of their
    rows.

    The least potential above zero for which they are the least is the length of the longest path in
    the graph of the pairs; these are some rounds of Bellman and Ford.
    """
    potential, own = np.zeros(lowered.shape[1]), lowered[np.arange(len(j)), j]
    for _ in range(rounds):
        new = own - _least_of_rows(lowered, potential)
        if np.all(new <= potential[j]):
            break
        potential[j] = np.maximum(new, potential[j])
    return potential


def _least_of_rows(matrix: np.ndarray, potential: np.ndarray) -> Float[np.ndarray, " n"]:
    """By blocks of rows that stay in the cache."""
    blocks = (matrix[k : k + _BLOCK] for k in range(0, len(matrix), _BLOCK))
    return np.concatenate([(block - potential).min(axis=1) for block in blocks])


def _nearest(costs: Products) -> Vertex | None:
    r"""Each atom with its nearest neighbour, where that is a coupling.

    For any invertible T the optimum is that of $\frac12 |T u_i - T^{-\top} v_j|^2$; a coupling of
    nearest neighbours is then optimal, whatever T is.
    """
    from scipy.spatial import KDTree

    flat = costs.table is None and costs.u.shape[1] <= _FLAT
    if not flat or len(costs.a) != len(costs.b):
        return None
    left, right = _brought_together(costs)
    j = np.asarray(KDTree(right).query(left)[1])
    return Vertex(np.arange(len(j)), j, costs.a, None) if _bijective(costs, j) else None


def _bijective(costs: Products, j: Int[np.ndarray, " n"]) -> bool:
    if len(costs.a) != len(costs.b) or np.bincount(j, minlength=len(j)).max() > 1:
        return False
    return bool(np.all(np.abs(costs.a - costs.b[j]) <= _EQUAL * costs.a))


def _equal(masses: Float[np.ndarray, " n"]) -> bool:
    return bool(masses.max() - masses.min() <= _EQUAL * masses.max())


def _gaussian_potential(costs: Products) -> Float[np.ndarray, " m"]:
    r"""Minus half of $\langle v, S^{-1} v \rangle$ about the mean, where S takes the covariance of
    u to that of v: Brenier's potential between Gaussians."""
    mean = costs.a @ costs.u / costs.a.sum()
    return -np.sum(_brought_together(costs)[1] ** 2, axis=1) / 2 - costs.v @ mean


def _brought_together(costs: Products) -> tuple[np.ndarray, np.ndarray]:
    r"""$T u_i$ and $T^{-\top} v_j$, centred, for the T that gives both the same covariance."""
    u, v = (
        points - weights @ points / weights.sum()
        for points, weights in ((costs.u, costs.a), (costs.v, costs.b))
    )
    first, second = (
        _regular(points.T * weights @ points) for points, weights in ((u, costs.a), (v, costs.b))
    )
    root, inverse_root = _powers(first, 0.5, -0.5)
    middle = _powers(root @ second @ root, 0.5)[0]
    there, back = _powers(inverse_root @ middle @ inverse_root, 0.5, -0.5)
    return u @ there, v @ back


def _regular(covariance: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Every positive matrix serves; a singular one is moved, so that T can be inverted without loss
    of digits."""
    size = np.trace(covariance)
    return covariance + (1e-6 * size if size > 0 else 1.0) * np.eye(len(covariance))


def _powers(matrix: Float[np.ndarray, "k k"], *exponents: float) -> list[np.ndarray]:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = np.maximum(values, np.finfo(np.float64).tiny ** 0.5)
    return [(vectors * values**exponent) @ vectors.T for exponent in exponents]
