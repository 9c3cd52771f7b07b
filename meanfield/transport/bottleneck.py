"""The bottleneck distance: couplings that keep the longest move short, on the host."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..measure import Measure
from .bottleneck_flow import UNITS, in_units
from .bottleneck_forest import on_a_forest
from .bottleneck_search import least_threshold
from .cost import AbstractCost
from .coupling import SparseCoupling
from .mass import same_mass
from .plan import Status
from .transport import AbstractSolver, Transport, held_constant, marginal_error


class Bottleneck(AbstractSolver):
    r"""The least possible largest cost, $\min_\pi \max_{\pi(x, y) > 0} c(x, y)$.

    With the distance as cost this is $W_\infty$. A search over the costs asks of each whether a
    flow along cheaper pairs carries the mass (scipy's Dinic, on the host, in whole numbers). The
    answer has a certificate on each side:

    - `coupling` carries the mass along pairs that cost at most `value`;
    - `potentials` are $f = 1_S$ and $g = -1_T$, where T holds all that S reaches by pairs cheaper
      than `value`, and $\mu(S) > \nu(T)$. So mass of at least $\sum f_i a_i + \sum g_j b_j > 0$
      must go as far, in every coupling. `dual` is the least cost between S and the complement
      of T.

    Weights are taken as shares of their sum, in units of $2^{-61}$. A share of
    $\tau = 16 \epsilon + (n + m) 2^{-61}$, $\epsilon$ being the machine epsilon of the weights, may
    be left behind: what rounding does to weights that are meant to fit. The value is a lower
    bound for the weights as given, and exact for weights within $2 \tau$ of them; atoms lighter
    than $\tau$ count by their nearest neighbour alone.

    The value differentiates in the points as the cost of one critical pair does (where several
    pairs are critical, equal atoms for one, this is one choice); in the weights its derivative is
    zero, the value being constant but for jumps. `jax.vmap` runs the host once for each item.
    """

    @property
    def balanced(self) -> bool:
        return True

    @property
    def scale_free(self) -> bool:
        return True

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        fixed_mu, fixed_nu, fixed_cost = held_constant((mu, nu, cost))
        costs = fixed_cost.matrix(fixed_mu.points, fixed_nu.points)
        found = _find(costs, fixed_mu.weights, fixed_nu.weights)
        x, y = (jnp.where(m.present[:, None], m.points, 0.0) for m in (mu, nu))
        solved, somewhere = found.status == Status.successful, jnp.sum(found.masses) > 0
        value = jnp.where(
            somewhere, cost.entries(x, y, found.critical[0], found.critical[1])[0], 0.0
        )
        value = jnp.where(solved, value, jnp.nan)
        coupling = SparseCoupling(found.rows, found.cols, found.masses, (mu.size, nu.size))
        moves = fixed_cost.entries(*jax.lax.stop_gradient((x, y)), found.rows, found.cols)
        longest = jnp.max(jnp.where(found.masses > 0, moves, 0.0))
        return Transport(
            value=value,
            coupling=coupling,
            potentials=(found.f, found.g),
            primal=jnp.where(solved, longest, jnp.nan),
            dual=jax.lax.stop_gradient(value),
            marginal_error=marginal_error(coupling, fixed_mu.weights, fixed_nu.weights),
            steps=jnp.zeros((), jnp.int32),
            result=Status.result(found.status),
        )


class _Found(NamedTuple):
    """A coupling of least largest cost by its entries, the certificate, and a critical pair."""

    rows: Int[Array, " K"]
    cols: Int[Array, " K"]
    masses: Float[Array, " K"]
    f: Float[Array, " n"]
    g: Float[Array, " m"]
    critical: Int[Array, "2 1"]
    status: Int[Array, ""]


def _find(costs: Float[Array, "n m"], a: Float[Array, " n"], b: Float[Array, " m"]) -> _Found:
    shapes = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), _nothing(costs)
    )
    return jax.pure_callback(_on_host, shapes, costs, a, b, vmap_method="sequential")


def _on_host(costs, a, b) -> _Found:
    """Solve between the atoms that have mass."""
    costs, a, b = (np.asarray(array) for array in (costs, a, b))
    rows, cols = np.flatnonzero(a), np.flatnonzero(b)
    present = costs[np.ix_(rows, cols)].astype(np.float64)  # numpy does not sort half precision
    masses = a.sum(dtype=np.float64), b.sum(dtype=np.float64)
    if not same_mass(*masses, a, b):
        return _nothing(costs, Status.unequal_masses)
    if len(rows) == 0:
        return _nothing(costs)
    if not np.all(np.isfinite(present)):
        return _nothing(costs, Status.nonfinite_cost)
    threshold = least_threshold(present, in_units(a[rows], b[cols]))
    i, j, shares = _entries(threshold.flow)
    certificate = _certificate(costs, rows[threshold.source], cols, threshold.value)
    entries = _padded(sum(costs.shape) - 1, rows[i], cols[j], sum(masses) / 2 * shares)
    return _typed(costs, *entries, *certificate, Status.successful)


def _entries(flow):
    """Rows, columns and shares of the mass, at most n + m - 1 of them."""
    i, j = flow.nonzero()
    i, j, units = on_a_forest(i, j, flow[i, j], flow.shape)
    return i, j, units / UNITS


def _padded(size: int, rows, cols, masses):
    """The entries and repetitions of the last one, without mass."""
    spare = (0, size - len(rows))
    return np.pad(rows, spare, "edge"), np.pad(cols, spare, "edge"), np.pad(masses, spare)


def _certificate(costs, source, cols, value):
    """The potentials, on absent atoms too, and the cheapest pair from S to outside T."""
    reached = np.any(costs[source] < value, axis=0)
    beyond = cols[~reached[cols]]
    i, j = np.unravel_index(costs[np.ix_(source, beyond)].argmin(), (len(source), len(beyond)))
    f = np.zeros(len(costs))
    f[source] = 1
    return f, np.where(reached, -1.0, 0.0), [[source[i]], [beyond[j]]]


def _nothing(costs, status: Status = Status.successful) -> _Found:
    n, m = costs.shape
    empty = np.zeros(n + m - 1)
    return _typed(costs, empty, empty, empty, np.zeros(n), np.zeros(m), [[0], [0]], status)


def _typed(costs, rows, cols, masses, f, g, critical, status) -> _Found:
    """The fields as arrays of the types that the program expects."""
    whole, real = np.int32, costs.dtype
    types = (whole, whole, real, real, real, whole, whole)
    fields = (rows, cols, masses, f, g, critical, status)
    arrays: Any = (np.asarray(x, dtype) for x, dtype in zip(fields, types, strict=True))
    return _Found(*arrays)
