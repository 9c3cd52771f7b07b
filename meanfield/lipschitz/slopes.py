r"""First-order slopes of a map between measures in $W_1$, $W_2$ and $W_\infty$, with witnesses.

The slope at mu is the limit of the largest ratio of output to input distances in small balls. It
depends on what the adversary may do: move atoms, split them, or (in $W_1$ and $W_2$) send a
vanishing mass far away, along a chord. Theorems and proofs: docs, theory/slopes.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..attention import AbstractInContextMap, AnyMeasure
from ..measure import AbstractDomain
from ..measure.inside import check_inside
from .chords import steepest_chord
from .fields import Best, alone_like, entry_of, lengths, unit
from .jacobian import jacobian
from .local import local_lipschitz


class Slopes(eqx.Module):
    r"""The slopes of a map at a measure, each with a witness.

    For p = 2 the first two are singular values; otherwise the supremum over directions or targets
    is found by a local search, so that the number is what the witness beside it gives: an estimate
    of the supremum from below.

    Attributes:
      move: what moving whole atoms can do, along `move_field`.
      split: what splitting them can do besides (never below `move`): the part of `split_atom` that
        leaves in the direction `split_direction`, while all atoms move along `split_field`.
        p = 1: a vanishing part. p = 2: two halves, in both directions. p = inf: one particle.
      chord: what a vanishing part of `chord_atom` does that goes to `chord_target` in the domain; 0
        without a domain, and for p = inf, where nothing may go far.
      p: the exponent.
    """

    move: Float[Array, ""]
    split: Float[Array, ""]
    chord: Float[Array, ""]
    move_field: Float[Array, "*n d"]
    split_atom: Int[Array, ""]
    split_direction: Float[Array, " d"]
    split_field: Float[Array, "*n d"]
    chord_atom: Int[Array, ""]
    chord_target: Float[Array, " d"]
    p: float = eqx.field(static=True)

    @property
    def value(self) -> Float[Array, ""]:
        """The largest of the three."""
        return jnp.maximum(jnp.maximum(self.move, self.split), self.chord)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={float(getattr(self, name)):.4g}" for name in _PARTS)
        return f"Slopes(p={self.p:g}, {parts})"


_PARTS = ("move", "split", "chord")


def slopes(
    f: AbstractInContextMap,
    mu: AnyMeasure,
    p: float | int = 2,
    *,
    domain: AbstractDomain | None = None,
    key: PRNGKeyArray,
    starts: int = 8,
    steps: int = 60,
) -> Slopes:
    r"""The slopes of $F(\mu) = G(\mu, \cdot)_\# \mu$ at mu for p in {1, 2, inf}.

    With D_i, B_ij the blocks of the derivative (docs: theory/regularity), $W_2$: ||J|| and
    $\max_i \|D_i\|$; $W_1$:
    $\sup_{i, |u|=1} |D_i u + B_{ii} u| + \sum_{l \ne i} \frac{a_l}{a_i} |B_{li} u|$, and
    $|D_i u| + \sum_l \frac{a_l}{a_i} |B_{li} u|$ with splitting; $W_\infty$: the same for rows and
    transposes without the masses. Chords: $|G(\mu, z) - G(\mu, x_i)| / |z - x_i|$ in $W_2$; in
    $W_1$ with what the context does to all atoms besides.

    Args:
      f, mu: the map and the measure.
      p: 1, 2 or jnp.inf.
      domain: where far mass may go; it must contain mu. None for no chords.
      key: for the random directions of the search.
      starts: how many random directions are tried for each atom.
      steps: of each search. For p = 1, inf about `starts` * `steps` products with J for each atom.

    Raises:
      ValueError: another p; a domain that does not contain mu.
    """
    check_inside(mu, domain)
    if p not in (1, 2, math.inf):
        raise ValueError(f"`p` must be 1, 2 or jnp.inf; got {p}.")
    p = float(p)
    # what stands where nothing is must not reach a gradient: zero times NaN is NaN
    mu = mu.with_points(jnp.where(mu.masses[..., None] > 0, mu.points, 0))
    local_key, draw_key = jr.split(key)
    draws = jr.normal(draw_key, (starts, mu.dim), mu.points.dtype)
    if p == 2:
        found = _in_two(f, mu, local_key)
    else:
        found = (_in_one if p == 1 else _in_infinity)(f, mu, draws, steps)
    move, split, move_field, split_field = found
    none = Best(jnp.zeros_like(move), jnp.asarray(0), jnp.zeros_like(draws[0]))
    reach = (
        none if domain is None or p == math.inf else steepest_chord(f, mu, domain, draws, steps, p)
    )
    return Slopes(
        move=move,
        split=jnp.maximum(split.value, move),
        chord=reach.value,
        move_field=move_field,
        split_atom=split.atom,
        split_direction=split.point,
        split_field=split_field,
        chord_atom=reach.atom,
        chord_target=reach.point,
        p=p,
    )


def _in_two(f, mu, key):
    moved = local_lipschitz(f, mu, key=key, splitting=False, upper=False, rtol=1e-6, throw=False)
    norms, directions = query_directions(f, mu, key=key)
    best = jnp.argmax(norms)
    split = Best(norms.reshape(-1)[best], best, directions.reshape(-1, mu.dim)[best])
    return moved.value, split, moved.tangent, jnp.zeros_like(moved.tangent)


@eqx.filter_jit
def query_directions(
    f: AbstractInContextMap, mu: AnyMeasure, *, key: PRNGKeyArray, steps: int = 60
) -> tuple[Float[Array, "*n"], Float[Array, "*n d"]]:
    """The norms of all D_i, in the layout of `mu.masses`, and the directions in which they are
    reached, by power iteration from one random direction: lower estimates that are attained."""
    derivative = jacobian(f, mu)
    present = mu.masses[..., None] > 0

    def step(u, _):
        pulled = derivative.split_transpose(jnp.where(present, derivative.split(u), 0.0))
        return unit(jnp.where(present, pulled, 0.0), u), None

    start = jr.normal(key, (mu.dim,), mu.points.dtype)
    start = jnp.where(present, start / jnp.linalg.norm(start), 0.0)
    u, _ = jax.lax.scan(step, start, None, length=steps)
    norms = jnp.linalg.norm(jnp.where(present, derivative.split(u), 0.0), axis=-1)
    return norms, u


@eqx.filter_jit
def _in_one(f, mu, draws, steps):
    derivative, masses = jacobian(f, mu), mu.masses

    def total(i, u, splitting):
        field = alone_like(mu.points, i, u)
        out = jnp.where(masses[..., None] > 0, derivative.smooth(field), 0.0)
        own = entry_of(masses[..., None], i)[0]
        share = masses / jnp.where(own > 0, own, 1.0)
        query = entry_of(derivative.split(field), i)
        if not splitting:
            return jnp.sum(share * lengths(out))
        bulk = out - alone_like(out, i, query)
        return lengths(query) + jnp.sum(share * lengths(bulk))

    move = _over_atoms(lambda i, u: total(i, u, False), mu, draws, steps)
    split = _over_atoms(lambda i, u: total(i, u, True), mu, draws, steps)
    return (
        move.value,
        split,
        alone_like(mu.points, move.atom, move.point),
        jnp.zeros_like(mu.points),
    )


@eqx.filter_jit
def _in_infinity(f, mu, draws, steps):
    derivative = jacobian(f, mu)
    e = derivative.outputs.shape[-1]
    draws = jnp.resize(draws, (len(draws), e)) if e != mu.dim else draws
    present = mu.masses > 0

    def pulled(i, w):
        back = derivative.smooth_transpose(alone_like(derivative.outputs, i, w))
        own = derivative.split_transpose(alone_like(derivative.outputs, i, w))
        return jnp.where(present[..., None], back, 0.0), entry_of(own, i)

    def together(i, w):
        return jnp.sum(lengths(pulled(i, w)[0]))

    def apart(i, w):
        back, own = pulled(i, w)
        return lengths(own) + jnp.sum(lengths(back - alone_like(back, i, own)))

    move = _over_atoms(together, mu, draws, steps)
    split = _over_atoms(apart, mu, draws, steps)
    back, own = pulled(split.atom, split.point)
    bulk = back - alone_like(back, split.atom, own)
    field, _ = pulled(move.atom, move.point)
    alone = Best(split.value, split.atom, unit(own, jnp.zeros_like(own)))
    return move.value, alone, unit(field, 0 * field), unit(bulk, 0 * bulk)


def _over_atoms(height: Callable, mu: AnyMeasure, draws: Array, steps: int) -> Best:
    """The largest value of a norm `height(i, .)` over unit vectors and atoms that have mass.

    The height is convex and homogeneous, so that u <- unit(gradient) never lowers it.
    """
    masses = mu.masses.reshape(-1)

    def climb(pair):
        i, start = pair
        of_u = jax.grad(lambda u: height(i, u))
        start = start / jnp.linalg.norm(start)
        u, _ = jax.lax.scan(lambda u, _: (unit(of_u(u), u), None), start, None, length=steps)
        return jnp.where(masses[i] > 0, height(i, u), 0.0), u

    atoms = jnp.repeat(jnp.arange(masses.size), len(draws))
    values, points = jax.lax.map(
        climb, (atoms, jnp.tile(draws, (masses.size, 1))), batch_size=len(draws)
    )
    best = jnp.argmax(values)
    return Best(values[best], atoms[best], points[best])
