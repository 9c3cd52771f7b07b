"""Costs between the atoms of two measures, made for a few rows at a time."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..measure import Measure
from .cost import AbstractCost, MatrixCost, PowerCost


# So many costs at a time stay in cache, between the product that makes them and their exponentials.
_BLOCK = 2**20
# A table of costs of up to this many bytes is made once and kept.
MEMORY = 2**28


class AbstractPairs(eqx.Module):
    r"""The costs $C_{ij} = c(x_i, y_j)$ of n m pairs, by blocks of rows.

    What a row needs is in `rows`, arrays with a leading axis n; with a part of them the same object
    is a block. Absent atoms cost something finite, whatever their points hold.
    """

    rows: eqx.AbstractVar[Any]
    mesh: eqx.AbstractVar[jax.sharding.Mesh | None]

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int]:
        """The sizes (n, m)."""

    @property
    @abc.abstractmethod
    def transpose(self) -> "AbstractPairs":
        """The costs read from nu to mu."""

    @property
    @abc.abstractmethod
    def costs(self) -> Float[Array, "n m"]:
        """The costs, written out."""

    @abc.abstractmethod
    def exponents(
        self, height: Float[Array, " m"], epsilon: Float[Array, ""]
    ) -> Float[Array, "n m"]:
        r"""The numbers $h_j - C_{ij} / \varepsilon$, in as few passes as the costs allow."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """The dtype of the costs."""


class SquaredPairs(AbstractPairs):
    r"""Squared distances by matrix products, $|x|^2 + |y|^2 - 2 \langle x, y \rangle$.

    Points are centred by the caller: the digits that cancel are those of the largest norm.
    """

    rows: Float[Array, "n d"]
    cols: Float[Array, "m d"]
    mesh: jax.sharding.Mesh | None = eqx.field(static=True, default=None)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.cols)

    @property
    def dtype(self) -> Any:
        return jnp.result_type(self.rows, self.cols)

    @property
    def transpose(self) -> "SquaredPairs":
        return SquaredPairs(rows=self.cols, cols=self.rows, mesh=self.mesh)

    @property
    def costs(self) -> Float[Array, "n m"]:
        x, y = self.rows, self.cols
        return jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1) - 2 * _products(x, y)

    def exponents(
        self, height: Float[Array, " m"], epsilon: Float[Array, ""]
    ) -> Float[Array, "n m"]:
        x, y = self.rows, self.cols
        by_row, by_col = (jnp.sum(points**2, axis=1) / epsilon for points in (x, y))
        return _products(x * (2 / epsilon), y) + (height - by_col) - by_row[:, None]


class PointPairs(AbstractPairs):
    """Costs of any kind between points, pair by pair."""

    rows: tuple[Float[Array, "n d"], Bool[Array, " n"]]
    cols: tuple[Float[Array, "m d"], Bool[Array, " m"]]
    cost: AbstractCost
    swapped: bool = eqx.field(static=True, default=False)
    mesh: jax.sharding.Mesh | None = eqx.field(static=True, default=None)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows[0]), len(self.cols[0])

    @property
    def dtype(self) -> Any:
        return jnp.result_type(self.rows[0], self.cols[0])

    @property
    def transpose(self) -> "PointPairs":
        return PointPairs(
            rows=self.cols,
            cols=self.rows,
            cost=self.cost,
            swapped=not self.swapped,
            mesh=self.mesh,
        )

    @property
    def costs(self) -> Float[Array, "n m"]:
        (x, seen_x), (y, seen_y) = self.rows, self.cols
        costs = self.cost.matrix(y, x).T if self.swapped else self.cost.matrix(x, y)
        return _harmless(costs, seen_x, seen_y)

    def exponents(
        self, height: Float[Array, " m"], epsilon: Float[Array, ""]
    ) -> Float[Array, "n m"]:
        return height - self.costs * (1 / epsilon)


class TablePairs(AbstractPairs):
    """Costs that have been written out."""

    rows: Float[Array, "n m"]
    mesh: jax.sharding.Mesh | None = eqx.field(static=True, default=None)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape[0], self.rows.shape[1]

    @property
    def dtype(self) -> Any:
        return self.rows.dtype

    @property
    def transpose(self) -> "TablePairs":
        return TablePairs(rows=self.rows.T, mesh=self.mesh)

    @property
    def costs(self) -> Float[Array, "n m"]:
        return self.rows

    def exponents(
        self, height: Float[Array, " m"], epsilon: Float[Array, ""]
    ) -> Float[Array, "n m"]:
        return height - self.rows * (1 / epsilon)


def pairs_of(
    mu: Measure,
    nu: Measure,
    cost: AbstractCost,
    *,
    memory: int = MEMORY,
    mesh: jax.sharding.Mesh | None = None,
) -> AbstractPairs:
    """The costs between two measures.

    Squared distances are made again whenever they are needed, which is as quick as reading them.
    Other costs are kept in a table where it takes at most `memory` bytes.
    """
    if isinstance(cost, MatrixCost):
        costs = cost.matrix(mu.points, nu.points)
        return TablePairs(rows=_harmless(costs, mu.present, nu.present), mesh=mesh)
    x, y = _placed(mu), _placed(nu)
    if isinstance(cost, PowerCost) and cost.p == 2:
        centre = jax.lax.stop_gradient((_mean(x, mu) + _mean(y, nu)) / 2)
        return SquaredPairs(rows=x - centre, cols=y - centre, mesh=mesh)
    pairs = PointPairs(rows=(x, mu.present), cols=(y, nu.present), cost=cost, mesh=mesh)
    if mu.size * nu.size * jnp.dtype(pairs.dtype).itemsize > memory or mesh is not None:
        return pairs
    return TablePairs(rows=pairs.costs)


def _products(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _placed(mu: Measure) -> Float[Array, "n d"]:
    """The points, with the heaviest in place of absent ones whose distances would overflow."""
    with_room = jnp.isfinite(4 * jnp.sum(mu.points**2, axis=1)) | mu.present
    heaviest = jax.lax.stop_gradient(mu.points[jnp.argmax(mu.weights)])
    return jnp.where(with_room[:, None], mu.points, jnp.where(jnp.any(mu.present), heaviest, 0.0))


def _mean(x: Float[Array, "n d"], mu: Measure) -> Float[Array, " d"]:
    mass = jnp.sum(mu.weights)
    return mu.weights @ x / jnp.where(mass > 0, mass, 1.0)


def _harmless(costs: Array, seen_x: Array, seen_y: Array) -> Float[Array, "n m"]:
    """The costs, with zero in place of what is not finite and concerns an absent atom."""
    seen = seen_x[:, None] & seen_y
    return jnp.where(seen | jnp.isfinite(costs), costs, 0.0)


def stream(
    pairs: AbstractPairs,
    values: tuple[Float[Array, " n"], ...],
    shared: Any,
    body: Callable[..., tuple[Array, Array | None]],
) -> tuple[Array, Array | None]:
    """`body(block, shared, *values)` on each block of rows: rows joined, the rest summed.

    `body` takes the pairs of k rows, what is the same for every row, and its part of each of
    `values`. It returns an array with a leading axis k and one of any shape (or None) to add up
    over blocks. Rows that fill the last block have values zero; they must add nothing. With a
    mesh, each device streams its share of the rows; what is summed is then summed over devices.
    """
    if pairs.mesh is None:
        return _stream(pairs, values, shared, body)
    axis = pairs.mesh.axis_names[0]
    devices = pairs.mesh.shape[axis]
    n = pairs.shape[0]
    size = math.ceil(n / devices) * devices
    rows = jax.tree.map(lambda array: _filled(array, size), (pairs.rows, values))
    arrays, rest = eqx.partition(eqx.tree_at(_rows, pairs, None), eqx.is_array)

    def on_device(rows, arrays, shared):
        mine = eqx.tree_at(
            _rows, eqx.combine(arrays, rest), rows[0], is_leaf=lambda leaf: leaf is None
        )
        out, total = _stream(mine, rows[1], shared, body)
        return out, None if total is None else jax.lax.psum(total, axis)

    split, whole = jax.P(axis), jax.P()
    on_devices = jax.shard_map(
        on_device,
        mesh=pairs.mesh,
        in_specs=(split, whole, whole),
        out_specs=(split, whole),
        check_vma=False,
    )
    out, total = on_devices(rows, arrays, shared)
    return out[:n], total


def _stream(pairs, values, shared, body):
    n, blocks = pairs.shape[0], _blocks(pairs)
    if blocks <= 1:
        return body(pairs, shared, *values)
    size = math.ceil(n / blocks)

    @jax.checkpoint
    def one(rows, block):
        return body(eqx.tree_at(_rows, pairs, rows), shared, *block)

    def step(total, given):
        out, more = one(*given)
        return (None if more is None else total + more), out

    def blocked(array):
        return _filled(array, blocks * size).reshape(blocks, size, *array.shape[1:])

    given = jax.tree.map(blocked, (pairs.rows, values))
    _, shape = jax.eval_shape(one, *jax.tree.map(lambda array: array[0], given))
    empty = None if shape is None else jnp.zeros(shape.shape, shape.dtype)
    total, out = jax.lax.scan(step, empty, given)
    return out.reshape(blocks * size, *out.shape[2:])[:n], total


def by_blocks(pairs: AbstractPairs) -> bool:
    """Whether there are too many pairs for one block."""
    return _blocks(pairs) > 1


def _blocks(pairs: AbstractPairs) -> int:
    n, m = pairs.shape
    return math.ceil(n / max(_BLOCK // max(m, 1), 8))


def _rows(pairs: AbstractPairs) -> Any:
    return pairs.rows


def _filled(array: Array, n: int) -> Array:
    """The array with zeros appended along its leading axis, n rows in all."""
    return jnp.pad(array, [(0, n - len(array))] + [(0, 0)] * (array.ndim - 1))
