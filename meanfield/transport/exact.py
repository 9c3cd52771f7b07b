"""Exact optimal transport: POT's network simplex on the host, as a JAX function."""

import functools

import equinox as eqx
import jax
import numpy as np

from ..measure import Measure
from .cost import AbstractCost, PowerCost, SteepCost
from .envelope import transport_of
from .line import monotone_plan
from .mass import same_mass
from .network_simplex import optimal_vertex
from .plan import Plan, Status
from .transport import AbstractSolver, Transport, held_constant


class Exact(AbstractSolver):
    r"""The linear program, solved to optimality.

    On the line with a power cost this is the monotone plan, in closed form. Elsewhere it is POT's
    network simplex {cite}`bonneel2011displacement,flamary2021pot`, which runs on the host in
    float64 whatever the dtype of the measures: a GPU waits for it, and `jax.vmap` runs it once for
    each item. About $n^{2.5}$ operations and $n m$ numbers of memory. Equal atoms whose nearest
    neighbours are distinct need no simplex.

    Args:
      max_steps: the largest number of pivots.
    """

    max_steps: int = eqx.field(default=10_000_000, static=True)

    @property
    def balanced(self) -> bool:
        return True

    @property
    def scale_free(self) -> bool:
        return True

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        fixed_mu, fixed_nu, fixed_cost = held_constant((mu, nu, cost))
        if mu.dim == 1 and isinstance(cost, PowerCost | SteepCost):
            plan = monotone_plan(fixed_mu, fixed_nu, cost)
        else:
            plan = self._on_host(fixed_mu, fixed_nu, fixed_cost)
        return transport_of(plan, mu, nu, cost)

    def _on_host(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Plan:
        costs = cost.matrix(mu.points, nu.points)
        shapes = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype),
            _as_arrays(costs.dtype, *_no_plan(mu.size, nu.size, Status.successful)),
        )
        host = functools.partial(_solve_on_host, max_steps=self.max_steps)
        arrays = (costs, mu.weights, nu.weights)
        return Plan(*jax.pure_callback(host, shapes, *arrays, vmap_method="sequential"))


def _solve_on_host(costs, a, b, *, max_steps: int):
    costs, a, b = (np.asarray(array) for array in (costs, a, b))
    return _as_arrays(costs.dtype, *_solve(costs.astype(np.float64, copy=False), a, b, max_steps))


def _solve(costs, a, b, max_steps: int):
    """Solve between the atoms that have mass; extend the potentials to the others."""
    rows, cols = np.flatnonzero(a), np.flatnonzero(b)
    if not same_mass(a.sum(dtype=np.float64), b.sum(dtype=np.float64), a, b):
        return _no_plan(len(a), len(b), Status.unequal_masses)
    if len(rows) == 0:
        return _no_plan(len(a), len(b), Status.successful)
    complete = (len(rows), len(cols)) == costs.shape
    present = costs if complete else costs[np.ix_(rows, cols)]
    if not np.all(np.isfinite(present)):
        return _no_plan(len(a), len(b), Status.nonfinite_cost)
    weights = a[rows].astype(np.float64), b[cols].astype(np.float64)
    vertex = optimal_vertex(present, *weights, max_steps)
    if vertex.status != Status.successful:
        return _no_plan(len(a), len(b), vertex.status)
    spare = (0, len(a) + len(b) - 1 - len(vertex.masses))
    entries = (np.pad(x, spare, "edge") for x in (rows[vertex.rows], cols[vertex.cols]))
    potentials = (vertex.f, vertex.g) if complete else _extended(costs, vertex.f, rows, cols)
    return *entries, np.pad(vertex.masses, spare), *potentials, vertex.status


def _extended(costs, f, rows, cols):
    """The potentials on all atoms, by c-transforms between the atoms that have mass."""
    g = np.min(costs[rows] - f[:, None], axis=0)
    everywhere = np.min(costs[:, cols] - g[cols], axis=1)
    everywhere[rows] = f
    return np.nan_to_num(everywhere, posinf=0.0), np.nan_to_num(g, posinf=0.0)


def _no_plan(n: int, m: int, status: Status):
    entries = np.zeros(n + m - 1)
    return entries, entries, entries, np.zeros(n), np.zeros(m), status


def _as_arrays(dtype, rows, cols, masses, f, g, status):
    """The fields of a `Plan` as arrays of the types that the program expects."""
    whole = (np.asarray(index, np.int32) for index in (rows, cols))
    real = (np.asarray(array, dtype) for array in (masses, f, g))
    return *whole, *real, np.asarray(status, np.int32)
