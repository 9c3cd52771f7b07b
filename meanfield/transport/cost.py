"""Ground costs: what it takes to move a unit of mass from x to y."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractCost(eqx.Module):
    """A cost between two points. A subclass writes it for one pair; the rest is `jax.vmap`."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        """The cost of moving a unit of mass from x to y."""

    def pairs(self, x: Float[Array, "k d"], y: Float[Array, "k d"]) -> Float[Array, " k"]:
        """The costs $c(x_k, y_k)$."""
        return jax.vmap(self)(x, y)

    @eqx.filter_jit  # fused: without it, vmap would write out the (n, m, d) differences
    def matrix(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """The costs $c(x_i, y_j)$."""
        return jax.vmap(lambda point: jax.vmap(lambda other: self(point, other))(y))(x)


class PowerCost(AbstractCost):
    r"""The cost $c(x, y) = |x - y|^p$ of the distance $W_p$.

    Its gradient at x = y is zero (a subgradient when p = 1), never NaN. Distances come from
    differences, not from inner products, so that near points keep their digits.

    Args:
      p: the exponent, a number with 1 <= p < inf.

    Raises:
      ValueError: p is not such a number.
    """

    p: float = eqx.field(static=True)

    def __init__(self, p: float | int = 2.0):
        if math.isinf(p) and p > 0:
            raise ValueError(
                "`p` must be a finite number >= 1; got inf. The distance W_inf is not available "
                "yet; W_p with a large p, such as 32, is a lower bound on it."
            )
        if not p >= 1:
            raise ValueError(f"`p` must be a finite number >= 1; got {p}.")
        self.p = float(p)

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        squared = jnp.sum((x - y) ** 2)
        if self.p == 2:
            return squared
        apart = squared > 0
        return jnp.where(apart, jnp.where(apart, squared, 1.0) ** (self.p / 2), 0.0)
