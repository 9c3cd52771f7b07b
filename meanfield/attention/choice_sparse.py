"""Sparse choices: most atoms get no share at all. Their thresholds are exact, found by sorting."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from .choice import (
    AbstractChoice,
    LogMass,
    Number,
    Scores,
    Visible,
    check_above,
    seen,
)
from .threshold import power_level, ramp_level, square_level


class ChiSquare(AbstractChoice):
    r"""$h_j = \min(c, (s_j - \tau)_+ / \lambda)$, where $\tau$ makes the shares sum to one;
    $R = a / \lambda$ where $0 < h < c$, and 0 elsewhere.

    It maximises $\langle s, h \rangle - \frac\lambda2 \int h^2$ over the densities h <= c: the
    penalty is the chi-square divergence of the attention from the context. Sparsemax of n equal
    tokens is this with $\lambda = 1/n$, a scale that depends on how the measure is written.

    Args:
      scale: lambda > 0; a small one attends to few atoms.
      cap: c > 1, or None for no cap. As lambda tends to zero this becomes `TopMass(1 / c)`.

    Raises:
      ValueError: a scale that is not positive, a cap that is not larger than 1.
    """

    scale: Number = 1.0
    cap: Number | None = None

    def __check_init__(self):
        check_above("scale", self.scale, 0)
        check_above("cap", self.cap, 1)

    @property
    def normalised(self) -> bool:
        return True

    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        scores, masses = seen(scores, log_mass, visible)
        slopes = masses / jnp.asarray(self.scale, scores.dtype)
        heights = _from_top(scores, slopes)
        if self.cap is None:
            pieces = ramp_level(heights, slopes, 1)
            capped = jnp.zeros_like(scores)
        else:
            cap = jnp.asarray(self.cap, scores.dtype)
            pieces = ramp_level(heights, slopes, 1, cap * masses)
            capped = jnp.where(pieces.ended, cap * masses, 0)
        return slopes * pieces.rise + capped, jnp.where(pieces.sloped, slopes, 0)


class Entmax(AbstractChoice):
    r"""$h_j = \big((\alpha - 1)(s_j - \tau)_+ / \lambda\big)^{1 / (\alpha - 1)}$, where $\tau$
    makes the shares sum to one; $R = a\, h^{2 - \alpha} / \lambda$ where h > 0.

    Between the softmax ($\alpha \to 1$) and `ChiSquare` ($\alpha = 2$): it maximises $\langle s, h
    \rangle - \frac{\lambda}{\alpha (\alpha - 1)} \int h^\alpha$, and is continuously
    differentiable for $\alpha < 2$. The threshold is exact, by sorting, for $\alpha = 3/2$ and 2;
    for another $\alpha$ it is found to rounding by bisection and Newton steps (derivatives of
    fourth and higher order are then not exact).

    Args:
      alpha: 1 < alpha <= 2.
      scale: lambda > 0.

    Raises:
      ValueError: alpha or a scale out of range.
    """

    alpha: float | int = eqx.field(default=1.5, static=True)
    scale: Number = 1.0

    def __check_init__(self):
        if not 1 < self.alpha <= 2:
            raise ValueError(
                f"`alpha` must lie in (1, 2]; got {self.alpha}. Use Softmax() for alpha = 1."
            )
        check_above("scale", self.scale, 0)

    @property
    def normalised(self) -> bool:
        return True

    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        if self.alpha == 2:
            return ChiSquare(self.scale).respond(scores, log_mass, visible)
        scores, masses = seen(scores, log_mass, visible)
        scale = jnp.asarray(self.scale, scores.dtype)
        heights = _from_top(scores, masses) * ((self.alpha - 1) / scale)
        power = 1 / (self.alpha - 1)
        if self.alpha == 1.5:
            level = square_level(heights, masses, 1)
        else:
            level = power_level(heights, masses, 1, power)
        inside = (masses > 0) & (heights > level)
        base = jnp.where(inside, heights - level, 1)
        shares = jnp.where(inside, masses * base**power, 0)
        return shares, jnp.where(inside, masses * base ** (power - 1) / scale, 0)


class TopMass(AbstractChoice):
    r"""$h_j = 1/q$ on the atoms of largest score that carry the fraction q of the mass, 0 on the
    others; the atoms on the edge share what is left. The attention is the superquantile.

    Between ties shares do not depend on scores at all (R = 0), and at ties they jump: attention has
    no Lipschitz constant. `ChiSquare(scale, cap=1/q)` is its smooth relative.

    Args:
      fraction: q, 0 < q <= 1. A fraction and not a number of atoms, which would depend on how the
        measure is written.

    Raises:
      ValueError: a fraction out of range.
    """

    fraction: Number = 0.5

    def __check_init__(self):
        check_above("fraction", self.fraction, 0)
        if not isinstance(self.fraction, Tracer) and float(self.fraction) > 1:
            raise ValueError(f"`fraction` must be at most 1; got {float(self.fraction):g}.")

    @property
    def normalised(self) -> bool:
        return True

    def respond(
        self, scores: Scores, log_mass: LogMass, visible: Visible = None
    ) -> tuple[Scores, Scores]:
        scores, masses = seen(scores, log_mass, visible)
        fraction = jnp.asarray(self.fraction, scores.dtype)
        heights = jax.lax.stop_gradient(_from_top(scores, masses))
        drop = _quantile(heights, jax.lax.stop_gradient(masses), fraction) - heights
        # equal scores may be rounded in two ways
        size = jnp.max(jnp.abs(scores), axis=-1, keepdims=True, where=masses > 0, initial=0)
        tie = jax.lax.stop_gradient(16 * jnp.finfo(scores.dtype).eps * size)
        above = jnp.where(drop < -tie, masses, 0)
        tied = jnp.where(jnp.abs(drop) <= tie, masses, 0)
        left = jnp.maximum(1 - jnp.sum(above, axis=-1, keepdims=True) / fraction, 0)
        total = jnp.sum(tied, axis=-1, keepdims=True)
        shares = above / fraction + tied * (left / jnp.where(total > 0, total, 1))
        return shares, jnp.zeros_like(shares)


def _quantile(heights: Scores, masses: Scores, fraction):
    """The largest height above or at which lies the fraction of the mass, row by row."""
    drops, sorted_masses = jax.lax.sort((-heights, masses), num_keys=1)
    reached = jnp.cumsum(sorted_masses, axis=-1)
    # where rounding keeps the sum below the fraction, the last atom is the edge
    last = jnp.max(jnp.where(sorted_masses > 0, drops, -jnp.inf), axis=-1, keepdims=True)
    enough = (reached >= fraction) & (sorted_masses > 0)
    return -jnp.min(jnp.where(enough, drops, last), axis=-1, keepdims=True)


def _from_top(scores: Scores, masses) -> Scores:
    """Scores less the largest that is seen; 0 for atoms that are absent, which changes nothing."""
    seen = jnp.broadcast_to(masses > 0, scores.shape)
    top = jnp.max(scores, axis=-1, keepdims=True, where=seen, initial=-jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    return jnp.where(seen, scores - top, 0)
