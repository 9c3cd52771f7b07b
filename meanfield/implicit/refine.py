"""One step from an approximate root towards the root."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import PyTree


# F, from the unknown to what shall vanish
Function = Callable[[Any], Any]
# from (forward, right) to the u with forward(u) = right
Solve = Callable[[Function, Any], Any]


class AbstractRefinement(eqx.Module):
    """How an approximate root x of F is refined: $x - P^{-1} F(x)$ for some P."""

    @abc.abstractmethod
    def correction(
        self, function: Function, x: PyTree, residual: PyTree, solve: Solve | None = None
    ) -> PyTree:
        """The correction $P^{-1} r$, of the structure of x, for the residual r = F(x).

        Whoever knows the problem may offer a `solve(forward, right)` for its linear systems.
        """


class Newton(AbstractRefinement):
    r"""The Newton step, $P = F_x(x)$: the error of the derivative becomes quadratic.

    The linear system is solved without forming the matrix: by the function `solve(forward, right)`
    given here, else by the one that belongs to the problem, else by conjugate gradients on the
    normal equations, to the precision of the numbers.
    """

    solve: Solve | None = None

    def correction(
        self, function: Function, x: PyTree, residual: PyTree, solve: Solve | None = None
    ) -> PyTree:
        _, forward = jax.linearize(function, x)
        return solve_linear(forward, residual, self.solve or solve)


class Preconditioned(AbstractRefinement):
    """The step of a preconditioner, cheaper than Newton's: the error becomes a share of itself.

    Args:
      apply: from (x, r) to $P^{-1} r$, of the structure of x.
    """

    apply: Callable[[Any, Any], Any]

    def correction(
        self, function: Function, x: PyTree, residual: PyTree, solve: Solve | None = None
    ) -> PyTree:
        return self.apply(x, residual)


class Unrefined(AbstractRefinement):
    """No step: the implicit function theorem at the point that the solver left."""

    def correction(
        self, function: Function, x: PyTree, residual: PyTree, solve: Solve | None = None
    ) -> PyTree:
        return jax.tree.map(lambda leaf: 0 * leaf, x)


def solve_linear(forward: Function, right: PyTree, solve: Solve | None = None) -> PyTree:
    """The solution u of forward(u) = right for a linear function, matrix-free."""
    return (solve or _normal_equations)(forward, right)


def _normal_equations(forward: Function, right: PyTree) -> PyTree:
    """By conjugate gradients on $F^T F u = F^T r$, which break down for no invertible F."""
    leaves = jax.tree.leaves(right)
    size = sum(leaf.size for leaf in leaves)
    precision = float(jnp.finfo(jnp.result_type(*leaves)).eps)
    transpose = jax.linear_transpose(forward, right)

    def both(u):
        return transpose(forward(u))[0]

    most = min(4 * size + 20, 2000)
    return cg(both, transpose(right)[0], tol=precision, maxiter=most)[0]
