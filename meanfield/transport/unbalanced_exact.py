"""Unbalanced transport without entropy, to a certified gap, in any dimension."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..measure import RESULTS, Measure
from .cost import AbstractCost
from .coupling import DenseCoupling
from .divergence import KullbackLeibler, Side
from .envelope import transport_cost
from .interior_point import Problem, solve, values
from .plan import Plan
from .transport import AbstractSolver, Transport, held_constant, marginal_error
from .unbalanced import positive


class UnbalancedExact(AbstractSolver):
    r"""Unbalanced transport, $\varepsilon = 0$, with Kullback-Leibler penalties.

    $$\min_{P \ge 0} \langle P, C \rangle + \rho_1 \mathrm{KL}(P_1 | a) + \rho_2 \mathrm{KL}(P_2 |
    b) = \max_{f_i + g_j \le C_{ij}} \rho_1 \langle a, 1 - e^{-f / \rho_1} \rangle + \rho_2 \langle
    b, 1 - e^{-g / \rho_2} \rangle$$

    An interior-point method on the host, in float64 whatever the dtype of the measures; twenty to
    eighty steps of about $2 n m^2$ operations, and some $10\, n m$ numbers of memory: for up to
    about a thousand atoms. P and (f, g) are feasible, so `.gap` bounds the error of the value. The
    value differentiates once with respect to points, weights (also of absent atoms) and costs.

    Args:
      rho: the price of a unit of mass that is not moved, positive; a pair has one for each side,
        at most one of them infinite.
      tolerance: the gap to reach, as a share of the primal value (but not below rounding).
      max_steps: the largest number of steps.

    Raises:
      ValueError: `rho` or `tolerance` not positive, or both rho infinite.
    """

    rho: tuple[Any, Any]
    tolerance: Any
    max_steps: int = eqx.field(static=True)

    def __init__(self, rho: Any, *, tolerance: Any = 1e-10, max_steps: int = 300):
        first, second = rho if isinstance(rho, tuple | list) else (rho, rho)
        self.rho = positive("rho", first), positive("rho", second)
        if all(isinstance(each, np.ndarray) and np.isinf(each) for each in self.rho):
            raise ValueError(
                "`rho` must be finite on one side at least; got (inf, inf). For balanced transport "
                "use Exact()."
            )
        self.tolerance = positive("tolerance", tolerance)
        self.max_steps = max_steps

    @property
    def balanced(self) -> bool:
        return False

    @property
    def scale_free(self) -> bool:
        return False

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        fixed_mu, fixed_nu, fixed_cost = held_constant((mu, nu, cost))
        costs = fixed_cost.matrix(fixed_mu.points, fixed_nu.points)
        first, second = (Side(KullbackLeibler(), jnp.asarray(rho, costs.dtype)) for rho in self.rho)
        found = self._on_host(costs, fixed_mu.weights, fixed_nu.weights)
        plan = Plan(
            rows=jnp.zeros(0, jnp.int32),  # the plan is dense: its entries are all of them
            cols=jnp.zeros(0, jnp.int32),
            masses=found.coupling.ravel(),
            f=-first.conjugate(-found.f),
            g=-second.conjugate(-found.g),
            status=jnp.zeros((), jnp.int32),
        )
        entries = _costs(found, mu, nu, cost)
        carried = transport_cost(entries, mu.weights, nu.weights, held_constant(plan))
        dual = jax.lax.stop_gradient(found.dual)
        value = dual + carried - jax.lax.stop_gradient(carried)
        coupling = DenseCoupling(found.coupling)
        sent, received = coupling.marginals
        result: Any = RESULTS.where(found.closed, RESULTS.successful, RESULTS.gap_not_closed)
        finite = jnp.isfinite(found.primal)
        result = RESULTS.where(finite, result, RESULTS.nonfinite_cost)
        return Transport(
            value=jnp.where(result == RESULTS.successful, value, jnp.nan),
            coupling=coupling,
            potentials=(found.f, found.g),
            primal=found.primal,
            dual=dual,
            marginal_error=marginal_error(
                coupling,
                jnp.where(jnp.isinf(first.rho), fixed_mu.weights, sent),
                jnp.where(jnp.isinf(second.rho), fixed_nu.weights, received),
            ),
            steps=found.steps,
            result=result,
        )

    def _on_host(self, costs: Array, a: Array, b: Array) -> "_Found":
        n, m = costs.shape
        real = {"coupling": (n, m), "f": (n,), "g": (m,), "primal": (), "dual": ()}
        shapes = _Found(
            **{name: jax.ShapeDtypeStruct(shape, costs.dtype) for name, shape in real.items()},
            steps=jax.ShapeDtypeStruct((), np.int32),
            closed=jax.ShapeDtypeStruct((), np.bool_),
        )
        arrays = (costs, a, b, *self.rho, self.tolerance)

        def host(*given):
            found = _solve_on_host(*given, max_steps=self.max_steps)
            return jax.tree.map(lambda x, like: np.asarray(x, like.dtype), found, shapes)

        return jax.pure_callback(host, shapes, *arrays, vmap_method="sequential")


class _Found(NamedTuple):
    """What comes back from the host."""

    coupling: Any
    f: Any
    g: Any
    primal: Any
    dual: Any
    steps: Any
    closed: Any


def _costs(found: _Found, mu: Measure, nu: Measure, cost: AbstractCost) -> Float[Array, " nm"]:
    """The costs where there is mass; absent atoms are put at the origin, harmless."""
    x, y = (jnp.where(m.present[:, None], m.points, 0.0) for m in (mu, nu))
    return jnp.where(found.coupling > 0, cost.matrix(x, y), 0.0).ravel()


def _solve_on_host(costs, a, b, first, second, tolerance, *, max_steps: int):
    """Solve between the atoms that have mass; extend the potentials to the others."""
    costs, a, b = (np.asarray(array, np.float64) for array in (costs, a, b))
    rows, cols = np.flatnonzero(a), np.flatnonzero(b)
    rho = float(first), float(second)
    present = costs[np.ix_(rows, cols)]
    if len(rows) == 0 or len(cols) == 0:
        return _nothing_moved(a, b, rho)
    if not np.all(np.isfinite(present)):
        return _Found(*_zeros(a, b), np.nan, np.nan, 0, False)
    problem = Problem(present, a[rows], b[cols], rho)
    with np.errstate(all="ignore"):  # a step that fails is seen and not taken
        pair, steps, closed = solve(problem, float(tolerance), max_steps)
        primal, dual = values(problem, pair)
    coupling, f, g = _zeros(a, b)
    coupling[np.ix_(rows, cols)] = pair.coupling
    f, g = np.min(costs[:, cols] - pair.g, axis=1), np.min(costs[rows] - pair.f[:, None], axis=0)
    f[rows], g[cols] = pair.f, pair.g
    f, g = (np.nan_to_num(potential, nan=0.0, posinf=0.0, neginf=0.0) for potential in (f, g))
    return _Found(coupling, f, g, primal, dual, steps, closed)


def _nothing_moved(a, b, rho):
    """Between measures of which one is empty. Potentials without bound give the price of mass."""
    coupling, f, g = _zeros(a, b)
    lost = sum(r * w.sum() for r, w in zip(rho, (a, b), strict=True) if w.sum() > 0)
    for potential, weights, r in ((f, a, rho[0]), (g, b, rho[1])):
        potential[weights > 0] = 1e3 * r if np.isfinite(r) else 0.0
    return _Found(coupling, f, g, lost, lost, 0, bool(np.isfinite(lost)))


def _zeros(a, b):
    return np.zeros((len(a), len(b))), np.zeros(len(a)), np.zeros(len(b))
