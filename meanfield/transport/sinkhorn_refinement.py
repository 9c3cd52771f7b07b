r"""One step from the potentials that Sinkhorn's iterations left towards the optimal ones.

With f the soft minima of g, the equations left are that the masses that arrive are the weights,
$r_j(g) = b_j$. In the unknowns $z_j = \sqrt{b_j}\, g_j / \varepsilon$ they read
$(r_j - b_j) / \sqrt{b_j} = 0$, with the derivative $I - D_b^{-1/2} P^\top D_a^{-1} P D_b^{-1/2}$ at
a solution: symmetric, with eigenvalues between zero and one (theory page on implicit derivatives).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..implicit import AbstractRefinement, Unrefined
from .entropic_problem import EntropicProblem, log_shares
from .sinkhorn_iterations import Iterate
from .softmin import sweep


# A Newton step that needs more products than this is left as it is, to be judged by its error.
_PRODUCTS = 200


def refined(problem: EntropicProblem, last: Iterate, refinement: AbstractRefinement) -> Iterate:
    """The last iterate after one refinement, if that lowered its marginal error."""
    if isinstance(refinement, Unrefined):
        return last
    root = jnp.sqrt(jnp.where(problem.b > 0, problem.b, 1.0))
    scale = problem.epsilon / root

    def arriving(g: Float[Array, " m"]):
        return sweep(problem.pairs, g, log_shares(problem.b), problem.a, problem.epsilon)

    def equations(z: Float[Array, " m"]) -> Float[Array, " m"]:
        free = root * (problem.b > 0)  # potentials matter up to a constant: it stays what it is
        return (arriving(scale * z)[1] - problem.b) / root + free * (free @ (z - start))

    start = last.g / scale
    residual = (last.received - problem.b) / root
    correction = refinement.correction(equations, start, residual, _conjugate_gradients)
    g = last.g - scale * correction
    f, received = arriving(g)
    error = jnp.sum(jnp.abs(received - problem.b))
    after = last._replace(f=f, g=g, received=received, error=error)
    better = error < last.error  # false where anything is not finite
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), after, last)


def _conjugate_gradients(forward, right: Float[Array, " m"]) -> Float[Array, " m"]:
    """The step as far as it pays: its own error is quadratic, so relative to a residual of the size
    delta more than delta, or less than the precision over delta, is lost on it."""
    size = jnp.linalg.norm(right)
    precision = jnp.finfo(right.dtype).eps
    tolerance: Any = jnp.clip(size, precision / jnp.where(size > 0, size, 1.0), 0.1)
    return jax.scipy.sparse.linalg.cg(forward, right, tol=tolerance, maxiter=_PRODUCTS)[0]
