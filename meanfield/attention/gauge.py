r"""The gauge of attention: its factors can change while the attention does not.

Scores see queries and keys only through $Q^T K$, outputs see values through $O V$. So an invertible
M may act, $(Q, K) \to (M^{-T} Q, M K)$; with rotary positions only one that commutes with all
rotations, a scaled rotation in each plane; behind a norm of queries or keys only a diagonal one.
Proofs: docs/theory/conservation.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .multihead import MultiheadAttention


# The two sides of a product that alone matters, (k, a) and (k, b), as NumPy or JAX arrays.
Pair = tuple[Float[Any, "k a"], Float[Any, "k b"]]


def score_pairs(f: MultiheadAttention) -> list[Pair]:
    """For each group of heads that share keys: queries (k, H/G (d + 1)) and keys (k, d + 1), the
    biases in the last columns, idle ones as zeros. A norm of queries or keys is shared by all
    heads: then there is one pair for the layer, and gamma (k, 1) stands in the place of what is
    behind the norm."""
    xp = f.query_proj.__array_namespace__()
    queries = _beside(f.query_proj, f.query_bias)
    keys = _beside(f.key_proj, _seen_key_bias(f))
    if f.query_norm is None and f.key_norm is None:
        groups = queries.reshape(-1, f.group, *queries.shape[1:])
        return [(_in_a_row(part), key) for part, key in zip(groups, keys, strict=True)]
    left, right = (
        _in_a_row(heads) if norm is None else xp.reshape(norm.gamma, (-1, 1))
        for heads, norm in ((queries, f.query_norm), (keys, f.key_norm))
    )
    return [(left, right)]


def value_pairs(f: MultiheadAttention) -> list[Pair]:
    """For each group: output projections (v, H/G e) and values (v, d + 1), biases last."""
    outputs = f.output_proj.swapaxes(1, 2)
    groups = outputs.reshape(-1, f.group, *outputs.shape[1:])
    values = _beside(f.value_proj, f.value_bias)
    return [(_in_a_row(part), value) for part, value in zip(groups, values, strict=True)]


def score_blocks(f: MultiheadAttention) -> Int[np.ndarray, " k"]:
    """For each coordinate of queries and keys the block that scales as one: a plane of the
    rotation, or a coordinate behind a norm. Coordinates that mix freely have the label -1."""
    k, dims = f.query_proj.shape[1], turning_dims(f)
    blocks = np.full(k, -1)
    blocks[:dims] = np.tile(np.arange(dims // 2), 2)
    if f.query_norm is not None or f.key_norm is not None:
        blocks[dims:] = dims // 2 + np.arange(k - dims)
    return blocks


def turning_dims(f: MultiheadAttention) -> int:
    """How many leading coordinates of queries and keys turn with the position."""
    if f.rotary is None:
        return 0
    return f.query_proj.shape[1] if f.rotary.dims is None else f.rotary.dims


def idle_key_bias(f: MultiheadAttention) -> slice:
    """The coordinates of the key bias that change no share: they do not turn, so they add the same
    to all scores of a query, and a normalised choice sees differences alone."""
    k = f.key_proj.shape[1]
    idle = f.choice.normalised and f.soft_cap is None and f.key_norm is None
    return slice(turning_dims(f) if idle else k, k)


def _seen_key_bias(f: MultiheadAttention) -> Any:
    if f.key_bias is None:
        return None
    seen = np.ones(f.key_bias.shape[1])
    seen[idle_key_bias(f)] = 0
    return f.key_bias * seen.astype(f.key_bias.dtype)


def _beside(matrices: Any, bias: Any) -> Any:
    """(heads, k, d + 1): the bias, or zeros, as the last column."""
    xp = matrices.__array_namespace__()
    column = xp.zeros_like(matrices[..., 0]) if bias is None else bias
    return xp.concat([matrices, column[..., None]], axis=-1)


def _in_a_row(heads: Any) -> Any:
    return heads.__array_namespace__().concat(list(heads), axis=1)
