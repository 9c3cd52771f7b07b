"""Whether mass can be carried along allowed pairs: a maximum flow in 61-bit whole numbers."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int


UNITS = 1 << 61  # of mass, in a whole measure
_CAPACITY = 1 << 29  # scipy's flows are 32-bit; forward plus backward capacity must fit too

Array = np.ndarray


class Supply(NamedTuple):
    """The masses of two measures in whole units, and how much may be left behind."""

    a: Int[Array, " n"]
    b: Int[Array, " m"]
    slack: int

    def coarse(self) -> "Supply":
        """The same with as much slack as one round of 32-bit flows leaves."""
        return self._replace(slack=(len(self.a) + len(self.b)) * UNITS // _CAPACITY)


class Carried(NamedTuple):
    """All mass but the slack is carried by `flow`, a sparse (n, m) matrix of units."""

    flow: Any


class Stuck(NamedTuple):
    """The rows of `source` hold more mass, by more than the slack, than the columns they reach."""

    source: Bool[Array, " n"]


def in_units(a: Float[Array, " n"], b: Float[Array, " m"]) -> Supply:
    r"""The weights as shares of their sum, rounded to units of $2^{-61}$.

    The slack covers what rounding can have done to weights that were meant to be equal: sixteen
    times the machine epsilon of their dtype, and one unit an atom.
    """
    epsilon = max(float(jnp.finfo(w.dtype).eps) for w in (a, b))
    shares = (w.astype(np.float64) / math.fsum(w) for w in (a, b))
    units_a, units_b = (np.rint(share * UNITS).astype(np.int64) for share in shares)
    return Supply(units_a, units_b, int(16 * epsilon * UNITS) + len(a) + len(b))


def carry(allowed: Bool[Array, "n m"], supply: Supply) -> Carried | Stuck:
    """Carry the mass along allowed pairs, or find rows that cannot send theirs away.

    A flow of 32-bit numbers is found in coarse units and refined in finer ones on the residual
    network, until the mass left is within the slack or a cut shows that it cannot be. In units of
    one the maximum flow is exact and one of the two holds (theory page on transport).
    """
    from scipy.sparse import csr_array

    flow = csr_array(allowed.shape, dtype=np.int64)
    while True:
        left = _left(flow, supply)
        unit = -(-int(left[0].sum()) // _CAPACITY)
        flow = flow + unit * _augmentation(allowed, flow, left, unit)
        if int(_left(flow, supply)[0].sum()) <= supply.slack:
            return Carried(flow)
        source = _reached(allowed, flow, _left(flow, supply)[0], unit)
        beyond = allowed[source].any(axis=0)
        if int(supply.a[source].sum()) - int(supply.b[beyond].sum()) > supply.slack:
            return Stuck(source)


def _left(flow, supply: Supply) -> tuple[Int[Array, " n"], Int[Array, " m"]]:
    """The units that have not left each row and have not come to each column."""
    return supply.a - flow.sum(axis=1), supply.b - flow.sum(axis=0)


def _augmentation(allowed, flow, left, unit: int):
    """A maximum flow in the residual network, whole multiples of `unit`, as an (n, m) matrix."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    n, m = allowed.shape
    i, j = np.nonzero(allowed)
    back = flow.T.tocsr()
    back.data = np.minimum(back.data // unit, _CAPACITY)
    back.eliminate_zeros()
    by_node = [n, *allowed.sum(axis=1), *(np.diff(back.indptr) + 1), 0]
    ends = np.cumsum(np.diff(back.indptr))
    targets = np.insert(back.indices + 1, ends, n + m + 1)
    capacities = np.insert(back.data, ends, left[1] // unit)
    network = csr_array(
        (
            np.concatenate([left[0] // unit, np.full(len(i), _CAPACITY), capacities]).astype("i4"),
            np.concatenate([np.arange(1, n + 1), j + n + 1, targets]).astype("i4"),
            np.concatenate([[0], np.cumsum(by_node)]).astype("i4"),
        ),
        shape=(n + m + 2, n + m + 2),
    )
    found = csr_array(maximum_flow(network, 0, n + m + 1).flow[1 : n + 1, n + 1 : n + m + 1])
    found.eliminate_zeros()
    return found.astype(np.int64)


def _reached(allowed, flow, left: Int[Array, " n"], unit: int) -> Bool[Array, " n"]:
    """The rows that more mass could come to: those with a unit left, and on along the flow."""
    into = flow.tocsc()
    rows, cols = left >= unit, np.zeros(allowed.shape[1], bool)
    fresh = rows
    while fresh.any():
        entered = allowed[fresh].any(axis=0) & ~cols
        cols |= entered
        senders = into[:, np.flatnonzero(entered)]
        fresh = np.zeros_like(rows)
        fresh[senders.indices[senders.data >= unit]] = True
        fresh &= ~rows
        rows = rows | fresh
    return rows
