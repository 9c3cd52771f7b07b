r"""Costs bilinear in features, $C_{ij} = \alpha_i + \beta_j - \langle u_i, v_j \rangle$."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..transport.pairs import AbstractPairs


class BilinearPairs(AbstractPairs):
    r"""The costs $\alpha_i + \beta_j - \langle u_i, v_j \rangle + T_{ij}$, by blocks of rows.

    Attributes:
      rows: u of shape (n, k), alpha of shape (n,), and the table T of shape (n, m) or None.
      cols: v of shape (m, k) and beta of shape (m,).
    """

    rows: tuple[Float[Array, "*batch n k"], Float[Array, "*batch n"], Float[Array, "n m"] | None]
    cols: tuple[Float[Array, "m k"], Float[Array, " m"]]
    mesh: jax.sharding.Mesh | None = eqx.field(static=True, default=None)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows[1].shape[-1], self.cols[1].shape[-1]

    @property
    def dtype(self) -> Any:
        return self.rows[0].dtype

    @property
    def transpose(self) -> "BilinearPairs":
        (u, alpha, table), (v, beta) = self.rows, self.cols
        flipped = None if table is None else table.T
        return BilinearPairs(rows=(v, beta, flipped), cols=(u, alpha), mesh=self.mesh)

    @property
    def costs(self) -> Float[Array, "n m"]:
        (u, alpha, table), (v, beta) = self.rows, self.cols
        costs = alpha[:, None] + beta - _products(u, v)
        return costs if table is None else costs + table

    def exponents(
        self, height: Float[Array, " m"], epsilon: Float[Array, ""]
    ) -> Float[Array, "n m"]:
        (u, alpha, table), (v, beta) = self.rows, self.cols
        products = _products(u * (1 / epsilon), v)
        exponents = products + (height - beta / epsilon) - (alpha / epsilon)[:, None]
        return exponents if table is None else exponents - table / epsilon


def _products(u: Float[Array, "n k"], v: Float[Array, "m k"]) -> Float[Array, "n m"]:
    return jnp.matmul(u, v.T, precision=jax.lax.Precision.HIGHEST)
