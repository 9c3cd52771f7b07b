"""The dual of entropic unbalanced transport, and the derivative of its largest value."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .entropic_problem import EntropicProblem
from .translation import Potentials, Sides


def dual_value(problem: EntropicProblem, sides: Sides, potentials: Potentials) -> Float[Array, ""]:
    r"""$-\sum_i a_i \phi_1^*(-f_i) - \sum_j b_j \phi_2^*(-g_j) - \varepsilon \sum_{ij} a_i b_j
    (e^{(f_i + g_j - C_{ij}) / \varepsilon} - 1)$, with $\phi = \rho \varphi$."""
    f, g = (
        _countable(weights, side, potential, problem.epsilon)
        for weights, side, potential in zip((problem.a, problem.b), sides, potentials, strict=True)
    )
    moved = problem.a @ problem.spread(f, g, jnp.ones_like(g))
    entropy = problem.epsilon * (moved - jnp.sum(problem.a) * jnp.sum(problem.b))
    return _paid(problem.a, sides[0], f) + _paid(problem.b, sides[1], g) - entropy


def _paid(weights: Float[Array, " n"], side, potential: Float[Array, " n"]) -> Float[Array, ""]:
    counted = _counted(weights, side, potential)
    paid = side.conjugate(-jnp.where(counted, potential, 0.0))
    return -jnp.sum(weights * jnp.where(counted, paid, 0.0))


def _counted(weights: Float[Array, " n"], side, potential: Float[Array, " n"]) -> Bool[Array, " n"]:
    """All atoms but the absent ones whose mass, if they had any, would multiply out of range."""
    return (weights > 0) | (jnp.isfinite(potential) & jnp.isfinite(side.conjugate(-potential)))


def _countable(weights, side, potential, epsilon) -> Float[Array, " n"]:
    """The potentials, with one at which nothing moves where an atom is not counted."""
    return jnp.where(_counted(weights, side, potential), potential, -1e6 * epsilon)


def primal_value(
    problem: EntropicProblem, sides: Sides, potentials: Potentials
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""The objective at the coupling of two potentials, and how much mass is out of bounds.

    $\langle P, C \rangle + \varepsilon \mathrm{KL}(P | a b^\top) = \langle P_1, f \rangle +
    \langle P_2, g \rangle - \varepsilon (|P| - m_a m_b)$ for the marginals $P_1, P_2$ of this P,
    so that nothing of size n m is needed.
    """
    (f, g), a, b = potentials, problem.a, problem.b
    sent = problem.spread(f, g, jnp.ones_like(g))
    received = problem.transpose.spread(g, f, jnp.ones_like(f))
    moved = _seen(a, sent)
    entropy = problem.epsilon * (moved - jnp.sum(a) * jnp.sum(b))
    carried = _seen(a, sent * f) + _seen(b, received * g) - entropy
    penalties = _seen(a, sides[0].penalty(sent)) + _seen(b, sides[1].penalty(received))
    outside = [
        _seen(w, jnp.maximum(jnp.maximum(side.bounds[0] - r, r - side.bounds[1]), 0.0))
        for w, side, r in ((a, sides[0], sent), (b, sides[1], received))
    ]
    return carried + penalties, jnp.maximum(*outside)


def _seen(weights: Float[Array, " n"], values: Float[Array, " n"]) -> Float[Array, ""]:
    """The weighted sum over the atoms that have mass."""
    return jnp.sum(weights * jnp.where(weights > 0, values, 0.0))


@eqx.filter_custom_jvp
def unbalanced_value(problem: EntropicProblem, sides: Sides, found: Potentials) -> Float[Array, ""]:
    """The dual at the best potentials, with the derivative of the optimum.

    By the envelope theorem that is the derivative at potentials held constant. Second derivatives,
    in which they would move, raise.
    """
    return dual_value(problem, sides, found)


@unbalanced_value.def_jvp
def _(primals, tangents):
    problem, sides, found = primals
    moved, moved_sides, _ = tangents
    fixed = _fixed_in((problem, sides), found)
    value, slope = eqx.filter_jvp(
        lambda at, between: dual_value(at, between, fixed), (problem, sides), (moved, moved_sides)
    )
    return value, slope


@eqx.filter_custom_jvp
def _fixed_in(causes, found: Potentials) -> Potentials:
    """The potentials, whose dependence on `causes` is not differentiated here."""
    return found


@_fixed_in.def_jvp
def _(primals, tangents):
    raise NotImplementedError(
        "Second derivatives of an unbalanced transport value are not available: the potentials "
        "are held constant. Use Sinkhorn() between measures of equal mass, or difference the "
        "first derivatives."
    )
