"""Couplings of low rank: mass passes through a few stations."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .coupling import AbstractCoupling


class LowRankCoupling(AbstractCoupling):
    r"""The coupling $P = L R^T$ by its factors; nothing of size n m is formed by `apply`.

    Attributes:
      left: shape (n, r), nonnegative.
      right: shape (m, r), nonnegative.
    """

    left: Float[Array, "*batch n r"]
    right: Float[Array, "*batch m r"]

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[-2], self.right.shape[-2]

    @property
    def rank(self) -> int:
        """The number r of stations."""
        return self.left.shape[-1]

    @property
    def matrix(self) -> Float[Array, "n m"]:
        return self.left @ self.right.T

    @property
    def transpose(self) -> "LowRankCoupling":
        return LowRankCoupling(self.right, self.left)

    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        return jnp.tensordot(self.left, jnp.tensordot(self.right.T, values, axes=1), axes=1)
