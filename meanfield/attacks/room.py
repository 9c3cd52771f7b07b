"""Where an attack may go: a budget in Wasserstein distance, a domain, a longest displacement."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..attention import AnyMeasure
from ..measure import AbstractDomain
from .copies import Copies


class Room(eqx.Module):
    r"""The copies with $(\sum_{ic} a_i \beta_{ic} |w_{ic}|^p)^{1/p} \le$ budget, $x_i + w_{ic}$ in
    the domain, and $|w_{ic}| \le$ max_displacement.

    The left side is the cost of one coupling, so $W_p$ is within the budget too.
    """

    budget: Float[Array, ""]
    p: float = eqx.field(static=True)
    domain: AbstractDomain | None = None
    max_displacement: Float[Array, ""] | None = None

    def size(self, mu: AnyMeasure, copies: Copies) -> Float[Array, ""]:
        """The length of the moves in $L^p$ of the masses, of zero gradient at zero."""
        return length(copies.moves, copies.masses(mu), self.p)

    def confined(self, mu: AnyMeasure, copies: Copies) -> Copies:
        """The copies with displacements cut and points put into the domain."""
        moves, x = copies.moves, mu.points[..., None, :]
        if self.max_displacement is not None:
            far = norms(moves)[..., None]
            factor = self.max_displacement / jnp.where(far > 0, far, 1.0)
            moves = jnp.where(far > self.max_displacement, moves * factor, moves)
        if self.domain is not None:
            kept = (self.domain.project(x + moves) - x).astype(moves.dtype)
            moves = jnp.where(mu.masses[..., None, None] > 0, kept, 0.0)
        return Copies(moves, copies.logits)

    def fitted(self, mu: AnyMeasure, copies: Copies) -> Copies:
        """The moves scaled to the budget and confined: as large as the domain lets them be."""
        size = self.size(mu, copies)
        scaled = Copies(
            copies.moves * (self.budget / jnp.where(size > 0, size, 1.0)), copies.logits
        )
        if self.domain is None and self.max_displacement is None:
            return scaled

        fixed = jax.lax.stop_gradient(scaled)

        def enlarged(_, factor):  # what the domain cut off is spent on others
            found = self.confined(mu, Copies(fixed.moves * factor, fixed.logits))
            size = self.size(mu, found)
            return factor * jnp.clip(self.budget / jnp.where(size > 0, size, 1.0), 0.0, 2.0)

        factor = jax.lax.fori_loop(0, 3, enlarged, jnp.ones_like(self.budget))
        return self.confined(mu, Copies(scaled.moves * factor, scaled.logits))

    def feasible(self, mu: AnyMeasure, copies: Copies) -> Copies:
        """The moves as the points can be written down, shrunk until the budget holds: neither
        projections nor rounding need be nonexpansive."""

        def placed(scale):
            found = self.confined(mu, Copies(copies.moves * scale, copies.logits))
            return self._written(mu, found)

        def shrunk(state):
            scale, found, count = state
            scale = 0.999 * scale * jnp.minimum(self.budget / self.size(mu, found), 1.0)
            return scale, placed(scale), count + 1

        one = jnp.ones_like(self.budget)
        start = (one, placed(one), jnp.asarray(0))
        return jax.lax.while_loop(
            lambda state: (self.size(mu, state[1]) > self.budget) & (state[2] < 100), shrunk, start
        )[1]

    def _written(self, mu: AnyMeasure, copies: Copies) -> Copies:
        """The moves between points of the dtype."""
        x = mu.points[..., None, :]
        return Copies(jax.lax.optimization_barrier(x + copies.moves) - x, copies.logits)


def norms(moves: Float[Array | np.ndarray, "*n d"]) -> Float[Array, "*n"]:
    """Euclidean lengths along the last axis, of zero gradient at zero."""
    squared = jnp.sum(moves**2, axis=-1)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def length(
    moves: Float[Array | np.ndarray, "*n d"], masses: Float[Array, "*n"], p: float
) -> Float[Array, ""]:
    r"""$(\sum_i m_i |w_i|^p)^{1/p}$, or the largest $|w_i|$ of an atom that has mass."""
    far = norms(moves)
    if math.isinf(p):
        return jnp.max(jnp.where(masses > 0, far, 0.0))
    # scaled by the largest, so that p-th powers neither overflow nor vanish
    top = jax.lax.stop_gradient(jnp.max(jnp.where(masses > 0, far, 0.0)))
    top = jnp.where(top > 0, top, 1.0)
    power = jnp.sum(jnp.where(masses > 0, masses * (far / top) ** p, 0.0))
    return jnp.where(power > 0, top * jnp.where(power > 0, power, 1.0) ** (1 / p), 0.0)
