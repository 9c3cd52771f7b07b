"""What each head looks at: entropy, largest attention, attention sink, range of scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from meanfield.attention import AbstractInContextMap, CausalAttention
from meanfield.measure import ConditionalMeasure, Measure


# Beyond this many atoms the n x n matrix of one head is not formed.
LARGEST = 2048


class HeadFacts(eqx.Module):
    """Five numbers for each head."""

    entropy: Float[Array, "*heads"]
    max_attention: Float[Array, "*heads"]
    sink: Float[Array, "*heads"]
    score_min: Float[Array, "*heads"]
    score_max: Float[Array, "*heads"]


@dataclass(frozen=True)
class HeadStack:
    """Heads of equal shapes as one pytree with a leading axis, so that one program serves all."""

    arrays: AbstractInContextMap
    rest: AbstractInContextMap
    count: int


def stack_heads(heads: Sequence[AbstractInContextMap]) -> HeadStack:
    """The heads of an attention, stacked."""
    split = [eqx.partition(head, lambda leaf: hasattr(leaf, "dtype")) for head in heads]
    arrays = jax.tree.map(
        lambda *leaves: jnp.asarray(np.stack(leaves)), *[arrays for arrays, _ in split]
    )
    return HeadStack(arrays, split[0][1], len(heads))


@eqx.filter_jit
def head_facts(
    arrays: AbstractInContextMap,
    rest: AbstractInContextMap,
    mu: Measure | ConditionalMeasure,
    tokens: Float[Array, ""],
) -> HeadFacts:
    r"""The facts of every head, one head at a time (one n x n matrix in memory).

    The entropy of a query's attention P is $\ln N - KL(P \,\|\, \mu)$, with N tokens seen and the
    measure restricted to them, divided by its greatest value ln N: for equal masses this is the
    Shannon entropy over ln n, and it does not change when equal tokens are merged into masses.
    Queries are averaged by mass.

    Args:
      arrays, rest: the two parts of a `HeadStack`.
      mu: the context.
      tokens: how many tokens the whole context stands for.
    """
    visible = _visible(rest, mu)
    return jax.lax.map(partial(_facts_of, rest=rest, mu=mu, visible=visible, tokens=tokens), arrays)


def _facts_of(arrays, *, rest, mu, visible, tokens) -> HeadFacts:
    head = eqx.combine(arrays, rest)
    shares, scores = head.weights(mu)[0], head.scores(mu)[0]
    mass = mu.atoms.weights
    base = jnp.where(visible, mass, 0)
    seen_mass = jnp.sum(base, axis=1, keepdims=True)
    base = base / jnp.where(seen_mass > 0, seen_mass, 1)
    count = jnp.maximum(tokens * seen_mass[:, 0] / jnp.sum(mass), 1)
    divergence = jnp.sum(_x_log_ratio(shares, base), axis=1)
    choosing = count > 1.5  # a query that sees one token has no choice
    relative = jnp.where(choosing, 1 - divergence / jnp.log(jnp.where(choosing, count, 2)), 0)
    query_mass = jnp.where(choosing, mass, 0)
    query_mass = query_mass / jnp.maximum(jnp.sum(query_mass), 1e-30)
    return HeadFacts(
        entropy=jnp.sum(query_mass * relative),
        max_attention=jnp.max(jnp.where(visible & choosing[:, None], shares, 0)),
        sink=jnp.max(query_mass @ jnp.where(visible, shares, 0)),
        score_min=jnp.min(jnp.where(visible, scores, jnp.inf)),
        score_max=jnp.max(jnp.where(visible, scores, -jnp.inf)),
    )


def _x_log_ratio(x: Float[Array, "m n"], base: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """x log(x / base), zero where x or base is."""
    both = (x > 0) & (base > 0)
    return jnp.where(both, x * jnp.log(jnp.where(both, x, 1) / jnp.where(both, base, 1)), 0)


def _visible(head: AbstractInContextMap, mu: Measure | ConditionalMeasure) -> Bool[Array, "n n"]:
    """Which atoms a query sees: those with mass and, in causal attention, not after it."""
    present = mu.atoms.present
    pairs = present[:, None] & present[None, :]
    if not isinstance(head, CausalAttention):
        return pairs
    assert isinstance(mu, ConditionalMeasure)  # causal attention takes nothing else
    return pairs & head.mask(mu.positions, mu.positions)
