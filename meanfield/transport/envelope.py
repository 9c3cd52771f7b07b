"""The transport of an optimal plan, and the envelope theorem, which differentiates its value."""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from ..measure import Measure
from .cost import AbstractCost
from .coupling import SparseCoupling
from .plan import Plan, Status
from .transport import Transport, marginal_error


def transport_of(plan: Plan, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
    """The `Transport` of an optimal plan; its value has the derivative of the minimum."""
    a, b = jax.lax.stop_gradient((mu.weights, nu.weights))
    plan = plan.balanced(a, b)
    coupling = SparseCoupling(plan.rows, plan.cols, plan.masses, (mu.size, nu.size))
    solved = plan.status == Status.successful
    value = transport_cost(_costs(plan, mu, nu, cost), mu.weights, nu.weights, plan)
    value = jnp.where(solved, value, jnp.nan)
    dual = jnp.sum(plan.masses * (plan.f[plan.rows] + plan.g[plan.cols]))
    return Transport(
        value=value,
        coupling=coupling,
        potentials=(plan.f, plan.g),
        primal=jax.lax.stop_gradient(value),
        dual=jnp.where(solved, dual, jnp.nan),
        marginal_error=marginal_error(coupling, a, b),
        steps=jnp.zeros((), jnp.int32),
        result=Status.result(plan.status),
    )


def _costs(plan: Plan, mu: Measure, nu: Measure, cost: AbstractCost) -> Float[Array, " K"]:
    """The costs of the entries that have mass; absent atoms are put at the origin, harmless."""
    x, y = (jnp.where(m.present[:, None], m.points, 0.0) for m in (mu, nu))
    costs = cost.entries(x, y, plan.rows, plan.cols)
    return jnp.where(plan.masses > 0, costs, 0.0)


@jax.custom_jvp
def transport_cost(
    costs: Float[Array, " K"], a: Float[Array, " n"], b: Float[Array, " m"], plan: Plan
) -> Float[Array, ""]:
    r"""The value $\sum_k m_k c_k$ of an optimal plan, with the derivative of the minimum.

    By the envelope theorem $dV = \sum_k m_k\, dc_k + \sum_i f_i\, da_i + \sum_j g_j\, db_j$
    (proof: the theory page on transport). Second derivatives hold the plan fixed, which is right
    with respect to points wherever the plan is unique; those that would need the derivative of
    the plan or of the potentials raise.
    """
    return jnp.sum(plan.masses * costs)


@functools.partial(transport_cost.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    costs, a, b, plan = primals
    d_costs, d_a, d_b, _ = tangents
    tangent = jnp.zeros((), costs.dtype)
    if not isinstance(d_costs, SymbolicZero):
        tangent += jnp.sum(_constant_in(_constant_in(plan.masses, a), b) * d_costs)
    if not isinstance(d_a, SymbolicZero):
        tangent += jnp.sum(_constant_in(plan.f, costs) * d_a)
    if not isinstance(d_b, SymbolicZero):
        tangent += jnp.sum(_constant_in(plan.g, costs) * d_b)
    return transport_cost(costs, a, b, plan), tangent


@jax.custom_jvp
def _constant_in(x: Array, cause: Array) -> Array:
    """The array x, whose dependence on `cause` is not differentiable here."""
    return x


@functools.partial(_constant_in.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    x, _ = primals
    d_x, d_cause = tangents
    if not isinstance(d_cause, SymbolicZero):
        raise NotImplementedError(
            "Second derivatives of a transport value that mix points and weights are not "
            "available: the optimal plan is not a differentiable function of the weights, nor "
            "the potentials of the points. Differentiate twice in the points alone, or use an "
            "entropic solver."
        )
    return x, jnp.zeros_like(x) if isinstance(d_x, SymbolicZero) else d_x
