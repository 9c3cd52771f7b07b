"""Optimal transport on the line: the monotone coupling, in closed form."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .cost import AbstractCost
from .coupling import Plan, Status, same_mass


def monotone_plan(
    x: Float[Array, "n 1"],
    a: Float[Array, " n"],
    y: Float[Array, "m 1"],
    b: Float[Array, " m"],
    cost: AbstractCost,
) -> Plan:
    r"""The plan that matches quantiles, optimal on the line for every convex cost of x - y.

    With sorted atoms its entries $(i_k, j_k)$ climb a staircase from (1, 1) to (n, m): the k-th
    holds the mass between the k-th and the next of the cumulative masses of both sides. Along the
    staircase $f_{i_k} + g_{j_k} = c_k$ determines the potentials
    {cite}`peyre2019computational`, Remark 2.30. No host callback, O((n + m) log(n + m)).
    """
    x, y = _harmless(x, a, cost), _harmless(y, b, cost)
    by_x, by_y = jnp.argsort(x[:, 0]), jnp.argsort(y[:, 0])
    i, j, shares = _staircase(a[by_x], b[by_y])
    rows, cols = by_x[i], by_y[j]
    mass = (jnp.sum(a) + jnp.sum(b)) / 2
    costs = cost.pairs(x[rows], y[cols])
    rise = jnp.diff(costs, prepend=0.0)
    along_x = jnp.cumsum(jnp.where(jnp.diff(i, prepend=0) > 0, rise, 0.0))
    finite = jnp.all(jnp.where(shares > 0, jnp.isfinite(costs), True))
    fits = same_mass(jnp.sum(a), jnp.sum(b), a, b)
    return Plan(
        rows=rows.astype(jnp.int32),
        cols=cols.astype(jnp.int32),
        masses=mass * shares,
        f=jnp.zeros(a.shape, costs.dtype).at[rows].set(along_x),
        g=jnp.zeros(b.shape, costs.dtype).at[cols].set(jnp.cumsum(rise) - along_x),
        status=jnp.where(
            fits,
            jnp.where(finite, Status.successful, Status.nonfinite_cost),
            Status.unequal_masses,
        ).astype(jnp.int32),
    )


def _staircase(
    a: Float[Array, " n"], b: Float[Array, " m"]
) -> tuple[Int[Array, " K"], Int[Array, " K"], Float[Array, " K"]]:
    """Rows, columns and shares of the K = n + m - 1 steps, for weights in sorted order."""
    levels = jnp.concatenate([_cumulative(a), _cumulative(b)])
    order = jnp.argsort(levels)
    from_a = (order < len(a) - 1).astype(jnp.int32)
    i = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(from_a)])
    edges = jnp.pad(levels[order], 1, constant_values=(0.0, 1.0))
    return i, jnp.arange(len(i)) - i, jnp.diff(edges)


def _cumulative(a: Float[Array, " n"]) -> Float[Array, " n-1"]:
    """The inner cumulative masses, as shares of the whole."""
    total = jnp.cumsum(a)
    return total[:-1] / jnp.where(total[-1] > 0, total[-1], 1.0)


def _harmless(
    x: Float[Array, "n 1"], a: Float[Array, " n"], cost: AbstractCost
) -> Float[Array, "n 1"]:
    """The points, with zero in place of absent atoms at infinite cost, which would poison sums."""
    near = jnp.isfinite(cost.pairs(2 * x, jnp.zeros_like(x)))
    return jnp.where((near | (a > 0))[:, None], x, 0.0)
