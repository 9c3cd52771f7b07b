"""Queries before a context: scores become shares, shares average values, block by block.

Memory is O(n) in the length of a long context: rows of the n x n matrix of shares are made for one
head and one block of queries at a time.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .bias import AbstractScoreBias
from .choice import AbstractChoice


# An n x n matrix of this many entries stays in cache for one head; larger ones go in blocks.
_WHOLE = 2**22
_BLOCK = 2**21
# Below this many entries for all heads together, heads are batched rather than taken in turn.
_BATCHED = 2**19


class AbstractMask(eqx.Module):
    """Which key positions a query position sees."""

    @abc.abstractmethod
    def __call__(self, queries: Int[Array, " m"], keys: Int[Array, " n"]) -> Bool[Array, "m n"]:
        """Whether each query position sees each key position."""


class Attending(eqx.Module):
    """Features of queries and of a context, and the rules between them.

    Args:
      queries, keys, values: shapes (heads, m, k), (heads, n, k), (heads, n, v); a score is the
        inner product of a query and a key.
      log_mass: shape (n,), -inf for absent atoms.
      query_positions, key_positions: shapes (m,), (n,), or None where there is no order.
      choice, score_bias, soft_cap, mask: see `AbstractAttention`.
      potential: shape (heads, n), what a coupled choice adds to the scores of each key, or None.
    """

    queries: Float[Array, "heads m k"]
    keys: Float[Array, "heads n k"]
    values: Float[Array, "heads n v"]
    log_mass: Float[Array, " n"]
    query_positions: Int[Array, " m"] | None
    key_positions: Int[Array, " n"] | None
    choice: AbstractChoice
    score_bias: AbstractScoreBias | None
    soft_cap: float | None
    mask: AbstractMask | None
    potential: Float[Array, "heads n"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(heads, m, n)."""
        heads, m, _ = self.queries.shape
        return heads, m, self.keys.shape[1]

    @property
    def block(self) -> int:
        """How many queries are taken at a time: all m, unless m n is large."""
        _, m, n = self.shape
        return m if m * n <= _WHOLE else max(_BLOCK // n, 32)

    def scores(self, q: Array, k: Array, bias: Array | None) -> Float[Array, "m n"]:
        """One head's scores: soft-capped inner products plus the bias of the positions."""
        scores = q @ k.T
        if self.soft_cap is not None:
            scores = self.soft_cap * jnp.tanh(scores / self.soft_cap)
        return scores if bias is None else scores + bias

    def shares(
        self, q: Array, k: Array, bias: Array | None, visible: Array | None
    ) -> Float[Array, "m n"]:
        """One head's shares of mass for a block of queries."""
        return self.choice.weigh(self.scores(q, k, bias), self.log_mass, visible)

    def mix(self) -> Float[Array, "heads m v"]:
        """The average of the values by the shares, for every head and query."""

        def one(q, k, v, bias, visible):
            return self.shares(q, k, bias, visible) @ v

        return self.over_blocks(lambda rows, q: rows.over_heads(one, q, self.keys, self.values))

    def weights(self) -> Float[Array, "heads m n"]:
        """All shares, (heads, m, n): for measures of moderate size."""
        rows = self.rows(self.query_positions)
        return rows.over_heads(self.shares, self.queries, self.keys)

    def rows(self, query_positions: Int[Array, " b"] | None) -> "Rows":
        """What a block of queries is given beside features: biases and visibility."""
        heads, _, n = self.shape
        bias = None if self.potential is None else self.potential[:, None, :]
        if query_positions is None or self.key_positions is None:
            return Rows(bias, None, heads * n)
        where = (query_positions, self.key_positions)
        if self.score_bias is not None:
            bias = self.score_bias(*where) + (0 if bias is None else bias)
        visible = None if self.mask is None else self.mask(*where)
        return Rows(bias, visible, heads * n)

    def over_blocks(self, f: Callable[["Rows", Array], Array]) -> Float[Array, "heads m v"]:
        """f on each block of query rows, the results joined along the rows."""
        _, m, _ = self.shape
        if self.block >= m:
            return f(self.rows(self.query_positions), self.queries)
        queries, positions = self.blocked(self.queries, self.query_positions)
        out = jax.lax.map(lambda b: f(self.rows(b[1]), b[0]), (queries, positions))
        return unblocked(out, m)

    def blocked(self, queries: Array, positions: Array | None) -> tuple[Array, Array | None]:
        """Query rows in blocks: (blocks, heads, b, k) and (blocks, b)."""
        heads, m, k = queries.shape
        blocks = -(-m // self.block)
        more = blocks * self.block - m
        queries = jnp.pad(queries, ((0, 0), (0, more), (0, 0)))
        queries = queries.reshape(heads, blocks, self.block, k).swapaxes(0, 1)
        if positions is not None:
            positions = jnp.pad(positions, (0, more)).reshape(blocks, self.block)
        return queries, positions


class AbstractCoupledChoice(AbstractChoice):
    """A choice in which the queries of a context compete for its atoms: it first finds a potential,
    a number for each key, and then acts on each query alone with the scores that it changes."""

    @abc.abstractmethod
    def potential(self, context: Attending) -> Float[Array, "heads n"]:
        """What is added to the scores of each key, where the atoms of the context are the
        queries."""


class Rows(eqx.Module):
    """A block of query rows: the biases of each head and what is visible, the same for all."""

    bias: Float[Array, "heads _ n"] | None
    visible: Bool[Array, "b n"] | None
    width: int = eqx.field(static=True)

    def over_heads(self, f: Callable, *features: Any) -> Any:
        """f(features of a head..., bias of the head, visible) for every head.

        Heads are batched where that is small and taken one at a time (a matrix that stays in
        cache) where it is not.
        """

        def one(arrays):
            *head, bias = arrays
            return f(*head, bias, self.visible)

        small = features[0].shape[1] * self.width <= _BATCHED
        run = jax.vmap(one) if small else (lambda xs: jax.lax.map(one, xs))
        return run((*features, self.bias))


def unblocked(blocks: Float[Array, "blocks heads b v"], m: int) -> Float[Array, "heads m v"]:
    """The rows of all blocks joined again, the padding cut off."""
    blocks = blocks.swapaxes(0, 1)
    return blocks.reshape(blocks.shape[0], -1, blocks.shape[-1])[:, :m]
