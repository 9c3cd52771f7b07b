"""Domains that hold measures: the ball, the sphere, and what a LayerNorm can put out."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float


class AbstractDomain(eqx.Module):
    """A set of points. Bounds hold on the measures it carries."""

    @property
    @abc.abstractmethod
    def radius(self) -> Float[Array, ""]:
        """A radius R with |x| <= R for every x in the domain."""

    @abc.abstractmethod
    def contains(self, x: Float[Array, "*n d"], tol: float = 1e-6) -> Bool[Array, "*n"]:
        """Whether each point lies in the domain, up to a relative tolerance."""

    @abc.abstractmethod
    def project(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """A point of the domain for each x; x itself where x is in the domain."""


class Ball(AbstractDomain):
    """The Euclidean ball of a radius around the origin."""

    _radius: Float[Array, ""]

    def __init__(self, radius):
        self._radius = _positive(radius)

    @property
    def radius(self) -> Float[Array, ""]:
        return self._radius

    def contains(self, x: Float[Array, "*n d"], tol: float = 1e-6) -> Bool[Array, "*n"]:
        return jnp.linalg.norm(x, axis=-1) <= self.radius * (1 + tol)

    def project(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
        outside = norm > self.radius
        return jnp.where(outside, x * (self.radius / jnp.where(outside, norm, 1)), x)

    def __repr__(self) -> str:
        return f"Ball(radius={self.radius})"


class Sphere(AbstractDomain):
    """The Euclidean sphere of a radius around the origin."""

    _radius: Float[Array, ""]

    def __init__(self, radius=1.0):
        self._radius = _positive(radius)

    @property
    def radius(self) -> Float[Array, ""]:
        return self._radius

    def contains(self, x: Float[Array, "*n d"], tol: float = 1e-6) -> Bool[Array, "*n"]:
        return jnp.abs(jnp.linalg.norm(x, axis=-1) - self.radius) <= self.radius * tol

    def project(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """The nearest point of the sphere; of the origin, to which all are near, the first pole."""
        largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
        pole = jnp.zeros(x.shape[-1], x.dtype).at[0].set(1)
        within = jnp.where(largest > 0, x / jnp.where(largest > 0, largest, 1), pole)
        return within * (self.radius / jnp.linalg.norm(within, axis=-1, keepdims=True))

    def __repr__(self) -> str:
        return f"Sphere(radius={self.radius})"


class LayerNormRange(AbstractDomain):
    r"""What a LayerNorm can put out: $\{\gamma \odot z + \beta : |z| \le \sqrt d,\ 1^T z = 0\}$.

    With `centred=False`, what an RMSNorm can put out: the same without $1^T z = 0$.

    Args:
      gamma, beta: shape (d,), the scale and the shift of the norm.
      centred: whether the norm subtracts the mean.
    """

    gamma: Float[Array, " d"]
    beta: Float[Array, " d"]
    centred: bool = eqx.field(default=True, static=True)

    @property
    def radius(self) -> Float[Array, ""]:
        r"""The bound $\sqrt d\, \max_k |\gamma_k| + |\beta|$ on the norm of a point."""
        d = self.gamma.shape[0]
        return d**0.5 * jnp.max(jnp.abs(self.gamma)) + jnp.linalg.norm(self.beta)

    def contains(self, x: Float[Array, "*n d"], tol: float = 1e-6) -> Bool[Array, "*n"]:
        z = self._normalised(x)
        d = x.shape[-1]
        inside = jnp.linalg.norm(z, axis=-1) <= d**0.5 * (1 + tol)
        flat = jnp.where(self.gamma == 0, jnp.abs(x - self.beta), 0).max(-1) <= tol
        if self.centred:
            inside &= jnp.abs(jnp.sum(z, axis=-1)) <= d * tol
        return inside & flat

    def project(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """A point of the range near x: z centred and shrunk (not the Euclidean projection)."""
        z = self._normalised(x)
        if self.centred:
            z = z - jnp.mean(z, axis=-1, keepdims=True)
        longest = x.shape[-1] ** 0.5
        norm = jnp.linalg.norm(z, axis=-1, keepdims=True)
        z = jnp.where(norm > longest, z * (longest / jnp.maximum(norm, 1e-30)), z)
        return self.gamma * z + self.beta

    def _normalised(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """The shortest z behind x: where gamma is zero, z is whatever makes its sum vanish."""
        free = self.gamma == 0
        z = jnp.where(free, 0, (x - self.beta) / jnp.where(free, 1, self.gamma))
        if not self.centred:
            return z
        rest = jnp.sum(z, axis=-1, keepdims=True) / jnp.maximum(jnp.sum(free), 1)
        return jnp.where(free, -rest, z)


def _positive(radius) -> Float[Array, ""]:
    radius = jnp.asarray(radius, jnp.result_type(float))
    if radius.ndim:
        raise ValueError(f"`radius` must be a number; got an array of shape {radius.shape}.")
    if not isinstance(radius, Tracer) and not radius > 0:
        raise ValueError(f"`radius` must be positive; got {radius}.")
    return radius
