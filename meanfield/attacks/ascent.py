r"""Projected gradient ascent on moved copies, with steps normalised in the metric of $W_p$.

The moves are always scaled to the budget, inside the objective: its gradient then knows that mass
which moves less leaves budget for others. A step goes in the direction of steepest ascent for the
norm of $L^p$ of the masses: $|h|^{q-2} h$ with $h = \nabla_w / m$ and $1/p + 1/q = 1$.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..attention import AbstractInContextMap, AnyMeasure
from .comparison import Comparison, Matching
from .copies import Copies
from .objective import AbstractObjective
from .room import Room, length, norms


# for p = 1 the steepest direction moves one atom alone; this exponent lets others follow
_LARGEST_DUAL = 6.0


class Problem(eqx.Module):
    """What the search makes large, and where it may go.

    Args:
      f, mu: the map and the measure.
      before: the image F(mu).
      room: budget, exponent, domain.
      objective: what to make large.
      free_mass: whether the shares of the copies may change.
    """

    f: AbstractInContextMap
    mu: AnyMeasure
    before: AnyMeasure
    room: Room
    objective: AbstractObjective
    free_mass: bool = eqx.field(static=True)

    def images(self, copies: Copies, matching: Matching) -> Comparison:
        """The images with the moves scaled to the budget."""
        nu = self.room.fitted(self.mu, copies).applied(self.mu)
        return Comparison(self.before, self.f(nu), matching, self.room.p)

    def value(self, copies: Copies, matching: Matching) -> Float[Array, ""]:
        """The objective with the moves scaled to the budget."""
        return self.objective(self.images(copies, matching))


class Climb(eqx.Module):
    """The best copies of each start, the objective there, and the best after each step."""

    copies: Copies
    value: Float[Array, "*starts"]
    history: Float[Array, "*starts steps"]


@eqx.filter_jit
def ascend(
    problem: Problem, starts: Copies, matchings: Matching, rates: Float[Array, " steps"]
) -> Climb:
    """Ascent from each start, with one matching a start held fixed."""
    return jax.vmap(lambda start, matching: _ascend_one(problem, start, matching, rates))(
        starts, matchings
    )


def _ascend_one(problem: Problem, start: Copies, matching: Matching, rates: Array) -> Climb:
    climb = jax.value_and_grad(lambda copies: problem.value(copies, matching))

    def step(state, rate):
        copies, best, best_value = state
        value, gradient = climb(copies)
        better = value > best_value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), copies, best)
        best_value = jnp.maximum(value, best_value)
        return (_stepped(problem, copies, gradient, rate), best, best_value), best_value

    state = (_normalised(problem, start), start, jnp.asarray(-jnp.inf, start.logits.dtype))
    (last, best, best_value), history = jax.lax.scan(step, state, rates)
    value = problem.value(last, matching)
    best = jax.tree.map(lambda new, old: jnp.where(value > best_value, new, old), last, best)
    return Climb(best, jnp.maximum(value, best_value), history)


def _stepped(problem: Problem, copies: Copies, gradient: Copies, rate: Array) -> Copies:
    """One step of length `rate` in units of the moves, and at most `rate` in any logit."""
    masses, p = copies.masses(problem.mu), problem.room.p
    present = masses > 0
    h = jnp.where(present[..., None], gradient.moves, 0.0)
    h = h / jnp.where(present, masses, 1.0)[..., None]
    h = jnp.where(jnp.isfinite(h), h, 0.0)
    far = norms(h) / jnp.maximum(jnp.max(norms(h)), jnp.finfo(h.dtype).tiny)
    dual = _LARGEST_DUAL if p == 1 else (1.0 if math.isinf(p) else p / (p - 1))
    direction = h / jnp.where(norms(h) > 0, norms(h), 1.0)[..., None] * far[..., None] ** (dual - 1)
    size = length(direction, masses, p)
    moves = copies.moves + rate * direction / jnp.where(size > 0, size, 1.0)
    logits = copies.logits
    if problem.free_mass:
        slope = jnp.where(jnp.isfinite(gradient.logits), gradient.logits, 0.0)
        top = jnp.max(jnp.abs(slope))
        logits = logits + rate * slope / jnp.where(top > 0, top, 1.0)
        logits = jnp.maximum(logits - jnp.max(logits, axis=-1, keepdims=True), -40.0)
    return _normalised(problem, Copies(moves, logits))


def _normalised(problem: Problem, copies: Copies) -> Copies:
    """The moves with length one in $L^p$ of their masses."""
    size = problem.room.size(problem.mu, copies)
    return Copies(copies.moves / jnp.where(size > 0, size, 1.0), copies.logits)


def decaying_rates(steps: int, first: float, dtype) -> Float[Array, " steps"]:
    """Step lengths that fall from `first` to a hundredth of it along half a cosine."""
    along = jnp.arange(steps, dtype=dtype) / max(steps - 1, 1)
    return first * (0.01 + 0.99 * (1 + jnp.cos(jnp.pi * along)) / 2)
