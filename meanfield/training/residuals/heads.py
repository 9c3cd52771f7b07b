r"""Particles that are attention heads: the state is a measure of tokens."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from meanfield.measure import Measure

from .residual import AbstractResidual


class AttentionHeads(AbstractResidual):
    r"""$\psi((Q, K, V, O), \mu)(x) = O\, \frac{\int e^{\langle Q x, K y \rangle / \sqrt k}\, V y
    \, d\mu(y)}{\int e^{\langle Q x, K y \rangle / \sqrt k}\, d\mu(y)}$: a layer is a measure of
    heads, and moves a measure of tokens.

    A particle is theta = (Q, K, V, O) of shapes (k, d), (k, d), (v, d), (d, v), each row by row.

    Args:
      key_size: k.
      value_size: v; k where it is None.
      outer, inner: the standard deviations of the entries of O, and of Q, K and V times sqrt(d),
        at the start. With outer = 0, the default, the network starts as the identity.
    """

    key_size: int = eqx.field(static=True)
    value_size: int | None = eqx.field(default=None, static=True)
    outer: float = eqx.field(default=0.0, static=True)
    inner: float = eqx.field(default=1.0, static=True)

    def psi(self, theta: Float[Array, " p"], x: Measure) -> Float[Array, "n d"]:
        return self.outer_features(theta, x) @ self.head(theta, x.dim)[-1].T

    def outer_features(self, theta: Float[Array, " p"], x: Measure) -> Float[Array, "n v"]:
        """The values V y that each token sees on average."""
        Q, K, V, _ = self.head(theta, x.dim)
        seen = jnp.where(x.present[:, None], x.points, 0)
        scores = (seen @ Q.T) @ (seen @ K.T).T / math.sqrt(self.key_size)
        log_mass = jnp.log(jnp.where(x.present, x.weights, 1))
        logits = jnp.where(x.present, scores + log_mass, -jnp.inf)
        return jax.nn.softmax(logits, axis=-1) @ (seen @ V.T)

    def drift(
        self, particles: Float[Array, "M p"], masses: Float[Array, " M"], x: Measure
    ) -> Float[Array, "n d"]:
        if not isinstance(x, Measure):
            raise TypeError(
                "AttentionHeads moves a Measure of tokens; got a plain array. Give the inputs as "
                "mf.Measure(tokens), or as mf.Measure of shapes (N, n, d) for a batch."
            )
        each = jax.vmap(lambda theta: self.psi(theta, x))(particles)
        return jnp.tensordot(masses, each, 1)

    def head(
        self, theta: Float[Array, " p"], dim: int
    ) -> tuple[Float[Array, "k d"], Float[Array, "k d"], Float[Array, "v d"], Float[Array, "d v"]]:
        """The matrices (Q, K, V, O) of a particle."""
        k, v = self.key_size, self.value_size or self.key_size
        cuts = [k * dim, 2 * k * dim, (2 * k + v) * dim]
        Q, K, V, O = jnp.split(theta, cuts)
        return Q.reshape(k, dim), K.reshape(k, dim), V.reshape(v, dim), O.reshape(dim, v)

    def size(self, dim: int) -> int:
        return 2 * dim * (self.key_size + (self.value_size or self.key_size))

    def random(
        self, shape: tuple[int, ...], dim: int, *, key: PRNGKeyArray
    ) -> Float[Array, "... p"]:
        last = dim * (self.value_size or self.key_size)
        first = self.size(dim) - last
        scales = jnp.array([self.inner / math.sqrt(dim)] * first + [self.outer] * last)
        return scales * jr.normal(key, (*shape, first + last))
