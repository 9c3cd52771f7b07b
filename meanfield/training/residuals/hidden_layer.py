r"""Particles that are neurons: psi((u, w, b), x) = u sigma(<w, x> + b) (barboni2024)."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .residual import AbstractResidual


class SingleHiddenLayer(AbstractResidual):
    r"""$\psi((u, w, b), x) = u\, \sigma(\langle w, x \rangle + b)$ with theta = (u, w, b) of size
    2 d + 1 {cite}`barboni2024`.

    Args:
      activation: sigma, applied to each number.
      outer, inner, bias: the standard deviations of u, w and b at the start. With outer = 0, the
        default, the network starts as the identity.
    """

    activation: Callable[[Array], Array] = eqx.field(default=jnp.tanh, static=True)
    outer: float = eqx.field(default=0.0, static=True)
    inner: float = eqx.field(default=2.0, static=True)
    bias: float = eqx.field(default=1.0, static=True)

    def psi(self, theta: Float[Array, " p"], x: Float[Array, " d"]) -> Float[Array, " d"]:
        u, w, b = neurons(theta)
        return u * self.activation(w @ x + b)

    def drift(
        self, particles: Float[Array, "M p"], masses: Float[Array, " M"], x: Float[Array, " d"]
    ) -> Float[Array, " d"]:
        u, w, b = neurons(particles)
        return self.activation(w @ x + b) @ (masses[:, None] * u)

    def outer_features(self, theta: Float[Array, " p"], x: Float[Array, " d"]) -> Float[Array, "1"]:
        _, w, b = neurons(theta)
        return self.activation(w @ x + b)[None]

    def size(self, dim: int) -> int:
        return 2 * dim + 1

    def random(
        self, shape: tuple[int, ...], dim: int, *, key: PRNGKeyArray
    ) -> Float[Array, "... p"]:
        scales = jnp.array([self.outer] * dim + [self.inner] * dim + [self.bias])
        return scales * jr.normal(key, (*shape, self.size(dim)))


def neurons(
    theta: Float[Array, "*M p"],
) -> tuple[Float[Array, "*M d"], Float[Array, "*M d"], Float[Array, "*M"]]:
    """The outer weights u, the inner weights w and the biases b of particles (u, w, b)."""
    dim = theta.shape[-1] // 2
    return theta[..., :dim], theta[..., dim:-1], theta[..., -1]
