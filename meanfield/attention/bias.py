"""Additive score biases that depend on positions: relative buckets and linear slopes."""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class AbstractScoreBias(eqx.Module):
    """A number added to the score of a head, for a query position and a key position."""

    @abc.abstractmethod
    def __call__(
        self, queries: Int[Array, " m"], keys: Int[Array, " n"]
    ) -> Float[Array, "heads m n"]:
        """The bias of every head at every pair of positions."""

    @abc.abstractmethod
    def head(self, index: int) -> "AbstractScoreBias":
        """The bias of one head alone."""


class LinearBias(AbstractScoreBias):
    """-slope |t - s| for positions t and s, one slope a head (ALiBi)."""

    slopes: Float[Array, " heads"]

    def __call__(
        self, queries: Int[Array, " m"], keys: Int[Array, " n"]
    ) -> Float[Array, "heads m n"]:
        distance = jnp.abs(queries[:, None] - keys[None, :])
        return -self.slopes[:, None, None] * distance

    def head(self, index: int) -> "LinearBias":
        return LinearBias(self.slopes[index : index + 1])


class RelativeBias(AbstractScoreBias):
    """A learned number for each bucket of the relative position, near buckets exact and far ones
    logarithmic (the relative attention bias of T5 and MPNet).

    Args:
      table: shape (buckets, heads).
      bidirectional: whether keys after the query have buckets of their own.
      max_distance: beyond it all positions share the last bucket.
    """

    table: Float[Array, "buckets heads"]
    bidirectional: bool = eqx.field(default=True, static=True)
    max_distance: int = eqx.field(default=128, static=True)

    def __call__(
        self, queries: Int[Array, " m"], keys: Int[Array, " n"]
    ) -> Float[Array, "heads m n"]:
        bucket = self._bucket(keys[None, :] - queries[:, None])
        return jnp.moveaxis(self.table[bucket], -1, 0)

    def head(self, index: int) -> "RelativeBias":
        return RelativeBias(self.table[:, index : index + 1], self.bidirectional, self.max_distance)

    def _bucket(self, ahead: Int[Array, "m n"]) -> Int[Array, "m n"]:
        buckets, offset = self.table.shape[0], 0
        if self.bidirectional:
            buckets //= 2
            offset = jnp.where(ahead > 0, buckets, 0)
            distance = jnp.abs(ahead)
        else:
            distance = jnp.maximum(-ahead, 0)
        near = buckets // 2
        # where each logarithmic bucket begins, as integers: a rounded logarithm would miss by one
        steps = np.arange(1, buckets - near) / (buckets - near)
        starts = np.ceil(near * (self.max_distance / near) ** steps - 1e-9).astype(int)
        far = near + jnp.searchsorted(jnp.asarray(starts), distance, side="right")
        return offset + jnp.where(distance < near, distance, far)
