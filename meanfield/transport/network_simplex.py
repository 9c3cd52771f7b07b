"""POT's network simplex, with a gap that is small beside the value, not only beside the costs."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .plan import Status


Array = np.ndarray

_CAP = 1e4  # times the value: far above what an optimal plan pays, and eps * _CAP is still small
_GAP = 1e-10  # of the value


class Vertex(NamedTuple):
    """A vertex of the polytope of couplings, by its entries, and feasible potentials."""

    rows: Int[Array, " e"]
    cols: Int[Array, " e"]
    masses: Float[Array, " e"]
    f: Float[Array, " n"]
    g: Float[Array, " m"]
    value: float
    gap: float
    status: Status


def optimal_vertex(
    costs: Float[Array, "n m"], a: Float[Array, " n"], b: Float[Array, " m"], max_steps: int
) -> Vertex:
    """An optimal vertex: by nearest neighbours where they are enough, else by the simplex."""
    return _nearest_neighbours(costs, a, b) or _refined(costs, a, b, max_steps)


def _nearest_neighbours(costs, a, b) -> Vertex | None:
    """The plan for equal atoms whose nearest neighbours are distinct, if they are.

    It is optimal with f the distance to the nearest neighbour and g zero, and near measures meet
    it often. An assignment solver without this premise takes as long as the simplex, counting
    the potentials, which it does not give.
    """
    if len(a) != len(b) or not np.all(a == a[0]) or not np.all(b == b[0]):
        return None
    i, j = np.arange(len(a)), np.argmin(costs, axis=1)
    if len(np.unique(j)) < len(j):
        return None
    f, masses = costs[i, j], (a + b) / 2
    return Vertex(i, j, masses, f, np.zeros(len(b)), masses @ f, 0.0, Status.successful)


def _refined(costs, a, b, max_steps: int) -> Vertex:
    """An optimal vertex, found again under a cap on the costs while its gap is not small.

    The simplex compares costs to a precision relative to the largest. Where the optimum is many
    orders of magnitude below, which is usual for large p and for near measures, its answer is far
    from optimal. A cap on the costs well above the value brings the digits back, and a plan
    without mass on capped pairs that is optimal for the capped costs is optimal for the costs.
    """
    best = _vertex(costs, costs, a, b, max_steps)
    cap = costs.max()
    while best.status == Status.successful and best.gap > _GAP * best.value > 0:
        lower = _CAP * best.value / a.sum()
        if lower >= cap:
            break
        cap = lower
        found = _vertex(costs, np.minimum(costs, cap), a, b, max_steps)
        if found.status != Status.successful or not found.gap < best.gap:
            break
        best = found
    return best


def _vertex(costs, capped, a, b, max_steps: int) -> Vertex:
    """The vertex for the capped costs, its value and its gap for the costs."""
    import ot

    mass = (a.sum() + b.sum()) / 2
    scale = capped.max() or 1.0  # POT's tolerances are absolute
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the status says it
        coupling, log = ot.emd(
            a / a.sum(), b / b.sum(), capped / scale, max_steps, log=True, center_dual=False
        )
    optimal = {1: Status.successful, 3: Status.pivots_exhausted}
    i, j = np.divmod(np.flatnonzero(coupling), coupling.shape[1])
    masses, f = mass * coupling[i, j], scale * log["u"]
    g = _tightened(costs, f)
    value = float(masses @ costs[i, j])
    gap = float(masses @ (costs[i, j] - f[i] - g[j]))
    status = optimal.get(log["result_code"], Status.solver_failed)
    return Vertex(i, j, masses, f, g, value, gap, status)


def _tightened(costs, f):
    """The c-transform of f, by blocks of rows that stay in the cache."""
    g = np.full(costs.shape[1], np.inf)
    for k in range(0, len(f), 32):
        np.minimum(g, (costs[k : k + 32] - f[k : k + 32, None]).min(axis=0), out=g)
    return g
