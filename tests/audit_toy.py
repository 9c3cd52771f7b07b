"""A transformer of two layers that reads characters: small enough to audit in a test."""

import types

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from meanfield.attention import CausalAttention, MultiheadAttention
from meanfield.measure import ConditionalMeasure, Measure


LETTERS = "abcdefghijklmnopqrstuvwxyz "


def toy(*, causal=False, heads=2, dim=4, layers=2, strange=0) -> types.SimpleNamespace:
    """What `mf.audit` needs of a model; past position `strange` the first layer's points grow."""
    keys = jr.split(jr.key(3), layers + 1)
    attentions = [MultiheadAttention.random(dim=dim, heads=heads, key=key) for key in keys[1:]]
    attentions = [CausalAttention(a) if causal else a for a in attentions]
    table = jr.normal(keys[0], (len(LETTERS) + 2, dim))

    def contexts(ids):
        n = len(ids)
        x = table[np.asarray(ids)] + jnp.sin(jnp.arange(n)[:, None] * jnp.arange(1, dim + 1)) / 4
        if strange:
            x = jnp.where(jnp.arange(n)[:, None] >= strange, 6 * x, x)
        kind = ConditionalMeasure.from_sequence if causal else Measure
        return tuple(kind(x / (1 + layer)) for layer in range(layers))

    def tokenize(text):
        found = [LETTERS.index(c) for c in text.lower() if c in LETTERS]
        if not found:
            raise ValueError("`text` must hold at least one token.")
        return np.array([len(LETTERS), *found, len(LETTERS) + 1])

    return types.SimpleNamespace(
        path=None,
        family="toy",
        causal=causal,
        dim=dim,
        parameters=1000,
        max_tokens=64,
        hashes={"toy.safetensors": "00" * 32},
        config={"dim": dim},
        layers=tuple(types.SimpleNamespace(attention=a, norm=None) for a in attentions),
        contexts=contexts,
        tokenize=tokenize,
        tokens=lambda ids: [[*LETTERS, "[CLS]", "[SEP]"][int(i)] for i in ids],
        hidden=lambda ids: jax.numpy.stack([mu.points for mu in contexts(ids)] * 2),
    )


TEXT = "the quick brown fox jumps over the lazy dog and runs away"
