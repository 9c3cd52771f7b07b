r"""The entropic problem: costs of pairs, shares of mass and a temperature."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .pairs import AbstractPairs, SquaredPairs, stream
from .softmin import gibbs


class EntropicProblem(eqx.Module):
    r"""Minimise $\langle P, C \rangle + \varepsilon \mathrm{KL}(P \,|\, a b^T)$ over couplings.

    Attributes:
      pairs: the costs.
      a, b: the weights as shares, each summing to one.
      epsilon: the temperature, in units of the cost.
    """

    pairs: AbstractPairs
    a: Float[Array, " n"]
    b: Float[Array, " m"]
    epsilon: Float[Array, ""]

    @property
    def transpose(self) -> "EntropicProblem":
        return EntropicProblem(self.pairs.transpose, self.b, self.a, self.epsilon)

    def spread(
        self, f: Float[Array, " n"], g: Float[Array, " m"], values: Float[Array, "m ..."]
    ) -> Float[Array, "n ..."]:
        r"""The sums $\sum_j b_j e^{(f_i + g_j - C_{ij}) / \varepsilon} v_j$.

        Weights stand in the exponent, so that nothing overflows, and again as a ratio equal to
        one (or to zero, for absent atoms), so that the derivative at zero mass is finite.
        """
        anchor = _anchor(self.b)
        ratio = (self.b / anchor).reshape(-1, *[1] * (values.ndim - 1))
        height = g + self.epsilon * jnp.log(anchor)
        return gibbs(self.pairs, (f, height), self.epsilon, ratio * values)

    def plan(self, f: Float[Array, " n"], g: Float[Array, " m"]) -> Float[Array, "n m"]:
        r"""The matrix $a_i b_j e^{(f_i + g_j - C_{ij}) / \varepsilon}$, written out."""
        costs = self.pairs.costs
        reach = (f[:, None] + g - costs) / self.epsilon + jnp.log(_anchor(self.b))
        seen = (self.a > 0)[:, None] & (self.b > 0)
        powers = jnp.where(seen, jnp.exp(jnp.where(seen, reach, 0.0)), 0.0)
        return self.a[:, None] * (self.b / _anchor(self.b)) * powers


def shares(weights: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """The weights over their sum, and the sum; without mass, zeros."""
    mass = jnp.sum(weights)
    return weights / jnp.where(mass > 0, mass, 1.0), mass


def log_shares(a: Float[Array, " n"]) -> Float[Array, " n"]:
    """The logarithms of the shares, -inf for absent atoms."""
    return jnp.where(a > 0, jnp.log(jnp.where(a > 0, a, 1.0)), -jnp.inf)


def cost_scales(
    pairs: AbstractPairs, a: Float[Array, " n"], b: Float[Array, " m"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""The mean cost $\sum_{ij} a_i b_j |C_{ij}|$, and a bound on the largest between atoms.

    For squared distances the second is $(\max |x_i| + \max |y_j|)^2$, the size of the numbers that
    cancel in their computation. Neither changes when atoms are added without mass, or split.
    """
    if isinstance(pairs, SquaredPairs):
        return _squared_scales(pairs, a, b)

    def of_rows(block, b, seen):
        sizes = jnp.abs(block.costs)
        counted = jnp.where((seen[:, None] > 0) & (b > 0), sizes, 0.0)
        return jnp.stack([sizes @ b, jnp.max(counted, axis=1, initial=0.0)], axis=1), None

    means, largest = stream(pairs, (a,), b, of_rows)[0].T
    return a @ means, jnp.max(largest, initial=0.0)


def _squared_scales(pairs: SquaredPairs, a, b) -> tuple[Float[Array, ""], Float[Array, ""]]:
    x_squared, y_squared = jnp.sum(pairs.rows**2, axis=1), jnp.sum(pairs.cols**2, axis=1)
    mean = a @ x_squared + b @ y_squared - 2 * (a @ pairs.rows) @ (b @ pairs.cols)
    largest = _radius(x_squared, a) + _radius(y_squared, b)
    return jnp.maximum(mean, 0.0), largest**2


def _radius(squared: Float[Array, " n"], a: Float[Array, " n"]) -> Float[Array, ""]:
    """The largest norm of an atom that has mass, held constant."""
    return jnp.sqrt(jnp.max(jax.lax.stop_gradient(squared), where=a > 0, initial=0.0))


def _anchor(a: Float[Array, " n"]) -> Float[Array, " n"]:
    """The shares as constants, one for absent atoms."""
    return jax.lax.stop_gradient(jnp.where(a > 0, a, 1.0))
