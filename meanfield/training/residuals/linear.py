r"""Particles that are matrices: residuals linear in the parameters (barboni2022), or in all."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .residual import AbstractResidual


class LinearInFeatures(AbstractResidual):
    r"""$\psi(W, x) = W \phi(x)$ with fixed features phi, theta = W of shape (d, F), row by row
    {cite}`barboni2022`.

    Args:
      features: phi, from (d,) to (F,): `RandomFeatures.random(...)`, or any function. Its arrays
        are not trained.
      outer: the standard deviation of W at the start; 0 makes the network start as the identity.
    """

    features: Callable[[Float[Array, " d"]], Float[Array, " F"]]
    outer: float = eqx.field(default=0.0, static=True)

    def psi(self, theta: Float[Array, " p"], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return theta.reshape(x.size, -1) @ self.features(x)

    def drift(
        self, particles: Float[Array, "M p"], masses: Float[Array, " M"], x: Float[Array, " d"]
    ) -> Float[Array, " d"]:
        return self.psi(masses @ particles, x)  # the mean matrix is all that counts

    def outer_features(
        self, theta: Float[Array, " p"], x: Float[Array, " d"]
    ) -> Float[Array, " F"]:
        return self.features(x)

    def size(self, dim: int) -> int:
        return dim * jax.eval_shape(self.features, jnp.zeros(dim)).size

    def random(
        self, shape: tuple[int, ...], dim: int, *, key: PRNGKeyArray
    ) -> Float[Array, "... p"]:
        return self.outer * jr.normal(key, (*shape, self.size(dim)))


class RandomFeatures(eqx.Module):
    r"""$\phi(x) = \sigma(W x + b) / \sqrt F$, a hidden layer frozen where it was drawn.

    With a measure of neurons frozen in (w, b), the gradient flow of the outer weights u alone is
    that of `LinearInFeatures` on these features.

    Args:
      weight, bias: shapes (F, d) and (F,).
      activation: sigma.
    """

    weight: Float[Array, "F d"]
    bias: Float[Array, " F"]
    activation: Callable[[Array], Array] = eqx.field(default=jnp.tanh, static=True)

    @classmethod
    def random(
        cls,
        dim: int,
        count: int,
        *,
        key: PRNGKeyArray,
        activation: Callable[[Array], Array] = jnp.tanh,
        inner: float = 2.0,
        bias: float = 1.0,
    ) -> "RandomFeatures":
        """F = `count` Gaussian features, of the deviations that `SingleHiddenLayer` starts with."""
        weight_key, bias_key = jr.split(key)
        weight = inner * jr.normal(weight_key, (count, dim))
        return cls(weight, bias * jr.normal(bias_key, (count,)), activation)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " F"]:
        return self.activation(self.weight @ x + self.bias) / jnp.sqrt(self.bias.size)


class DeepLinear(AbstractResidual):
    r"""$\psi(W, x) = W x$ with theta = W of shape (d, d), row by row: a deep linear network with
    skips, $x_{k+1} = (I + h_k \bar W_k) x_k$.

    Args:
      outer: the standard deviation of the entries of W at the start.
    """

    outer: float = eqx.field(default=0.0, static=True)

    def psi(self, theta: Float[Array, " p"], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return theta.reshape(x.size, x.size) @ x

    def drift(
        self, particles: Float[Array, "M p"], masses: Float[Array, " M"], x: Float[Array, " d"]
    ) -> Float[Array, " d"]:
        return self.psi(masses @ particles, x)

    def outer_features(
        self, theta: Float[Array, " p"], x: Float[Array, " d"]
    ) -> Float[Array, " d"]:
        return x

    def size(self, dim: int) -> int:
        return dim * dim

    def random(
        self, shape: tuple[int, ...], dim: int, *, key: PRNGKeyArray
    ) -> Float[Array, "... p"]:
        return self.outer * jr.normal(key, (*shape, self.size(dim)))
