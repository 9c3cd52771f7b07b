"""How parameters move on the gradient of a loss: what a conservation law is a law of."""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractDynamics(eqx.Module):
    """A vector field on states, made from the gradient of a loss at the parameters."""

    @property
    @abc.abstractmethod
    def rate(self) -> float:
        r"""The c of laws $e^{ct}\, h(state)$; 0 for laws that do not depend on time."""

    @abc.abstractmethod
    def draw(self, size: int, key: PRNGKeyArray) -> Float[Array, " n"]:
        """A random state for `size` parameters; the parameters come first in it."""

    @abc.abstractmethod
    def velocity(
        self, state: Float[Array, " n"], gradient: Float[Array, " size"]
    ) -> Float[Array, " n"]:
        """The velocity of the state, given the gradient of the loss at its parameters."""


class GradientDynamics(AbstractDynamics):
    r"""$\dot\theta = -\nabla E(\theta)$; the state is theta."""

    @property
    def rate(self) -> float:
        return 0.0

    def draw(self, size: int, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.normal(key, (size,))

    def velocity(
        self, state: Float[Array, " n"], gradient: Float[Array, " size"]
    ) -> Float[Array, " n"]:
        return -gradient


class MomentumDynamics(AbstractDynamics):
    r"""$\ddot\theta = -\tau \dot\theta - \nabla E(\theta)$ (heavy ball); the state is theta and
    its velocity, and laws are looked for in the form $e^{\tau t} h(\theta, \dot\theta)$.

    Args:
      damping: tau.
    """

    damping: float = 1.0

    @property
    def rate(self) -> float:
        return self.damping

    def draw(self, size: int, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.normal(key, (2 * size,))

    def velocity(
        self, state: Float[Array, " n"], gradient: Float[Array, " size"]
    ) -> Float[Array, " n"]:
        moving = state[gradient.size :]
        return jnp.concatenate([moving, -self.damping * moving - gradient])


class MirrorDynamics(AbstractDynamics):
    r"""$\dot\theta = -\theta \odot \nabla E(\theta)$, mirror descent with the entropy, as for
    nonnegative matrices; the state is a positive theta."""

    @property
    def rate(self) -> float:
        return 0.0

    def draw(self, size: int, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jnp.exp(jr.normal(key, (size,)) / 2)

    def velocity(
        self, state: Float[Array, " n"], gradient: Float[Array, " size"]
    ) -> Float[Array, " n"]:
        return -state * gradient
