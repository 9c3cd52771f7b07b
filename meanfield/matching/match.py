"""A match: the coupling and the transform that were found, and how the search went."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..measure import RESULTS, Measure
from ..transport import AbstractCoupling, DenseCoupling
from ..transport.entropic_problem import log_shares
from .bilinear import BilinearPairs
from .conditional_mean import conditional_mean, nearest_mean
from .partners import partners
from .task import Task, source_rows, target_cols


class Starts(eqx.Module):
    """What every start came to, the best first to be looked at when a match is doubted.

    Attributes:
      transforms: shape (s, q, p), the transform each start ended at.
      objective: shape (s,), the objective there, on all atoms where `refined` and on the sample
        of atoms elsewhere.
      optimum: shape (s,), equal numbers for starts that ended at the same transform.
      refined: shape (s,), whether the start was carried on to all atoms.
      steps: shape (s,), the transforms it took.
      gap: how far the runner-up, the best start at another optimum, is above the best, as a share
        of the objective's range over the starts' optima (infinite if there is none).
    """

    transforms: Float[np.ndarray, "s q p"]
    objective: Float[np.ndarray, " s"]
    optimum: Int[np.ndarray, " s"]
    refined: Bool[np.ndarray, " s"]
    steps: Int[np.ndarray, " s"]
    gap: float


class Match(eqx.Module):
    r"""A coupling of measures on different spaces, and the transform between the spaces.

    Attributes:
      coupling: the coupling, made from its potentials when it is asked for: `.matrix`, `.apply`,
        `.barycentric`, `.marginals`.
      transform: M, shape (q, p).
      value: the problem's objective at both, without the entropy: for Gromov-Wasserstein the mean
        squared distortion.
      objective: the same with the entropy and the penalties of free marginals, by duality; this is
        what starts are compared by. An estimate: optimality over transforms is not proved. (Where
        the mass is free, and between matrices, it is evaluated at the coupling.)
      starts: what every start came to.
      epsilon: the temperature, in units of the cost.
      epsilon_critical: the temperature above which the product coupling attracts.
      correlation: the size $|E y x^\top - E y E x^\top|_F$ of the covariance, as a share of
        $\sqrt{\operatorname{tr} C_x \operatorname{tr} C_y}$ for the covariances of the marginals,
        between zero and one; zero for the product coupling.
      collapsed: whether the coupling is (nearly) the product of the marginals: correlations below
        0.001 and, above the critical temperature of the measures about their means, below 0.05.
      marginal_error: how far the second marginal is from its weights, as a share of the mass.
      result: `RESULTS.successful`, or what went wrong and what to try next.
      mu, nu: the measures.
      lower_bound: what no coupling and no transform goes below, proved from moments alone (theory
        page); minus infinity where no bound is known.
    """

    coupling: AbstractCoupling
    transform: Float[Array, "q p"]
    value: Float[Array, ""]
    objective: Float[Array, ""]
    starts: Starts
    epsilon: float
    epsilon_critical: float
    correlation: float
    collapsed: bool
    marginal_error: float
    result: RESULTS
    mu: Measure
    nu: Measure
    potentials: tuple[Float[Array, " n"], Float[Array, " m"]]
    centres: tuple[Float[np.ndarray, " p"], Float[np.ndarray, " q"]]
    task: Task
    lower_bound: float = -np.inf

    @property
    def optimality_gap(self) -> float:
        """How far the value, without entropy, can at most be above that of the global optimum."""
        return max(float(self.value) - self.lower_bound, 0.0)

    def map(self, x: Any) -> Float[Array, "k q"]:
        r"""New points of the first space in the second: the mean partner of each,
        $T(x) = \sum_j p_j(x) y_j$ with $p_j(x) \propto b_j e^{(g_j - c_M(x, y_j)) / \varepsilon}$;
        without entropy the atom of nu where $c_M(x, y_j) - g_j$ is least.

        Args:
          x: shape (k, p).
        """
        u, alpha = source_rows(self._extended, self.transform, self._centred("x", x, 0))
        pairs = BilinearPairs(rows=(u, alpha, None), cols=target_cols(self.task, self.task.y))
        return self._mean(pairs, 1, self.nu)

    def inverse_map(self, y: Any) -> Float[Array, "k p"]:
        """New points of the second space in the first: the mean partner of each.

        Args:
          y: shape (k, q).
        """
        v, beta = target_cols(self._extended, self._centred("y", y, 1))
        pairs = BilinearPairs(
            rows=(v, beta, None), cols=source_rows(self.task, self.transform, self.task.x)
        )
        return self._mean(pairs, 0, self.mu)

    def linear_map(self, x: Any) -> Float[Array, "k q"]:
        r"""The affine image $\bar y + M (x - \bar x)$ of new points, shape (k, q).

        With squared distances it predicts y; with inner products M is a cross-moment and gives
        directions, not lengths.

        Raises:
          ValueError: x of another shape; a coupling of matrices, whose transform is between axes.
        """
        self._refuse_matrices()
        return jnp.asarray(self.centres[1]) + self._centred("x", x, 0) @ self.transform.T

    def top(self, k: int) -> tuple[Int[Array, "n k"], Float[Array, "n k"]]:
        """The k likeliest partners of each atom of mu, and their shares of its mass."""
        if not 1 <= k <= self.nu.size:
            raise ValueError(f"`k` must be between 1 and {self.nu.size}; got {k}.")
        columns, shares = partners(self.coupling, int(k))
        return jnp.asarray(columns), jnp.asarray(shares, self.transform.dtype)

    def _mean(self, pairs: BilinearPairs, side: int, measure: Measure) -> Float[Array, "k d"]:
        potential, weights = self.potentials[side], self.task.shares[side]
        epsilon = jnp.asarray(self.epsilon, potential.dtype)
        values = jnp.where(measure.present[:, None], measure.points, 0).astype(potential.dtype)
        if not self.epsilon:
            return nearest_mean(pairs, potential, weights, values)
        return conditional_mean(pairs, potential, log_shares(weights), epsilon, values)

    @property
    def _extended(self) -> Task:
        self._refuse_matrices()
        if self.task.data.rows.shape[1] or self.task.data.table is not None:
            raise ValueError(
                "The cost of this match has a part `shared` that is known at its atoms only, so it "
                "maps no new points. `.coupling.barycentric(nu.points)` maps the atoms."
            )
        return self.task

    def _refuse_matrices(self) -> None:
        if isinstance(self.coupling, DenseCoupling):
            raise ValueError(
                "This coupling is a matrix between atoms, from a solver of dissimilarities, and "
                "maps no new points. `.coupling.barycentric(nu.points)` maps the atoms."
            )

    def _centred(self, name: str, points: Any, side: int) -> Float[Array, "k d"]:
        points, centre = np.asarray(points), self.centres[side]
        if points.ndim != 2 or points.shape[1] != len(centre):
            raise ValueError(f"`{name}` must have shape (k, {len(centre)}); got {points.shape}.")
        return jnp.asarray(points - centre, self.transform.dtype)

    def __repr__(self) -> str:
        state = "collapsed" if self.collapsed else f"correlation {self.correlation:.3f}"
        q, p = self.transform.shape
        optima = len(np.unique(self.starts.optimum))
        return (
            f"Match({q} x {p} transform, value {float(self.value):.5g}, {state}, "
            f"{optima} optima from {len(self.starts.objective)} starts)"
        )
