"""The transport between two measures: a coupling, its cost, its potentials, and who finds them."""

import abc
import enum
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .cost import AbstractCost


class RESULTS(eqx.Enumeration):
    """How a solver ended; the words say what to try next."""

    successful = ""
    unequal_masses = (
        "The two measures must have the same total mass. Divide each `weights` by its sum."
    )
    nonfinite_cost = (
        "The cost between two points is not finite. Look for NaN or inf in `points`, or scale "
        "them down."
    )
    max_steps_reached = (
        "The network simplex did not reach the optimum within `max_steps` pivots. Raise "
        "`max_steps` in `Exact(max_steps=...)`."
    )
    failed = (
        "The network simplex did not reach the optimum. Look for weights that span more than "
        "fifteen orders of magnitude."
    )


class Status(enum.IntEnum):
    """The members of `RESULTS` as integers, for the host."""

    successful = 0
    unequal_masses = 1
    nonfinite_cost = 2
    max_steps_reached = 3
    failed = 4


def same_mass(first, second, *weights):
    """Whether two masses agree up to the rounding of the weights they are sums of.

    The tolerance is relative, the square root of the coarsest machine epsilon.
    """
    tolerance = max(float(jnp.finfo(w.dtype).eps) for w in weights) ** 0.5
    return abs(first - second) <= tolerance * (first + second) / 2


class Plan(NamedTuple):
    r"""A coupling $\sum_k m_k \delta_{(x_{r_k}, y_{c_k})}$ in sparse form, with its potentials.

    A vertex of the coupling polytope has at most n + m - 1 entries, so K = n + m - 1 suffice.
    The potentials satisfy $f_i + g_j \le c(x_i, y_j)$, with equality where there is mass.
    """

    rows: Int[Array, " K"]
    cols: Int[Array, " K"]
    masses: Float[Array, " K"]
    f: Float[Array, " n"]
    g: Float[Array, " m"]
    status: Int[Array, ""]


class AbstractSolver(eqx.Module):
    """How a transport problem is solved: `Exact`, for now."""

    @abc.abstractmethod
    def plan(
        self,
        x: Float[Array, "n d"],
        a: Float[Array, " n"],
        y: Float[Array, "m d"],
        b: Float[Array, " m"],
        cost: AbstractCost,
    ) -> Plan:
        """A plan and potentials for the weights a at x and b at y, all held constant."""


class Transport(eqx.Module):
    r"""An optimal coupling $\pi$ of two measures.

    Attributes:
      value: the cost $\int c\, d\pi$. It differentiates with respect to points and weights of both
        measures; everything else here is held constant under differentiation.
      rows: shape (K,), the atom of mu of each entry of the coupling.
      cols: shape (K,), its atom of nu.
      masses: shape (K,), its mass; an entry of zero mass is padding.
      potentials: the dual potentials f of shape (n,) and g of shape (m,), shifted so that
        $\int f\, d\mu = \int g\, d\nu$.
      result: `RESULTS.successful`, or what went wrong.
    """

    value: Float[Array, "*batch"]
    rows: Int[Array, "*batch K"]
    cols: Int[Array, "*batch K"]
    masses: Float[Array, "*batch K"]
    potentials: tuple[Float[Array, "*batch n"], Float[Array, "*batch m"]]
    result: RESULTS

    @property
    def coupling(self) -> Float[Array, "n m"]:
        """The coupling as a matrix whose rows sum to mu's weights and columns to nu's."""
        f, g = self.potentials
        empty = jnp.zeros((f.shape[-1], g.shape[-1]), self.masses.dtype)
        return empty.at[self.rows, self.cols].add(self.masses)

    @property
    def gap(self) -> Float[Array, ""]:
        r"""The duality gap $\int c\, d\pi - \int f\, d\mu - \int g\, d\nu$.

        The value less the gap is a lower bound on the least cost, whoever found the coupling.
        """
        f, g = self.potentials
        return self.value - jnp.sum(self.masses * (f[self.rows] + g[self.cols]))


def balanced(plan: Plan, a: Float[Array, " n"], b: Float[Array, " m"]) -> Plan:
    r"""Shift the potentials so that $\sum a_i f_i = \sum b_j g_j$, half the value each.

    This choice is symmetric in the two measures, and with it the derivative with respect to the
    weights is right in every direction that keeps the masses equal, scaling both included.
    """
    mass = jnp.sum(a)
    excess = jnp.sum(b * plan.g) - jnp.sum(a * plan.f)
    shift = jnp.where(mass > 0, excess / jnp.where(mass > 0, 2 * mass, 1.0), 0.0)
    return plan._replace(f=plan.f + shift, g=plan.g - shift)
