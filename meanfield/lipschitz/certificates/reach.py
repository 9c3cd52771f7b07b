r"""How far a head can change in a ball of radius t around a measure, row by row.

Notation of docs/theory/certificates: for a query i, $\xi_{ij} = v_j - m_i$ and
$\zeta_{ij} = Q_i^T (k_j - \bar k_i)$ are the centred values and keys, $\beta_{ij} = |b_{ij}|$ the
slopes of the scores. Measures of the ball have shares $P_{ij} e^{\Delta} / E\, e^{\Delta}$ with
$|\Delta| \le d_{ij}$; each size below bounds its namesake for all of them.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .head import Head
from .norms import power_norms


Array = np.ndarray
# The rows of a head are taken in blocks of this many numbers at most.
_BLOCK = 2**22
_FARTHEST = 300.0
# A share that rounds to zero can grow; this is above all that do.
_LEAST = 1e-300


class Reach(eqx.Module):
    """Bounds on one head that hold in the whole ball; `query` and `row` are shaped (n,).

    Args:
      query: ||D_i||.
      row: the norm of row i of N from L^2(P_i).
      column: P_ij times a bound on the block of N behind it, per mass: (n, n).
      weight: the largest share per fraction of an atom, P_ij rho_ij: (n, n).
      query_bend, row_bend, column_bend: the same for the derivative of the Jacobian along a unit
        move; `bend` for the second derivative of the output along a straight move.
      spread: how far an output can go in all, its average being of values.
    """

    query: Float[Array, " n"]
    row: Float[Array, " n"]
    column: Float[Array, "n n"]
    weight: Float[Array, "n n"]
    query_bend: Float[Array, " n"]
    row_bend: Float[Array, " n"]
    column_bend: Float[Array, "n n"]
    bend: Float[Array, " n"]
    spread: Float[Array, " n"]


def reach(head: Head, t: float, cross: tuple[float, float, float, float]) -> Reach:
    """The sizes of a head in the ball of radius t; `cross` is `head.cross()`, the
    same for all radii."""
    n = len(head.q)
    width = n * max(head.v.shape[1], head.k.shape[1])
    rows = max(1, _BLOCK // width)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        parts = [
            _Rows(head, slice(i, min(i + rows, n)), t, cross).sizes() for i in range(0, n, rows)
        ]
    names = Reach.__dataclass_fields__
    return Reach(**{name: np.concatenate([p[name] for p in parts]) for name in names})


class _Rows:
    """A block of query rows of a head, and the expectations over all shares they can have."""

    def __init__(self, head: Head, rows: slice, t: float, cross: tuple[float, float, float, float]):
        self.t, self.aligned, self.shares = t, head.aligned, head.shares[rows]
        self.value, self.across, query, bowl = cross
        self.sway = self.across + bowl  # how fast slopes of scores change
        self.values = head.v - (self.shares @ head.v)[:, None]
        keys = head.k - (self.shares @ head.k)[:, None]
        self.keys = keys * query if head.turns else keys @ _root(head.query)
        seen = head.seen[rows]
        # sizes are raised by their rounding errors here; what follows is monotone in them
        q, k, v = head.sizes
        self.err_value, self.err_key = 4 * head.rounding * v, 4 * head.rounding * k * query
        err_slope = head.rounding * q * float(np.linalg.norm(head.key))
        slopes = np.linalg.norm(head.turned[rows] @ head.key, axis=-1) + err_slope
        self.slope = np.where(seen, slopes, 0)
        far_value = np.linalg.norm(self.values, axis=-1) + self.err_value
        self.far_value = np.where(seen, far_value, 0)
        self.far_key = np.where(seen, np.linalg.norm(self.keys, axis=-1) + self.err_key, 0)
        self.tilt = t * (self.far_key + self.slope + t * (self.across + bowl / 2))
        # beyond this, shares that round to zero might matter: nothing is claimed
        tilt = np.where(self.tilt > _FARTHEST, np.inf, self.tilt)
        self.up = np.where(seen, np.maximum(self.shares, _LEAST) * np.exp(tilt), 0)
        self.down = np.where(seen, self.shares * np.exp(-tilt), 0)
        mean_slope = (self.shares * self.slope).sum(1)
        # log E e^Delta from below: by Jensen, and by the smallest Delta
        mean_tilt = t * (mean_slope + t * (self.across + bowl / 2))
        least = np.maximum(-mean_tilt, np.log(self.down.sum(1)))
        self.weight = self.up * np.exp(-least)[:, None]
        self.seen = seen

    def mean(self, size: Float[Array, "m n"]) -> Float[Array, " m"]:
        """The largest mean of a nonnegative function of the atoms, over all shares in reach."""
        value = (self.shares * size).sum(1)
        for _ in range(100):
            weight = np.where(size > value[:, None], self.up, self.down)
            better = (weight * size).sum(1) / weight.sum(1)
            if np.all(better <= value * (1 + 1e-12)):
                return value * (1 + 1e-11)
            value = np.maximum(better, value)
        return np.where(self.seen, size, 0).max(1)

    def moment(self, x: Float[Array, "m n k"], size: Float[Array, "m n"]) -> Float[Array, " m"]:
        r"""A bound on $\|E[\text{size}\, x x^T]\|^{1/2}$ over all shares in reach."""
        weighted = np.swapaxes(x * (self.weight * size)[:, :, None], 1, 2)
        whole = self.mean(size * np.sum(x**2, axis=-1))
        return np.sqrt(np.minimum(_finite(power_norms(weighted @ x)), whole))

    def sizes(self) -> dict[str, Array]:
        t, value, slope, across, sway = self.t, self.value, self.slope, self.across, self.sway
        one = np.ones_like(self.shares)
        apart_v, apart_k = t * value + self.err_value, t * across + self.err_key
        spread_v = self.moment(self.values, one) + apart_v
        spread_k = self.moment(self.keys, one) + apart_k
        steep = slope.max(1) + t * sway
        # the L^2 size and the largest size of the change of scores along a unit move
        swing = spread_k + np.sqrt(self.mean(slope**2)) + t * sway
        most = self.far_key + slope + t * (across + sway)
        most = most + self.mean(most)[:, None]
        shift_v = np.minimum(spread_v, t * (spread_v * swing + value)) + apart_v
        shift_k = np.minimum(spread_k, t * (spread_k * swing + across)) + apart_k
        once, twice = np.sqrt(self.mean(most)), np.sqrt(self.mean(most**2))
        bent_v = self.moment(self.values, most**2) + shift_v * twice
        both = (self.moment(self.values, most) + shift_v * once) * (
            self.moment(self.keys, most) + shift_k * once
        )
        far = self.far_value + shift_v[:, None]
        column = value + far * (slope + t * sway)
        column_bend = value * most + far * sway
        column_bend += (slope + t * sway) * (2 * value + far * most + (spread_v * swing)[:, None])
        row = np.hypot(value, steep * spread_v) if self.aligned else value + steep * spread_v
        query_bend = value * spread_k + spread_v * across
        return {
            "query": spread_v * spread_k,
            "row": row,
            "column": self.weight * column,
            "weight": self.weight,
            "query_bend": query_bend + np.minimum(both, bent_v * spread_k),
            "row_bend": value * swing + steep * (value + bent_v) + spread_v * sway,
            "column_bend": self.weight * column_bend,
            "bend": 2 * value * swing + spread_v * (across + sway) + bent_v * swing,
            "spread": self.far_value.max(1) + t * value,
        }


def _root(query: Float[Array, "k d"]) -> Float[Array, "k k"]:
    """R with |R^T x| = |Q^T x|, of the smaller size."""
    k, d = query.shape
    return np.linalg.qr(query.T)[1].T if k <= d else query


def _finite(x: Array) -> Array:
    return np.where(np.isfinite(x), x, np.inf)
