r"""Iterations of Sinkhorn for a fixed transform, and the moments of the coupling they end at.

Potentials are carried as logarithms. `kept` forms the kernel once, about the potentials it begins
with, and makes its soft minima by products with it; `streamed` makes the kernel again in every
iteration, block by block. Both take the same steps, with momentum, as long as no potential moves
far: entries of a kernel that underflow do not answer. `far` makes both soft minima from logarithms
and serves where potentials have far to go.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..transport.entropic_problem import log_shares
from ..transport.pairs import stream
from ..transport.softmin import softmin
from ..transport.translation import Sides, translated
from .bilinear import BilinearPairs


class Swept(NamedTuple):
    """Potentials, and the moments of the coupling they define.

    Attributes:
      f, g: the potentials, (n,) and (m,).
      cross: the cross-moment, (q, p).
      second: the second moment of what leaves the atoms of mu, (p, p).
      sent, received: the marginals.
      error: how far the second marginal is from what its potential asks for.
      dual: the dual objective, a lower bound on the transport problem.
    """

    f: Float[Array, " n"]
    g: Float[Array, " m"]
    cross: Float[Array, "q p"]
    second: Float[Array, "p p"]
    sent: Float[Array, " n"]
    received: Float[Array, " m"]
    error: Float[Array, ""]
    dual: Float[Array, ""]


class Entropic(NamedTuple):
    """A transport problem for one transform: costs, weights, divergences, temperature, points."""

    pairs: BilinearPairs
    weights: tuple[Float[Array, " n"], Float[Array, " m"]]
    sides: Sides
    epsilon: Float[Array, ""]
    points: tuple[Float[Array, "n p"], Float[Array, "m q"]]


def sweep(problem: Entropic, f: Any, g: Any, steps: Any, how: str) -> Swept:
    """So many iterations from the potential g, then the moments."""
    ways = {"kept": kept, "streamed": streamed, "far": far}
    return ways[how](problem, f, g, steps)


def far(problem: Entropic, f: Float[Array, " n"], g: Float[Array, " m"], steps: Any) -> Swept:
    """Iterations with both soft minima from logarithms, block by block: two exponentials a pair."""
    (a, b), epsilon, (first, second) = problem.weights, problem.epsilon, problem.sides
    log_a, log_b = log_shares(a), log_shares(b)

    def step(_, g):
        f = first.proximal(softmin(problem.pairs, g, log_b, epsilon), epsilon)
        g = second.proximal(softmin(problem.pairs.transpose, f, log_a, epsilon), epsilon)
        return translated(problem.sides, (a, b), (f, jnp.where(b > 0, g, 0.0)))[1]

    return streamed(problem, f, jax.lax.fori_loop(0, steps, step, g), 0)


def kept(problem: Entropic, f: Float[Array, " n"], g: Float[Array, " m"], steps: Any) -> Swept:
    r"""Iterations with the kernel $P_{ij} = b_j e^{(g_j - C_{ij}) / \varepsilon - t_i}$ kept, where
    $t_i$ is the largest exponent of a row."""
    pairs, epsilon, (a, b) = problem.pairs, problem.epsilon, problem.weights
    x, y = problem.points
    exponents = pairs.exponents(g / epsilon + log_shares(b), epsilon)
    top = jnp.max(exponents, axis=1)
    kernel = jnp.exp(exponents - top[:, None])
    log_a = log_shares(a)

    def half(now: Float[Array, " m"]):
        powers = jnp.exp((now - g) / epsilon)
        f = problem.sides[0].proximal(-epsilon * (top + _log(kernel @ powers)), epsilon)
        left = jnp.exp(log_a + top + f / epsilon)
        return f, left, powers, (left @ kernel) * powers

    def once(now: Float[Array, " m"]):
        f, _, _, received = half(now)
        return f, received

    def bounded(now: Float[Array, " m"]):
        return g + epsilon * _bounded((now - g) / epsilon)

    last = _iterated(problem, g, steps, once, bounded)
    f, left, powers, received = half(last)
    images = kernel @ (powers[:, None] * y)
    sent = left * (kernel @ powers)
    return _swept(problem, f, last, left[:, None] * images, sent, received, x)


def streamed(problem: Entropic, f: Float[Array, " n"], g: Float[Array, " m"], steps: Any) -> Swept:
    """Iterations by blocks of rows, in O(n + m) memory."""
    pairs, epsilon, (a, b) = problem.pairs, problem.epsilon, problem.weights
    x, y = problem.points
    log_b = log_shares(b)

    def once(g: Float[Array, " m"], values: Float[Array, "m k"]):
        def of_rows(block, shared, a):
            height, epsilon, values = shared
            exponents = block.exponents(height, epsilon)
            top = jnp.max(exponents, axis=1)
            kernel = jnp.exp(exponents - top[:, None])
            sums = jnp.sum(kernel, axis=1)
            f = problem.sides[0].proximal(-epsilon * (top + jnp.log(sums)), epsilon)
            left = a * jnp.exp(top + f / epsilon)  # filling rows have no mass
            images = left[:, None] * (kernel @ values)
            return jnp.concatenate([f[:, None], (left * sums)[:, None], images], 1), left @ kernel

        out, received = stream(pairs, (a,), (g / epsilon + log_b, epsilon, values), of_rows)
        assert received is not None
        return out[:, 0], out[:, 1], out[:, 2:], received

    def plain(now: Float[Array, " m"]):
        f, _, _, received = once(now, y[:, :0])
        return f, received

    g = _iterated(problem, g, steps, plain, lambda now: now)
    f, sent, images, received = once(g, y)
    return _swept(problem, f, g, images, sent, received, x)


def _iterated(
    problem: Entropic,
    g: Float[Array, " m"],
    steps: Any,
    once: Callable[[Array], tuple[Array, Array]],
    bounded: Callable[[Array], Array],
) -> Float[Array, " m"]:
    """Half iterations that are carried on in the direction of the last one (Nesterov); momentum is
    dropped where it points down the dual. The first step is plain."""

    def step(_, state):
        now, before, age = state
        f, received = once(now)
        plain = _raised(problem, f, now, received)
        direction = plain - before
        uphill = (_wanted(problem, now) - received) @ direction > 0
        age = jnp.where(uphill, age + 1, 0)
        share = jnp.where(age > 1, (age - 1) / (age + 2), 0.0).astype(direction.dtype)
        return bounded(plain + share * direction), plain, age

    return jax.lax.fori_loop(0, steps, step, (g, g, jnp.zeros((), jnp.int32)))[0]


def _raised(problem: Entropic, f: Any, g: Any, received: Any) -> Float[Array, " m"]:
    """The second potentials after half an iteration, translated where marginals are free.

    A mass that underflowed counts as the smallest that has all its digits: the step is cut short.
    """
    epsilon, (a, b) = problem.epsilon, problem.weights
    present = b > 0
    numbers = jnp.finfo(b.dtype)
    floor = jnp.minimum(b, numbers.tiny / numbers.eps)
    ratio = jnp.maximum(received, floor) / jnp.where(present, b, 1.0)
    soft = jnp.where(present, g - epsilon * _log(jnp.where(present, ratio, 1.0)), 0.0)
    return translated(problem.sides, (a, b), (f, problem.sides[1].proximal(soft, epsilon)))[1]


def _swept(problem: Entropic, f, g, images, sent, received, x) -> Swept:
    (a, b), sides, epsilon = problem.weights, problem.sides, problem.epsilon
    paid = jnp.sum(jnp.where(a > 0, a * sides[0].conjugate(-f), 0.0))
    paid += jnp.sum(jnp.where(b > 0, b * sides[1].conjugate(-g), 0.0))
    return Swept(
        f=jnp.where(a > 0, f, 0.0),
        g=g,
        cross=images.T @ x,
        second=(x.T * sent) @ x,
        sent=sent,
        received=received,
        error=jnp.sum(jnp.abs(received - _wanted(problem, g))) / jnp.sum(b),
        dual=-paid - epsilon * (jnp.sum(sent) - jnp.sum(a) * jnp.sum(b)),
    )


def _wanted(problem: Entropic, g: Float[Array, " m"]) -> Float[Array, " m"]:
    """The second marginal that a potential asks for: the weights, where they are fixed."""
    b = problem.weights[1]
    return jnp.where(b > 0, b * problem.sides[1].share(g), 0.0)


def _log(x: Array) -> Array:
    return jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


def _bounded(change: Array) -> Array:
    """How far a potential may go while the kernel is kept: entries of the kernel that underflowed
    do not answer, and must be made again before they can."""
    most = 0.2 * jnp.log(jnp.finfo(change.dtype).max)
    return jnp.clip(change, -most, most)
