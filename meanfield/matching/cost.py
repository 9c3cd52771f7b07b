"""The costs that a transform makes between two spaces, and costs that need no transform."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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

    def data(self, n: int, m: int, dtype: Any, share: float) -> Data:
        if (len(self.x), len(self.y)) != (n, m):
            raise ValueError(
                f"`x` and `y` must have a row for each atom, {n} and {m}; got {len(self.x)} and "
                f"{len(self.y)}."
            )
        x, y = self.x.astype(dtype), self.y.astype(dtype)
        centre = jnp.nanmean(x, axis=0)
        x, y = (jnp.nan_to_num(points - centre) for points in (x, y))
        return Data(
            rows=2 * share * x,
            cols=y,
            alpha=share * jnp.sum(x**2, axis=1),
            beta=share * jnp.sum(y**2, axis=1),
        )


class SharedCost(eqx.Module):
    """A matrix of costs between the atoms as a second cost d.

    Args:
      matrix: shape (n, m).
    """

    matrix: Float[Array, "n m"]

    def __init__(self, matrix: Any):
        self.matrix = jnp.asarray(matrix)

    def data(self, n: int, m: int, dtype: Any, share: float) -> Data:
        if self.matrix.shape != (n, m):
            raise ValueError(
                f"`matrix` must have shape {(n, m)}, the sizes of `mu` and `nu`; got "
                f"{self.matrix.shape}."
            )
        table = share * jnp.nan_to_num(self.matrix.astype(dtype))
        return eqx.tree_at(
            lambda data: data.table, no_data(n, m, dtype), table, is_leaf=lambda leaf: leaf is None
        )


def no_data(n: int, m: int, dtype: Any) -> Data:
    rows, cols, alpha, beta = (
        jax.device_put(np.zeros(shape, dtype)) for shape in ((n, 0), (m, 0), n, m)
    )
    return Data(rows, cols, alpha, beta)


def checked_alpha(alpha: Any) -> float:
    if not 0 < alpha <= 1:
        raise ValueError(
            f"`alpha` must be in (0, 1]; got {alpha}. With zero nothing is compared across the "
            "spaces: take `optimal_transport` between the shared features."
        )
    return float(np.asarray(alpha))
