"""Sinkhorn's iterations in the logarithmic domain, one sweep over the pairs each."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .entropic_problem import EntropicProblem, log_shares
from .pairs import by_blocks
from .softmin import softmin, sweep


class Iterate(NamedTuple):
    """Potentials, what arrives at the columns under them, and how far that is from the weights."""

    f: Float[Array, " n"]
    g: Float[Array, " m"]
    received: Float[Array, " m"]
    error: Float[Array, ""]
    temperature: Float[Array, ""]
    steps: Int[Array, ""]
    plain: Float[Array, " m"]  # the second potentials before they were carried on
    age: Int[Array, ""]  # the steps since the momentum began


class Schedule(eqx.Module):
    """When to stop, and at which temperatures to begin.

    Attributes:
      tolerance: the marginal error to reach.
      max_steps: the largest number of iterations.
      hottest: the temperature of the first iteration, if it is above epsilon.
      cooling: by what the temperature is multiplied after each iteration, down to epsilon.
    """

    tolerance: Float[Array, ""]
    hottest: Float[Array, ""]
    cooling: Float[Array, ""]
    max_steps: int = eqx.field(static=True)


def iterate(problem: EntropicProblem, g: Float[Array, " m"], schedule: Schedule) -> Iterate:
    r"""Alternate between the potentials until the marginals are met.

    Each step takes $f_i = -\varepsilon \log \sum_j b_j e^{(g_j - C_{ij}) / \varepsilon}$, under
    which row i sends exactly its mass, and from the masses $r_j$ that then arrive
    $g_j \leftarrow g_j - \varepsilon \log (r_j / b_j)$. The error is $\sum_j |r_j - b_j|$.
    """

    def going(now: Iterate) -> Bool[Array, ""]:
        short = (now.error > schedule.tolerance) | (now.temperature > problem.epsilon)
        return short & (now.steps < schedule.max_steps)

    def step(now: Iterate) -> Iterate:
        plain = _raised(now, problem.b)
        g, age = _carried_on(now, plain, problem)
        temperature = _cooled(now, problem.epsilon, schedule)
        f, received = _swept(problem, now, g, temperature)
        error = jnp.sum(jnp.abs(received - problem.b))
        return Iterate(f, g, received, error, temperature, now.steps + 1, plain, age)

    start = Iterate(
        f=jnp.zeros_like(problem.a),
        g=jnp.where(problem.b > 0, g, 0.0),
        received=problem.b,
        error=jnp.full_like(problem.epsilon, jnp.inf),
        temperature=jnp.maximum(problem.epsilon, schedule.hottest),
        steps=jnp.zeros((), jnp.int32),
        plain=jnp.where(problem.b > 0, g, 0.0),
        age=jnp.zeros((), jnp.int32),
    )
    return jax.lax.while_loop(going, step, start)


def _swept(
    problem: EntropicProblem, now: Iterate, g: Float[Array, " m"], temperature: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """A sweep; where the pairs go by blocks and g hardly moved, one that need not find maxima."""

    def plainly(near=None):
        return sweep(problem.pairs, g, log_shares(problem.b), problem.a, temperature, near)

    if not by_blocks(problem.pairs):
        return plainly()
    moved = jnp.max(jnp.abs(g - now.g), initial=0.0)
    close = (now.steps > 0) & (now.temperature == temperature) & (moved <= 2 * temperature)
    return jax.lax.cond(close, lambda: plainly(now.f), plainly)


def _cooled(now: Iterate, epsilon: Float[Array, ""], schedule: Schedule) -> Float[Array, ""]:
    """The temperature of the next step; the last one allowed is at epsilon, as the dual must be."""
    cooler = jnp.where(now.steps > 0, schedule.cooling, 1.0) * now.temperature
    return jnp.where(now.steps + 1 < schedule.max_steps, jnp.maximum(epsilon, cooler), epsilon)


def _raised(now: Iterate, b: Float[Array, " m"]) -> Float[Array, " m"]:
    """The second potentials after half an iteration.

    Masses below the floor may have lost terms to underflow. There the step is cut short, which
    still raises the dual; above it the loss is under one unit in the last place.
    """
    present = b > 0
    ratio = jnp.maximum(now.received, jnp.minimum(_floor(b), b)) / jnp.where(present, b, 1.0)
    return jnp.where(present, now.g - now.temperature * jnp.log(ratio), 0.0)


def _carried_on(
    now: Iterate, plain: Float[Array, " m"], problem: EntropicProblem
) -> tuple[Float[Array, " m"], Int[Array, ""]]:
    """The second potentials moved on in the direction of the last step (Nesterov).

    The momentum is dropped when it points down the dual, and while the temperature falls.
    """
    direction = plain - now.plain
    uphill = (problem.b - now.received) @ direction > 0
    kept = uphill & (now.temperature <= problem.epsilon)
    age = jnp.where(kept, now.age + 1, 0)
    share = jnp.where(kept, age / (age + 3), 0.0).astype(direction.dtype)
    return plain + share * direction, age


def _floor(b: Float[Array, " m"]) -> float:
    """The smallest mass that is known to all its digits when terms that underflow are left out."""
    numbers = jnp.finfo(b.dtype)
    return float(8 * numbers.tiny / numbers.eps)  # 8 > e^2: row sums are at least e^-2


def extended(problem: EntropicProblem, f: Array, g: Array) -> tuple[Array, Array]:
    """The potentials with soft minima at absent atoms too, and at those of hardly any mass."""
    counted = problem.b > _floor(problem.b)
    fill = jax.lax.cond(
        jnp.all(counted),
        lambda: g,
        lambda: softmin(problem.pairs.transpose, f, log_shares(problem.a), problem.epsilon),
    )
    g = jnp.where(counted, g, fill)
    return _finite(f, problem.a > 0), _finite(g, problem.b > 0)


def centred(problem: EntropicProblem, f: Array, g: Array) -> tuple[Array, Array]:
    """The potentials shifted so that each side holds half the value."""
    shift = (problem.b @ g - problem.a @ f) / 2
    return f + shift, g - shift


def _finite(potential: Array, present: Bool[Array, " n"]) -> Array:
    return jnp.where(present | jnp.isfinite(potential), potential, 0.0)
