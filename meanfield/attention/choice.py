"""Choices: how a query turns its scores for the atoms of a context into shares of mass."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class AbstractChoice(eqx.Module):
    """A rule from scores and masses to shares."""

    @abc.abstractmethod
    def weigh(
        self,
        scores: Float[Array, "m n"],
        log_mass: Float[Array, " n"],
        visible: Bool[Array, "m n"] | None = None,
    ) -> Float[Array, "m n"]:
        """The share of each of n atoms for each of m queries.

        An atom with `log_mass = -inf` or not visible gets no share.
        """

    @abc.abstractmethod
    def response(self, shares: Float[Array, "m n"]) -> Float[Array, "m n"]:
        r"""How strongly each share answers to its score: the R >= 0 of the derivative
        $dP = R \odot (ds - \langle R, ds \rangle / \langle R, 1 \rangle)$ along each row."""


class Softmax(AbstractChoice):
    r"""$P_{ij} = w_j e^{s_{ij}} / \sum_l w_l e^{s_{il}}$, with derivative
    $dP = P \odot (ds - \langle P, ds \rangle)$. Masses enter as logarithms."""

    def weigh(
        self,
        scores: Float[Array, "m n"],
        log_mass: Float[Array, " n"],
        visible: Bool[Array, "m n"] | None = None,
    ) -> Float[Array, "m n"]:
        logits = scores + log_mass
        if visible is not None:
            logits = jnp.where(visible, logits, -jnp.inf)
        top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        # a query that sees nothing has top = -inf; it gets zero shares rather than NaN
        likes = jnp.exp(logits - jnp.where(jnp.isfinite(top), top, 0))
        total = jnp.sum(likes, axis=-1, keepdims=True)
        return likes / jnp.where(total > 0, total, 1)

    def response(self, shares: Float[Array, "m n"]) -> Float[Array, "m n"]:
        return shares
