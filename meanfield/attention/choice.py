"""Choices: how a query turns its scores for the atoms of a context into shares of mass.

A choice sees a query's scores s_j and the masses a_j of the atoms that the query sees, normalised
to one. It gives each atom a density h_j, a function of the scores and of the measure alone, and the
share P_j = a_j h_j: writing an atom as two equal ones changes nothing.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from .threshold import exponential_level


Scores = Float[Array, "m n"]
LogMass = Float[Array, " n"]
Visible = Bool[Array, "m n"] | None
Number = float | int | Float[Array, ""]


class AbstractChoice(eqx.Module):
    """A rule from scores and masses to shares."""

    @property
    @abc.abstractmethod
    def normalised(self) -> bool:
        """Whether the shares of a query that sees anything sum to one, whatever its scores."""

    @abc.abstractmethod
    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        r"""The shares P, and how strongly each answers to its score: the R >= 0 with, along a row,
        $dP = R \odot (ds - \langle R, ds \rangle / \langle R, 1 \rangle)$ for a normalised choice
        and $dP = R \odot ds$ for another. At a kink, R is that of one of the pieces."""

    def weigh(self, scores: Scores, log_mass: LogMass, visible: Visible = None) -> Scores:
        """The share of each of n atoms for each of m queries.

        An atom with `log_mass = -inf`, with a score of -inf or not visible gets no share; a query
        that sees nothing gives none.
        """
        return self.respond(scores, log_mass, visible)[0]


def seen(scores: Scores, log_mass: LogMass, visible: Visible = None) -> tuple[Scores, Scores]:
    """The scores with zeros where a query does not see an atom, and the masses that it does see,
    normalised. A score of -inf is not to see."""
    there = (scores > -jnp.inf) | jnp.isnan(scores)
    there = there if visible is None else there & visible
    present = there & (log_mass > -jnp.inf)
    masses = _softmax(jnp.where(there, log_mass, -jnp.inf))
    return jnp.where(present, scores, 0), masses


def _softmax(logits: Float[Array, "m n"]) -> Float[Array, "m n"]:
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    # a query that sees nothing has top = -inf; it gets zero shares rather than NaN
    likes = jnp.exp(logits - jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.sum(likes, axis=-1, keepdims=True)
    return likes / jnp.where(total > 0, total, 1)


class Softmax(AbstractChoice):
    r"""$h_j = e^{s_j - \tau}$, or $\min(c, e^{s_j - \tau})$ with a cap c, where $\tau$ makes the
    shares sum to one; $R = P$ where the cap is not reached, and 0 where it is.

    It maximises $\langle s, h \rangle - \int h \log h$ over the densities h <= c. With c = 1/q no
    atom gets more than 1/q of its mass: at least the fraction q of the mass is looked at.

    Args:
      cap: c > 1, or None for no cap. Masses enter as logarithms where there is none.

    Raises:
      ValueError: if the cap is not larger than 1.
    """

    cap: Number | None = None

    def __check_init__(self):
        check_above("cap", self.cap, 1)

    @property
    def normalised(self) -> bool:
        return True

    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        if self.cap is None:
            logits = scores + log_mass
            logits = logits if visible is None else jnp.where(visible, logits, -jnp.inf)
            shares = _softmax(logits)
            return shares, shares
        scores, masses = seen(scores, log_mass, visible)
        cap = jnp.asarray(self.cap, scores.dtype)
        capped, level = exponential_level(scores, masses, cap)
        free = ~capped & (masses > 0)
        below = jnp.exp(jnp.where(free, scores - level, -jnp.inf))
        free = masses * jnp.minimum(below, cap)
        return free + jnp.where(capped, cap * masses, 0), free


class Sigmoid(AbstractChoice):
    r"""$h_j = 1 / (1 + e^{-s_j - b})$, with $R = a h (1 - h)$: every atom on its own. Shares do not
    sum to one; the output is the average $\int h\, v\, d\mu$ over what is seen.

    Args:
      bias: b. The usual attention by sigmoids of n tokens adds its values up, with b = -log n.
    """

    bias: Number = 0.0

    @property
    def normalised(self) -> bool:
        return False

    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        scores, masses = seen(scores, log_mass, visible)
        logits = scores + jnp.asarray(self.bias, scores.dtype)
        density = jax.nn.sigmoid(logits)
        return masses * density, masses * density * jax.nn.sigmoid(-logits)


class Linear(AbstractChoice):
    r"""$h_j = s_j$, with $R = a$: attention that is linear in its scores. Shares may be negative
    and do not sum to one; the output is $\int s\, v\, d\mu$ over what is seen, normalised."""

    @property
    def normalised(self) -> bool:
        return False

    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        scores, masses = seen(scores, log_mass, visible)
        return masses * scores, masses


def is_softmax(choice: AbstractChoice) -> bool:
    """Whether shares are proportional to mass times e^score: the softmax without a cap."""
    return isinstance(choice, Softmax) and choice.cap is None


def check_above(name: str, value: Number | None, least: float | int) -> None:
    """Raises ValueError if a number that is known is not larger than another."""
    if value is None or isinstance(value, Tracer) or jnp.ndim(value):
        return
    if not float(value) > least:
        raise ValueError(f"`{name}` must be larger than {least:g}; got {float(value):g}.")
