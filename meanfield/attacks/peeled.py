"""The image of a measure from which a little mass was peeled, for many targets of that mass.

For attention on a plain measure only one key and one query are new: the rest is computed once.
"""

import abc
import dataclasses
from functools import singledispatch

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..attention import AbstractAttention, AbstractInContextMap, AnyMeasure
from ..attention.attending import Attending
from ..measure import ConditionalMeasure, Measure
from .comparison import Matching


class PeeledImage(eqx.Module):
    r"""The image $F(\nu)$ of $\nu = \mu + \varphi a_i (\delta_z - \delta_{x_i})$ as a function of z
    and $\log \varphi$.

    Attributes:
      before: F(mu).
      mass: a_i.
    """

    before: eqx.AbstractVar[AnyMeasure]
    mass: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def after(
        self, z: Float[Array, " d"], log_fraction: Float[Array, ""]
    ) -> tuple[AnyMeasure, Matching]:
        """F(nu), and the matching of its atoms with those of F(mu)."""


class _AnyMap(PeeledImage):
    """By the map itself."""

    before: AnyMeasure
    mass: Float[Array, ""]
    f: AbstractInContextMap
    mu: AnyMeasure
    index: Int[Array, ""]

    def after(self, z: Array, log_fraction: Array) -> tuple[AnyMeasure, Matching]:
        image = self.f(peeled(self.mu, self.index, jnp.exp(log_fraction), z))
        n = self.mu.masses.size
        if isinstance(self.mu, Measure):
            rows = jnp.append(jnp.arange(n), self.index)
            return image, Matching(rows, jnp.arange(n + 1), jnp.ones(n + 1, z.dtype))
        s, k = self.mu.masses.shape
        own = jnp.arange(n).reshape(s, k)
        rows = jnp.concatenate([own, jnp.full((s, 1), self.index)], axis=1).reshape(-1)
        return image, Matching(rows, jnp.arange(rows.size), jnp.ones(rows.size, z.dtype))


class _OneMoreKey(PeeledImage):
    """By one more key and one more query before the context of mu."""

    before: AnyMeasure
    mass: Float[Array, ""]
    f: AbstractAttention
    mu: Measure
    index: Int[Array, ""]
    seen: Attending

    def after(self, z: Array, log_fraction: Array) -> tuple[AnyMeasure, Matching]:
        seen, f, n = self.seen, self.f, self.mu.size
        # log(1 - fraction), and -inf for the whole mass
        rest = jnp.log1p(-jnp.minimum(jnp.exp(log_fraction), 1.0))
        log_mass = seen.log_mass.at[self.index].add(rest)
        own = seen.log_mass[self.index] + log_fraction
        with_one_more = dataclasses.replace(
            seen,
            queries=jnp.concatenate([seen.queries, f.queries(z[None], None)], axis=1),
            keys=jnp.concatenate([seen.keys, f.keys(z[None], None)], axis=1),
            values=jnp.concatenate([seen.values, f.values(z[None])], axis=1),
            log_mass=jnp.append(log_mass, own),
        )
        image = Measure(f.combine(with_one_more.mix()), jnp.exp(with_one_more.log_mass))
        rows = jnp.append(jnp.arange(n), self.index)
        return image, Matching(rows, jnp.arange(n + 1), jnp.ones(n + 1, z.dtype))


@singledispatch
def peeled_image(f: AbstractInContextMap, mu: AnyMeasure, index: Int[Array, ""]) -> PeeledImage:
    """The image of mu peeled at an atom."""
    return _AnyMap(f(mu), mu.masses.reshape(-1)[index], f, mu, index)


@peeled_image.register
def _(f: AbstractAttention, mu: AnyMeasure, index: Int[Array, ""]) -> PeeledImage:
    if not isinstance(mu, Measure):
        return _AnyMap(f(mu), mu.masses.reshape(-1)[index], f, mu, index)
    return _OneMoreKey(f(mu), mu.weights[index], f, mu, index, f.attending(mu, mu.points))


def peeled(
    mu: AnyMeasure, index: Int[Array, ""], fraction: Float[Array, ""], z: Float[Array, " d"]
) -> AnyMeasure:
    """The measure with a fraction of the mass of one atom at z instead; the new atom comes last."""
    fraction = jnp.asarray(fraction, mu.points.dtype)
    if isinstance(mu, Measure):
        own = mu.weights[index]
        weights = jnp.append(mu.weights.at[index].multiply(1 - fraction), fraction * own)
        return Measure(jnp.concatenate([mu.points, z[None]]), weights)
    s, k = mu.masses.shape
    fibre, place = index // k, index % k
    own = mu.weights[fibre, place]
    weights = mu.weights.at[fibre, place].multiply(1 - fraction)
    column = jnp.where(jnp.arange(s) == fibre, fraction * own, 0.0)
    points = jnp.concatenate([mu.points, jnp.broadcast_to(z, (s, 1, mu.dim))], axis=1)
    return ConditionalMeasure(points, jnp.concatenate([weights, column[:, None]], 1), mu.base)


def parents(mu: AnyMeasure, index: int) -> Int[np.ndarray, " _"]:
    """Of each atom of the peeled measure, the atom of mu: the new one comes from the peeled."""
    shape = mu.masses.shape
    own = np.arange(mu.masses.size).reshape(shape)
    return np.concatenate([own, np.full((*shape[:-1], 1), index)], axis=-1).reshape(-1)
