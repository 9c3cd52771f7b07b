"""The transport between two measures: what a solver returns, and what a solver is."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..measure import RESULTS, Measure
from ..measure.wording import ending, figure
from .cost import AbstractCost
from .coupling import AbstractCoupling


class Transport(eqx.Module):
    r"""A solution of a transport problem.

    Attributes:
      value: the optimum of the problem that the solver states: $\int c\, d\pi$ for an exact
        solver, with the entropy for `Sinkhorn`, with the penalties for `Unbalanced`, the largest
        cost for `Bottleneck`. It differentiates with respect to the points and weights of both
        measures, and to the cost; everything else here is held constant under differentiation
        unless the solver says otherwise.
      coupling: the coupling found; `.matrix`, `.apply`, `.marginals`, `.barycentric`, `.support`.
      potentials: the dual potentials f of shape (n,) and g of shape (m,).
      primal: the objective at the coupling.
      dual: the dual objective at the potentials, a lower bound on the optimum.
      marginal_error: how far the marginals of the coupling are from the weights, the sum of
        absolute differences as a share of the mass (of the larger side).
      steps: the iterations taken; zero where a solver does not count them.
      result: `RESULTS.successful`, or what went wrong and what to try next.
    """

    value: Float[Array, "*batch"]
    coupling: AbstractCoupling
    potentials: tuple[Float[Array, "*batch n"], Float[Array, "*batch m"]]
    primal: Float[Array, "*batch"]
    dual: Float[Array, "*batch"]
    marginal_error: Float[Array, "*batch"]
    steps: Int[Array, "*batch"]
    result: RESULTS

    @property
    def gap(self) -> Float[Array, "*batch"]:
        """The duality gap, `primal - dual`: how far from optimal the coupling can be."""
        return self.primal - self.dual

    def __repr__(self) -> str:
        return (
            f"Transport(value {figure(self.value)}, gap {figure(self.gap, 2)}, marginal error "
            f"{figure(self.marginal_error, 2)}, {figure(self.steps)} steps: {ending(self.result)})"
        )


class AbstractSolver(eqx.Module):
    """How a transport problem is solved. The settings are its fields."""

    @property
    @abc.abstractmethod
    def balanced(self) -> bool:
        """Whether the two measures must have the same mass."""

    @property
    @abc.abstractmethod
    def scale_free(self) -> bool:
        """Whether costs multiplied by a number give a value multiplied by it, and no other plan."""

    @abc.abstractmethod
    def solve(self, mu: Measure, nu: Measure, cost: AbstractCost) -> Transport:
        """The transport of mu to nu; failures are in `.result`, not raised."""


def held_constant(tree: Any) -> Any:
    """The same tree, its arrays constant under differentiation; it may hold functions too."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def marginal_error(
    coupling: AbstractCoupling, a: Float[Array, " n"], b: Float[Array, " m"]
) -> Float[Array, ""]:
    """The sum of absolute errors of a marginal over the mass, for the worse of the two."""
    sent, received = coupling.marginals
    errors = jnp.maximum(jnp.sum(jnp.abs(sent - a)), jnp.sum(jnp.abs(received - b)))
    mass = jnp.maximum(jnp.sum(a), jnp.sum(b))
    return jax.lax.stop_gradient(jnp.where(mass > 0, errors / jnp.where(mass > 0, mass, 1.0), 0.0))
