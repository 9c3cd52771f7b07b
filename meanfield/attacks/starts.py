"""Where searches start: the exact tangent, halves pulled apart, little mass sent far, chance."""

from functools import singledispatch

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..attention import AbstractAttention, AbstractInContextMap, AnyMeasure, CausalAttention
from ..lipschitz import local_lipschitz, query_directions
from .copies import Copies


# How much of an atom is sent far, in the starts that peel: shares e^-2 ... e^-10.
_LOG_SHARES = (-2.0, -4.0, -6.0, -8.0, -10.0)
# How many atoms are pulled apart or peeled, and along how many directions.
_ATOMS, _DIRECTIONS = 2, 2


class Start(eqx.Module):
    """The local constant at a measure and what the starts are made of.

    Args:
      value: the local constant, with the split part if `splitting`.
      tangent: the worst field of moves.
      shares: the share of each atom in it.
      split_norms, split_directions: the norm of each D_i and where it is reached.
    """

    value: Float[Array, ""]
    tangent: Float[Array, "*n d"]
    shares: Float[Array, "*n"]
    split_norms: Float[Array, "*n"]
    split_directions: Float[Array, "*n d"]


def local_start(
    f: AbstractInContextMap, mu: AnyMeasure, *, splitting: bool, key: PRNGKeyArray
) -> Start:
    """The exact local tangent of moves, and the direction in which each atom is best split."""
    one, other = jr.split(key)
    found = local_lipschitz(f, mu, key=one, splitting=False, upper=False, rtol=1e-4, throw=False)
    if splitting:
        norms, directions = query_directions(f, mu, key=other)
    else:
        norms, directions = jnp.zeros_like(mu.masses), jnp.zeros_like(mu.points)
    value = jnp.maximum(found.value, jnp.max(norms))
    return Start(value, found.tangent, found.shares, norms, directions)


def moving_starts(start: Start, mu: AnyMeasure, copies: int) -> list[Copies]:
    """The worst tangent and its opposite, all copies together."""
    moves = np.repeat(np.asarray(start.tangent)[..., None, :], copies, axis=-2)
    return [_even(moves), _even(-moves)]


def splitting_starts(start: Start, mu: AnyMeasure, copies: int) -> list[Copies]:
    """The copies of one atom in the two directions of its best split, for the best atoms."""
    signs = np.asarray([1.0, -1.0] * (copies // 2) + [0.0] * (copies % 2))
    directions = np.asarray(start.split_directions).reshape(-1, mu.dim)
    starts = []
    for i in np.argsort(-np.asarray(start.split_norms).reshape(-1))[:_ATOMS]:
        moves = np.zeros((mu.masses.size, copies, mu.dim), directions.dtype)
        moves[i] = signs[:, None] * directions[i]
        starts.append(_even(moves.reshape(*mu.masses.shape, copies, mu.dim)))
    return starts


def peeling_starts(
    start: Start, f: AbstractInContextMap, mu: AnyMeasure, copies: int
) -> list[Copies]:
    """A small share of one atom sent along a direction that others look in, or the tangent's."""
    masses = np.asarray(mu.masses).reshape(-1)
    worst = np.argsort(-np.asarray(start.shares).reshape(-1))[:_ATOMS]
    lightest = np.argmin(np.where(masses > 0, masses, np.inf))
    tangent = np.asarray(start.tangent).reshape(-1, mu.dim)
    looked_in = [np.asarray(u) for u in pulls(f, mu)[:_DIRECTIONS]]
    starts = []
    for i in sorted({int(lightest), *map(int, worst)}):
        for u in [*looked_in, tangent[i]]:
            starts += [_peeled(mu, i, u, log_share, copies) for log_share in _LOG_SHARES]
    return starts


def _peeled(mu: AnyMeasure, i: int, u: np.ndarray, log_share: float, copies: int) -> Copies:
    shape = (*mu.masses.shape, copies)
    moves = np.zeros((mu.masses.size, copies, mu.dim), u.dtype)
    logits = np.zeros((mu.masses.size, copies), u.dtype)
    moves[i, -1], logits[i, -1] = u, log_share
    return Copies(moves.reshape(*shape, mu.dim), logits.reshape(shape))


def random_starts(
    mu: AnyMeasure, copies: int, number: int, key: PRNGKeyArray, *, free: bool
) -> list[Copies]:
    """Independent normal moves, with unequal shares if mass is free."""
    shape = (number, *mu.masses.shape, copies, mu.dim + 1)
    drawn = np.asarray(jr.normal(key, shape, mu.points.dtype))
    present = np.asarray(mu.masses > 0)[..., None, None]
    moves = np.where(present, drawn[..., :-1], 0.0).astype(drawn.dtype)
    logits = 2 * drawn[..., -1] if free else np.zeros_like(drawn[..., -1])
    return [Copies(*pair) for pair in zip(moves, logits, strict=True)]


def _even(moves: np.ndarray) -> Copies:
    return Copies(moves, np.zeros(moves.shape[:-1], moves.dtype))


@singledispatch
def pulls(f: AbstractInContextMap, mu: AnyMeasure) -> list[Float[Array, " d"]]:
    """Unit directions in which a key gains weight before the heavy queries; none where unknown."""
    return []


@pulls.register
def _(f: CausalAttention, mu: AnyMeasure) -> list[Float[Array, " d"]]:
    return pulls(f.attention, mu)


@pulls.register
def _(f: AbstractAttention, mu: AnyMeasure) -> list[Float[Array, " d"]]:
    return list(_looked_in(f, mu))


@eqx.filter_jit
def _looked_in(f: AbstractAttention, mu: AnyMeasure) -> Float[Array, "2 d"]:
    """Where the score of the heaviest query grows fastest at the mean, and that of all together."""
    seen = f.attending(mu, mu.points)
    mean = jnp.sum(mu.masses[..., None] * jnp.where(mu.masses[..., None] > 0, mu.points, 0), -2)
    mean = (mean if mean.ndim == 1 else jnp.sum(mean, 0)) / jnp.sum(mu.masses)
    position = None if mu.positions is None else jnp.zeros(1, jnp.int32)
    mass = mu.masses.reshape(-1)
    queries = jnp.where(mass[:, None] > 0, seen.queries, 0.0)
    average = jnp.einsum("n,hnk->hk", mass, queries)
    heaviest = queries[:, jnp.argmax(mass)]

    def slope(features):
        def score(y):
            return jnp.sum(features * f.keys(y[None], position)[:, 0])

        return jax.grad(score)(mean)

    found = jnp.stack([slope(heaviest), slope(average)])
    return found / jnp.maximum(jnp.linalg.norm(found, axis=-1, keepdims=True), 1e-30)
