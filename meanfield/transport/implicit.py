r"""Derivatives of entropic transport: the value by its envelope, the potentials implicitly."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .entropic_problem import EntropicProblem


Potentials = tuple[Float[Array, " n"], Float[Array, " m"]]


@eqx.filter_custom_jvp
def entropic_value(problem: EntropicProblem, found: Potentials) -> Float[Array, ""]:
    r"""The value $\sum_i a_i f_i + \sum_j b_j g_j$, with the derivative of the optimum.

    $dV = \sum_{ij} P_{ij} dC_{ij} + \sum_i f_i da_i + \sum_j g_j db_j + \mathrm{KL}\,
    d\varepsilon$ (theory page on entropic transport). Its own derivative is right too: in it, the
    coupling and the potentials move as `potentials_of` says.

    Args:
      problem: what to differentiate with respect to.
      found: the potentials found for it, held constant.
    """
    f, g = found
    return problem.a @ f + problem.b @ g


@entropic_value.def_jvp
def _(primals, tangents):
    problem, found = primals
    moved, _ = tangents
    f, g = potentials_of(problem, found)

    def lagrangian(at: EntropicProblem):
        here = EntropicProblem(at.pairs, problem.a, problem.b, at.epsilon)
        excess = problem.a @ here.spread(f, g, jnp.ones_like(g)) - 1
        return at.a @ f + at.b @ g - at.epsilon * excess

    return entropic_value(problem, found), _along(lagrangian, problem, moved)


@eqx.filter_custom_jvp
def potentials_of(problem: EntropicProblem, found: Potentials) -> Potentials:
    r"""The potentials found, with the derivative of the optimal ones.

    They solve $\sum_j b_j e_{ij} = 1$ and $\sum_i a_i e_{ij} = 1$ with $e_{ij} = e^{(f_i + g_j -
    C_{ij}) / \varepsilon}$, centred so that $\sum a_i f_i = \sum b_j g_j$. The linearised equations
    are solved by conjugate gradients; where these fail the derivative is NaN.
    """
    return found


@potentials_of.def_jvp
def _(primals, tangents):
    problem, found = primals
    moved, _ = tangents
    f, g = potentials_of(problem, found)
    ones = jnp.ones_like(f), jnp.ones_like(g)

    def ratios(at: EntropicProblem):
        return at.spread(f, g, ones[1]), at.transpose.spread(g, f, ones[0])

    r, s = (-problem.epsilon * rate for rate in _along(ratios, problem, moved))
    df, dg = _linearised(problem, f, g, r, s)
    excess = _along(lambda at: at.b @ g - at.a @ f, problem, moved)
    shift = (excess + problem.b @ dg - problem.a @ df) / 2
    return (f, g), (df + shift, dg - shift)


def _along(function, problem: EntropicProblem, moved: EntropicProblem):
    """The derivative of a function of the problem along a direction, zero where nothing moves."""
    values, rates = eqx.filter_jvp(function, (problem,), (moved,))
    return jax.tree.map(
        lambda rate, value: jnp.zeros_like(value) if rate is None else rate,
        rates,
        values,
        is_leaf=lambda rate: rate is None,
    )


def _linearised(problem: EntropicProblem, f: Array, g: Array, r: Array, s: Array) -> Potentials:
    r"""The solution of $df + K_b\, dg = r$ and $dg + K_a^T df = s$.

    Here $(K_b v)_i = \sum_j b_j e_{ij} v_j$ and $(K_a^T u)_j = \sum_i a_i e_{ij} u_i$. Without dg
    it is $(I - K_b K_a^T) df = r - K_b s$, symmetric and positive in the inner product weighted by
    a, on functions of mean zero; the term $\langle a, df \rangle$ fills the constants in.
    """
    present = problem.a > 0

    def to_rows(v):
        return problem.spread(f, g, v)

    def to_cols(u):
        return problem.transpose.spread(g, f, u)

    def operator(u):
        weighted = problem.a * (u - to_rows(to_cols(u)) + problem.a @ u)
        return jnp.where(present, weighted, u)

    right = problem.a * (r - to_rows(s))
    df = jax.lax.custom_linear_solve(
        operator, right, lambda op, rhs: _conjugate_gradients(op, rhs, problem.a), symmetric=True
    )
    dg = s - to_cols(df)
    return r - to_rows(dg), dg


def _conjugate_gradients(operator, right: Float[Array, " n"], a: Float[Array, " n"]) -> Array:
    """The solution, or NaN where a thousand steps leave more than half the digits wrong."""
    scale = jax.lax.stop_gradient(jnp.where(a > 0, a, 1.0))
    precision = float(jnp.finfo(right.dtype).eps)
    solution, _ = jax.scipy.sparse.linalg.cg(
        operator, right, tol=precision**0.8, maxiter=1000, M=lambda residual: residual / scale
    )

    def size(vector):
        return jnp.sum(vector**2 / scale)

    left = size(operator(solution) - right)
    return jnp.where(left <= precision * size(right), solution, jnp.nan)
