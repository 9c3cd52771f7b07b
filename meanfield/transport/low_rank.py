"""Transport by couplings of low rank, through OTT."""

import functools
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from ..measure import RESULTS, Measure
from .cost import AbstractCost
from .entropic_problem import shares
from .low_rank_coupling import LowRankCoupling
from .mass import same_mass
from .pairs import AbstractPairs, SquaredPairs, pairs_of, stream
from .transport import AbstractSolver, Transport, held_constant, marginal_error


class LowRank(AbstractSolver):
    r"""The least cost of couplings $P = L R^T$ of nonnegative rank r, locally.

    Mass passes through r stations, so that n and m can be large: with squared distances everything
    is O((n + m)(d + r)). OTT's mirror descent {cite}`scetbon2021,cuturi2022ott` finds a local
    minimum, which is above the optimum over all couplings. The start depends on the points alone,
    not on their order.

    There are no potentials (they are NaN) and no lower bound (`dual` is minus infinity). The value
    differentiates once with respect to points and costs; with respect to weights it raises.

    Args:
      rank: the number r of stations.
      tolerance: the marginal error to reach, as a share of the mass, and the change at which the
        descent ends.
      max_steps: the largest number of steps.

    Raises:
      ValueError: `rank` less than one.
      NotImplementedError: a derivative with respect to weights.
    """

    rank: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True, default=1e-3)
    max_steps: int = eqx.field(static=True, default=2000)

    def __check_init__(self):
        if self.rank < 1:
            raise ValueError(f"`rank` must be at least 1; got {self.rank}.")

    @property
    def balanced(self) -> bool:
        return True

    @property
    def scale_free(self) -> bool:
        return True

    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        pairs = pairs_of(mu, nu, cost, memory=0)
        (a, mass), (b, other) = held_constant((shares(mu.weights), shares(nu.weights)))
        total = (mass + other) / 2
        left, right, settled = self._factors(held_constant(pairs), a, b)
        coupling = LowRankCoupling(total * left, right)
        value = _fixed_in((mu.weights, nu.weights), _cost_of(coupling, pairs))
        error = marginal_error(coupling, total * a, total * b)
        fits = same_mass(mu.mass, nu.mass, mu.weights, nu.weights)
        result = self._result(settled, error, jax.lax.stop_gradient(value), fits)
        return Transport(
            value=jnp.where(result == RESULTS.successful, value, jnp.nan),
            coupling=coupling,
            potentials=(jnp.full_like(a, jnp.nan), jnp.full_like(b, jnp.nan)),
            primal=jax.lax.stop_gradient(value),
            dual=jnp.full_like(total, -jnp.inf),
            marginal_error=error,
            steps=jnp.zeros((), jnp.int32),
            result=result,
        )

    def _factors(self, pairs: AbstractPairs, a: Array, b: Array) -> tuple[Array, Array, Array]:
        """The factors of a coupling of mass one, and whether the descent ended by itself."""
        if self.rank == 1:  # one station: independent atoms, and nothing to descend
            return held_constant((a[:, None], b[:, None], jnp.ones((), bool)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # OTT imports jaxopt
            from ott.problems.linear.linear_problem import LinearProblem
            from ott.solvers.linear.sinkhorn_lr import LRSinkhorn
        solver = LRSinkhorn(
            self.rank,
            threshold=self.tolerance / 10,
            min_iterations=0,
            max_iterations=self.max_steps,
        )
        middle = jnp.full(self.rank, 1 / self.rank, a.dtype)
        start = self._start(pairs, a, b), self._start(pairs.transpose, b, a), middle
        found = solver(LinearProblem(_geometry(pairs), a, b), init=start)
        left = jnp.where(a[:, None] > 0, found.q / found.g, 0.0)
        right = jnp.where(b[:, None] > 0, found.r, 0.0)
        return held_constant((left, right, jnp.asarray(found.converged)))

    def _start(self, pairs: AbstractPairs, a: Array, b: Array) -> Float[Array, "n r"]:
        r"""A factor with marginals a and 1/r: $a_i (1 + t_{ik}) / r$, where t is at most a half.

        t is linear in centred features of the atom, with coefficients that sum to zero over k:
        near atoms send their mass to the same stations.
        """
        features = _features(pairs, b)
        features = jnp.where(a[:, None] > 0, features - a @ features, 0.0)
        sizes = jnp.max(jnp.linalg.norm(features, axis=1), initial=0.0)
        tilts = np.random.default_rng(0).normal(size=(features.shape[1], self.rank))
        tilts -= tilts.mean(axis=1, keepdims=True)
        tilts /= max(np.linalg.norm(tilts, axis=0).max(), 1e-30)
        tilt = (features / jnp.where(sizes > 0, sizes, 1.0)) @ jnp.asarray(tilts, a.dtype)
        return a[:, None] * (1 + tilt / 2) / self.rank

    def _result(self, settled: Array, error: Array, value: Array, fits: Array) -> RESULTS:
        ended = settled & (error <= self.tolerance)
        result: Any = RESULTS.where(ended, RESULTS.successful, RESULTS.marginals_not_reached)
        result = RESULTS.where(jnp.isfinite(value), result, RESULTS.nonfinite_cost)
        return RESULTS.where(fits, result, RESULTS.unequal_masses)


def _geometry(pairs: AbstractPairs) -> Any:
    """The costs as OTT takes them: squared distances by factors, others written out."""
    from ott.geometry.geometry import Geometry
    from ott.geometry.low_rank import LRCGeometry

    if not isinstance(pairs, SquaredPairs):
        return Geometry(pairs.costs)
    x, y = pairs.rows, pairs.cols
    ones = jnp.ones((len(x), 1), x.dtype), jnp.ones((len(y), 1), y.dtype)
    left = jnp.concatenate([jnp.sum(x**2, axis=1, keepdims=True), ones[0], -2 * x], axis=1)
    right = jnp.concatenate([ones[1], jnp.sum(y**2, axis=1, keepdims=True), y], axis=1)
    return LRCGeometry(left, right)


def _features(pairs: AbstractPairs, b: Float[Array, " m"]) -> Float[Array, "n k"]:
    """What tells atoms apart: their points, or their mean costs."""
    if isinstance(pairs, SquaredPairs):
        return pairs.rows
    return stream(pairs, (), b, lambda block, b: ((block.costs @ b)[:, None], None))[0]


def _cost_of(coupling: LowRankCoupling, pairs: AbstractPairs) -> Float[Array, ""]:
    """The cost of a coupling, the coupling held constant (which is the envelope theorem)."""
    right = stream(pairs, (), coupling.right, lambda block, right: (block.costs @ right, None))[0]
    return jnp.sum(coupling.left * right)


@jax.custom_jvp
def _fixed_in(weights: Any, value: Float[Array, ""]) -> Float[Array, ""]:
    """The value, whose derivative with respect to the weights is not known."""
    return value


@functools.partial(_fixed_in.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    moved, rate = tangents
    if not all(isinstance(leaf, SymbolicZero) for leaf in jax.tree.leaves(moved)):
        raise NotImplementedError(
            "`LowRank` has no derivative with respect to weights. Differentiate with respect to "
            "the points alone, or use Sinkhorn() or Exact()."
        )
    return primals[1], jnp.zeros_like(primals[1]) if isinstance(rate, SymbolicZero) else rate
