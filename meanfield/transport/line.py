"""Optimal transport on the line: the monotone coupling, in closed form."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..measure import Measure
from .cost import AbstractCost, AbstractPointCost, PowerCost
from .envelope import transport_of
from .mass import same_mass
from .plan import Plan, Status
from .transport import AbstractSolver, Transport, held_constant


class Line(AbstractSolver):
    """The monotone plan, for measures on the line and powers of the distance.

    Everything runs on the device, in O((n + m) log(n + m)); `Exact()` chooses it by itself.

    Raises:
      ValueError: points of another dimension than one, or another cost than a `PowerCost`.
    """

    @property
    def balanced(self) -> bool:
        return True

    @property
    def scale_free(self) -> bool:
        return True

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        if mu.dim != 1 or not isinstance(cost, PowerCost):
            raise ValueError(
                "`solver` Line() needs points of shape (n, 1) and a PowerCost; got points of shape "
                f"{mu.points.shape} and {type(cost).__name__}. Use Exact()."
            )
        fixed_mu, fixed_nu = held_constant((mu, nu))
        plan = monotone_plan(fixed_mu, fixed_nu, cost)
        return transport_of(plan, mu, nu, cost)


def monotone_plan(mu: Measure, nu: Measure, cost: AbstractPointCost) -> Plan:
    r"""The plan that matches quantiles, optimal on the line for every convex cost of x - y.

    With sorted atoms its entries $(i_k, j_k)$ climb a staircase from (1, 1) to (n, m): the k-th
    holds the mass between the k-th and the next of the cumulative masses of both sides. Along the
    staircase $f_{i_k} + g_{j_k} = c_k$ determines the potentials
    {cite}`peyre2019computational`, Remark 2.30. No host callback, O((n + m) log(n + m)).
    """
    a, b = mu.weights, nu.weights
    x, y = _within(mu, nu)
    by_x, by_y = jnp.argsort(x[:, 0]), jnp.argsort(y[:, 0])
    i, j, shares = _staircase(a[by_x], b[by_y])
    rows, cols = by_x[i], by_y[j]
    mass = (jnp.sum(a) + jnp.sum(b)) / 2
    costs = cost.pairs(x[rows], y[cols])
    rise = jnp.diff(costs, prepend=0.0)
    along_x = jnp.cumsum(jnp.where(jnp.diff(i, prepend=0) > 0, rise, 0.0))
    f = jnp.zeros(a.shape, costs.dtype).at[rows].set(along_x)
    g = jnp.zeros(b.shape, costs.dtype).at[cols].set(jnp.cumsum(rise) - along_x)
    opposite_x, opposite_y = jnp.zeros_like(x), jnp.zeros_like(y)
    opposite_x, opposite_y = opposite_x.at[rows].set(y[cols]), opposite_y.at[cols].set(x[rows])
    finite = jnp.all(jnp.where(shares > 0, jnp.isfinite(costs), True))
    fits = same_mass(jnp.sum(a), jnp.sum(b), a, b)
    return Plan(
        rows=rows.astype(jnp.int32),
        cols=cols.astype(jnp.int32),
        masses=mass * shares,
        f=f + _beyond(mu, x, opposite_x, cost),
        g=g + _beyond(nu, y, opposite_y, cost),
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


def _within(mu: Measure, nu: Measure) -> tuple[Float[Array, "n 1"], Float[Array, "m 1"]]:
    """The points, absent atoms moved into the range of the others: costs of far ones in the sums
    that make potentials would leave no digits of the rest."""
    points = jnp.concatenate([mu.points, nu.points])
    seen = jnp.concatenate([mu.present, nu.present])[:, None]
    low = jnp.min(jnp.where(seen, points, jnp.inf), initial=jnp.inf)
    high = jnp.max(jnp.where(seen, points, -jnp.inf), initial=-jnp.inf)
    low, high = (jnp.where(jnp.any(seen), end, 0.0).astype(points.dtype) for end in (low, high))

    def placed(measure: Measure) -> Float[Array, "n 1"]:
        near = jnp.clip(jnp.where(jnp.isnan(measure.points), low, measure.points), low, high)
        return jnp.where(measure.present[:, None], measure.points, near)

    return placed(mu), placed(nu)


def _beyond(mu: Measure, x: Array, opposite: Array, cost: AbstractPointCost) -> Float[Array, " n"]:
    """What the potentials of absent atoms gain on the way from the range of the others."""
    more = cost.pairs(mu.points, opposite) - cost.pairs(x, opposite)
    return jnp.where(mu.present | ~jnp.isfinite(more), 0.0, more)
