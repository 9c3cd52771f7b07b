"""Chords: what a vanishing mass does to the output when it travels far (docs: theory/slopes)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..attention import AbstractInContextMap, AnyMeasure
from ..measure import AbstractDomain, ConditionalMeasure, Measure
from .fields import Best, alone_like, entry_of, lengths, put, unit


# The mass at which derivatives with respect to the mass of an absent atom are taken, as a share.
_VANISHING = 1e-20


@eqx.filter_jit
def steepest_chord(
    f: AbstractInContextMap,
    mu: AnyMeasure,
    domain: AbstractDomain,
    draws: Float[Array, "starts d"],
    steps: int,
    p: float,
) -> Best:
    """The steepest chord from an atom to a point of the domain, by projected gradient ascent."""
    atoms = mu.atoms
    here = f.at(mu, mu.points)
    within = domain.project(domain.radius * draws / jnp.linalg.norm(draws, axis=-1, keepdims=True))

    def slope(i, z):
        gap = lengths(z - jnp.where(mu.masses.reshape(-1)[i] > 0, atoms.points[i], 0.0))
        there = entry_of(f.at(mu, put(mu.points, i, z)), i)
        rise = lengths(there - entry_of(here, i))
        if p == 1:
            rise += _context_rise(f, mu, i, z)
        return rise / jnp.where(gap > 0, gap, jnp.inf)

    def climb(pair):
        i, start = pair

        def step(state, rate):
            z, best, best_value = state
            value, gradient = jax.value_and_grad(slope, argnums=1)(i, z)
            better = value > best_value
            best, best_value = jnp.where(better, z, best), jnp.maximum(value, best_value)
            gap = lengths(z - atoms.points[i])
            z = domain.project(z + rate * gap * unit(gradient, gradient))
            return (z, best, best_value), None

        state = (start, start, jnp.zeros((), start.dtype))
        (_, z, value), _ = jax.lax.scan(step, state, 0.3 * 0.93 ** jnp.arange(steps))
        return jnp.where(mu.masses.reshape(-1)[i] > 0, value, 0.0), z

    n = atoms.size
    # from the boundary and from half way to it, for every atom; absent atoms start at zero, inert
    near = (within[None] + atoms.points[:, None]) / 2
    near = jnp.where(atoms.present[:, None, None], near, 0.0)
    starts = jnp.concatenate([jnp.tile(within, (n, 1, 1)), domain.project(near)], axis=1)
    index = jnp.repeat(jnp.arange(n), starts.shape[1])
    values, points = jax.lax.map(
        climb, (index, starts.reshape(-1, mu.dim)), batch_size=starts.shape[1]
    )
    best = jnp.argmax(values)
    return Best(values[best], index[best], points[best])


def _context_rise(f, mu: AnyMeasure, i: Array, z: Array) -> Float[Array, ""]:
    r"""$\sum_l a_l |\partial_s G(\mu + s(\delta_z - \delta_{x_i}), x_l)|$ at s = 0, for any f."""
    masses, total = mu.masses, jnp.sum(mu.masses)
    k = mu.points.shape[-2]
    width = k + 1 if isinstance(mu, ConditionalMeasure) else mu.size + 1
    last = jnp.zeros(width).at[-1].set(1.0)
    leave = alone_like(masses[..., None], i, jnp.ones(1))[..., 0]
    if isinstance(mu, Measure):
        points = jnp.concatenate([mu.points, z[None]])
        tiny = _VANISHING * total * last
        weights, change = jnp.append(mu.weights, 0.0) + tiny, last - jnp.append(leave, 0.0)

        def image(w):
            return f.at(Measure(points, w), mu.points)
    else:
        fibre = i // k
        column = jnp.broadcast_to(z, (mu.size, 1, mu.dim))
        points = jnp.concatenate([mu.points, column], axis=1)
        at_fibre = (jnp.arange(mu.size) == fibre)[:, None] * last
        base = mu.base[fibre]
        weights = jnp.pad(mu.weights, ((0, 0), (0, 1))) + at_fibre * _VANISHING * total / base
        change = (at_fibre - jnp.pad(leave, ((0, 0), (0, 1)))) / base

        def image(w):
            return f.at(ConditionalMeasure(points, w, mu.base), mu.points)

    _, shift = jax.jvp(image, (weights,), (change.astype(weights.dtype),))
    return jnp.sum(jnp.where(masses > 0, masses * lengths(shift), 0.0))
