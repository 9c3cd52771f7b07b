"""The costs that a transform makes between two spaces, and costs that need no transform."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..measure import Measure
from .task import Data


class AbstractCrossCost(eqx.Module):
    """A cost $c_M(x, y)$ between spaces of different dimensions."""


class InnerProduct(AbstractCrossCost):
    r"""$c_M(x, y) = -\langle M x, y \rangle$."""


class SquaredDistance(AbstractCrossCost):
    r"""$c_M(x, y) = \frac12 |M x - y|^2$."""


class SignedDistance(AbstractCrossCost):
    r"""$k(x, x') = \sum_k \sigma_k (x_k - x'_k)^2$ on each space, for `GromovWasserstein` and
    `UnbalancedGromovWasserstein` between the measures of two `signed_embedding`s.

    Args:
      x, y: the signs $\sigma$ on both spaces, shapes (p,) and (q,): plus and minus one.
    """

    x: Float[np.ndarray, " p"]
    y: Float[np.ndarray, " q"]

    def __init__(self, x: Any, y: Any):
        self.x, self.y = (np.asarray(signs, np.float64).reshape(-1) for signs in (x, y))
        for name, signs in (("x", self.x), ("y", self.y)):
            if not np.isin(signs, (-1.0, 1.0)).all() or not len(signs):
                raise ValueError(
                    f"`{name}` must hold a sign, 1 or -1, for each coordinate; got {signs[:5]}."
                )


class SharedFeatures(eqx.Module):
    r"""Features that both measures have, as a second cost $d(x_i, y_j) = |\tilde x_i - \tilde
    y_j|^2$.

    Args:
      x, y: shapes (n, k) and (m, k): one row for each atom of mu and of nu.
    """

    x: Float[Array, "n k"]
    y: Float[Array, "m k"]

    def __init__(self, x: Any, y: Any):
        self.x, self.y = jnp.asarray(x), jnp.asarray(y)
        if self.x.ndim != 2 or self.y.ndim != 2 or self.x.shape[1] != self.y.shape[1]:
            raise ValueError(
                "`x` and `y` must have shapes (n, k) and (m, k) with the same k features; got "
                f"{self.x.shape} and {self.y.shape}."
            )

    def data(self, mu: Measure, nu: Measure, dtype: Any, share: float) -> Data:
        n, m = mu.size, nu.size
        if (len(self.x), len(self.y)) != (n, m):
            raise ValueError(
                f"`x` and `y` must have a row for each atom, {n} and {m}; got {len(self.x)} and "
                f"{len(self.y)}."
            )
        seen = np.asarray(mu.present), np.asarray(nu.present)
        x, y = _finite_rows("x", self.x, seen[0]), _finite_rows("y", self.y, seen[1])
        centre = x.sum(axis=0) / max(seen[0].sum(), 1)
        x, y = (np.where(s[:, None], z - centre, 0.0) for s, z in zip(seen, (x, y), strict=True))
        alpha, beta = (share * np.sum(points**2, axis=1) for points in (x, y))
        leaves = (2 * share * x, y, alpha, beta)
        return Data(*(jax.device_put(leaf.astype(dtype)) for leaf in leaves))


class SharedCost(eqx.Module):
    """A matrix of costs between the atoms as a second cost d.

    Args:
      matrix: shape (n, m).
    """

    matrix: Float[Array, "n m"]

    def __init__(self, matrix: Any):
        self.matrix = jnp.asarray(matrix)

    def data(self, mu: Measure, nu: Measure, dtype: Any, share: float) -> Data:
        n, m = mu.size, nu.size
        if self.matrix.shape != (n, m):
            raise ValueError(
                f"`matrix` must have shape {(n, m)}, the sizes of `mu` and `nu`; got "
                f"{self.matrix.shape}."
            )
        seen = np.asarray(mu.present)[:, None] & np.asarray(nu.present)
        table = share * np.where(seen, np.asarray(self.matrix, np.float64), 0.0)
        if not np.isfinite(table).all():
            i, j = np.argwhere(~np.isfinite(table))[0]
            raise ValueError(
                "`matrix` must be finite between atoms that have mass; the entry at row "
                f"{i}, column {j} is {self.matrix[i, j]}. Give a large number to pairs that must "
                "not meet."
            )
        table = jax.device_put(table.astype(dtype))
        return eqx.tree_at(
            lambda data: data.table, no_data(n, m, dtype), table, is_leaf=lambda leaf: leaf is None
        )


def no_data(n: int, m: int, dtype: Any) -> Data:
    rows, cols, alpha, beta = (
        jax.device_put(np.zeros(shape, dtype)) for shape in ((n, 0), (m, 0), n, m)
    )
    return Data(rows, cols, alpha, beta)


def _finite_rows(name: str, points: Any, seen: np.ndarray) -> Float[np.ndarray, "n k"]:
    """The features in float64, zero for absent atoms, whatever they held."""
    rows = np.where(seen[:, None], np.asarray(points, np.float64), 0.0)
    if not np.isfinite(rows).all():
        row = int(np.nonzero(~np.isfinite(rows).all(axis=1))[0][0])
        raise ValueError(
            f"`{name}` of the shared features must be finite; row {row} is {rows[row][:5]}. Repair "
            "it, or give its atom zero weight."
        )
    return rows


def checked_alpha(alpha: Any) -> float:
    if not 0 < alpha <= 1:
        raise ValueError(
            f"`alpha` must be in (0, 1]; got {alpha}. With zero nothing is compared across the "
            "spaces: take `optimal_transport` between the shared features."
        )
    return float(np.asarray(alpha))
