"""The plan of an exact solver: at most n + m - 1 entries and their potentials."""

import enum
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..measure import RESULTS


class Status(enum.IntEnum):
    """Endings of an exact solver as integers, for the host; members of `RESULTS` by name."""

    successful = 0
    unequal_masses = 1
    nonfinite_cost = 2
    pivots_exhausted = 3
    solver_failed = 4

    @staticmethod
    def result(status: Int[Array, ""]) -> RESULTS:
        """The status as a member of `RESULTS`."""
        result: Any = RESULTS.solver_failed
        for each in Status:
            result = RESULTS.where(status == each, getattr(RESULTS, each.name), result)
        return result


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

    def balanced(self, a: Float[Array, " n"], b: Float[Array, " m"]) -> "Plan":
        r"""Shift the potentials so that $\sum a_i f_i = \sum b_j g_j$, half the value each.

        This choice is symmetric in the two measures, and with it the derivative with respect to
        the weights is right in every direction that keeps the masses equal, scaling included.
        """
        mass = jnp.sum(a)
        excess = jnp.sum(b * self.g) - jnp.sum(a * self.f)
        shift = jnp.where(mass > 0, excess / jnp.where(mass > 0, 2 * mass, 1.0), 0.0)
        return self._replace(f=self.f + shift, g=self.g - shift)
