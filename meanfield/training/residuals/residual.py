r"""The residual of one particle, psi(theta, x), and its mean over the particles of a layer."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractResidual(eqx.Module):
    r"""A function $\psi(\theta, x)$ of a particle and a state, with values where the state moves.

    The state is a point of shape (d,) or, for attention, a `Measure` of tokens; the velocity then
    has the shape of its points. Arrays held by a residual itself are never trained.
    """

    @abc.abstractmethod
    def psi(self, theta: Float[Array, " p"], x: Any) -> Float[Array, "*n d"]:
        r"""The velocity $\psi(\theta, x)$ that one particle gives to a state."""

    @abc.abstractmethod
    def drift(
        self, particles: Float[Array, "M p"], masses: Float[Array, " M"], x: Any
    ) -> Float[Array, "*n d"]:
        r"""$\sum_j m_j \psi(\theta_j, x)$, as few large products rather than M small ones."""

    @abc.abstractmethod
    def outer_features(self, theta: Float[Array, " p"], x: Any) -> Float[Array, "*n q"]:
        r"""Numbers f with $D_\theta\psi(\theta, x)\, D_\theta\psi(\theta, x')^T \succeq
        \langle f(\theta, x), f(\theta, x') \rangle I_d$ as kernels: the part of theta in which
        psi is linear, $\psi = U f$, gives equality without the rest."""

    @abc.abstractmethod
    def size(self, dim: int) -> int:
        """The number p of parameters of a particle, where states have dimension `dim`."""

    @abc.abstractmethod
    def random(
        self, shape: tuple[int, ...], dim: int, *, key: PRNGKeyArray
    ) -> Float[Array, "... p"]:
        """Particles at the usual start, where the drift of a layer is zero."""


def absent_at_zero(
    particles: Float[Array, "M p"], masses: Float[Array, " M"]
) -> Float[Array, "M p"]:
    """The particles, with zeros where one has no mass, so that what is there cannot matter."""
    return jnp.where(masses[:, None] > 0, particles, 0)
