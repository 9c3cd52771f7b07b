"""Ground costs: what it takes to move a unit of mass from x to y."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class AbstractCost(eqx.Module):
    """The costs between the atoms of two measures: all of them, or some."""

    @abc.abstractmethod
    def matrix(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """The costs $c(x_i, y_j)$."""

    @abc.abstractmethod
    def entries(
        self,
        x: Float[Array, "n d"],
        y: Float[Array, "m d"],
        rows: Int[Array, " k"],
        cols: Int[Array, " k"],
    ) -> Float[Array, " k"]:
        """The costs $c(x_{r_k}, y_{c_k})$; nothing of size n m is formed."""


class AbstractPointCost(AbstractCost):
    """A cost of two points. A subclass writes it for one pair; the rest is `jax.vmap`."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        """The cost of moving a unit of mass from x to y."""

    def pairs(self, x: Float[Array, "k d"], y: Float[Array, "k d"]) -> Float[Array, " k"]:
        """The costs $c(x_k, y_k)$."""
        return jax.vmap(self)(x, y)

    def entries(
        self,
        x: Float[Array, "n d"],
        y: Float[Array, "m d"],
        rows: Int[Array, " k"],
        cols: Int[Array, " k"],
    ) -> Float[Array, " k"]:
        return self.pairs(x[rows], y[cols])

    @eqx.filter_jit  # fused: without it, vmap would write out the (n, m, d) differences
    def matrix(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return jax.vmap(lambda point: jax.vmap(lambda other: self(point, other))(y))(x)


class PowerCost(AbstractPointCost):
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
        if not 1 <= p < math.inf:
            raise ValueError(
                f"`p` must be a number with 1 <= p < inf; got {p}. For the largest distance moved "
                "use `wasserstein(mu, nu, p=jnp.inf)` or `solver=Bottleneck()`."
            )
        self.p = float(p)

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        squared = jnp.sum((x - y) ** 2)
        if self.p == 2:
            return squared
        apart = squared != 0  # NaN too, which must not pass for a distance of zero
        return jnp.where(apart, jnp.where(apart, squared, 1.0) ** (self.p / 2), 0.0)


class SteepCost(AbstractPointCost):
    r"""The cost $\min\{(|x - y| / u)^p, C\}$ for a large p: in the unit $u = W_\infty$ nothing
    that an optimal plan pays leaves the range of the numbers.

    The plan of $W_\infty$ pays at most the mass M for it, and every plan that moves a mass m as far
    as $u$ pays m. A pair that costs $C$, the root of the largest number, is given at most $M / C$.

    Args:
      p: the exponent.
      unit: u > 0.
    """

    p: float = eqx.field(static=True)
    unit: Float[Array, ""]

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        squared = jnp.sum(((x - y) / self.unit) ** 2)
        apart = squared != 0
        largest = jnp.finfo(squared.dtype).max ** (1 / self.p)  # of the squared lengths
        power = jnp.where(apart, jnp.minimum(squared, largest), 1.0) ** (self.p / 2)
        return jnp.where(apart, power, 0.0)


class FunctionCost(AbstractPointCost):
    """The cost that a function of two points returns.

    Args:
      function: from two points of shape (d,) to a number; traced by JAX.
    """

    function: Callable[[Array, Array], Any]

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.asarray(self.function(x, y))


class MatrixCost(AbstractCost):
    """The costs of a table, whatever the points: $c(x_i, y_j) = C_{ij}$.

    Args:
      values: shape (n, m), a row for each atom of mu and a column for each of nu, absent or not.
    """

    values: Float[Array, "n m"]

    def matrix(self, x: Float[Array, "n d"], y: Float[Array, "m e"]) -> Float[Array, "n m"]:
        return self._fitting(x, y)

    def entries(
        self,
        x: Float[Array, "n d"],
        y: Float[Array, "m e"],
        rows: Int[Array, " k"],
        cols: Int[Array, " k"],
    ) -> Float[Array, " k"]:
        return self._fitting(x, y)[rows, cols]

    def _fitting(self, x: Array, y: Array) -> Array:
        if self.values.shape != (len(x), len(y)):
            raise ValueError(
                f"`cost` must be a matrix of shape {(len(x), len(y))}, the sizes of `mu` and `nu`; "
                f"got {self.values.shape}."
            )
        return self.values


def as_cost(cost: Any) -> AbstractCost:
    """A cost as users give it (an `AbstractCost`, a function of two points, a matrix) as one."""
    if isinstance(cost, AbstractCost):
        return cost
    if callable(cost):
        return FunctionCost(cost)
    if jnp.ndim(cost) != 2:
        raise ValueError(
            "`cost` must be PowerCost(p), a function of two points, or a matrix of shape (n, m); "
            f"got {cost!r:.80}."
        )
    values = jnp.asarray(cost)
    return MatrixCost(
        values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(float)
    )
