"""Balanced factors: of all that make the same attention, those with the least sum of squares."""

from functools import singledispatch
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from .causal import CausalAttention
from .gauge import idle_key_bias, score_blocks, score_pairs, value_pairs
from .multihead import MultiheadAttention


Matrix = Float[np.ndarray, "_ _"]


@singledispatch
def balance_gauge(
    f: MultiheadAttention | CausalAttention,
) -> MultiheadAttention | CausalAttention:
    r"""The same attention with balanced factors, which have the least sum of squares:
    $Q Q^T = K K^T$ and $V V^T = O^T O$ for each head, with Q of shape (k, d) and biases as one
    more column, and then $\|Q\|_F^2 + \|K\|_F^2 = 2 \|Q^T K\|_*$.

    Of all balanced factors these are the nearest to the given ones: what is balanced stays as it
    is. Query heads that share keys are balanced together, $\sum_h Q_h Q_h^T = K K^T$. With rotary
    positions, or norms of queries or keys, the symmetry is smaller: each plane of the rotation,
    each coordinate behind a norm, is scaled until both sides have the same norm in it. A key bias
    that changes no share becomes zero.

    Computed on the host in float64, in the dtype of f at the end; not for use under `jit`.

    Args:
      f: a `MultiheadAttention`, or a `CausalAttention` of one.

    Raises:
      TypeError: for an attention that has no pair of factors to balance.

    References: {cite}`kobayashi2024`.
    """
    raise TypeError(
        "`f` must be a MultiheadAttention, or a CausalAttention of one, to have factors that can "
        f"be balanced; got {type(f).__name__}."
    )


@balance_gauge.register
def _(f: CausalAttention) -> CausalAttention:
    return eqx.tree_at(lambda g: g.attention, f, balance_gauge(f.attention))


@balance_gauge.register
def _(f: MultiheadAttention) -> MultiheadAttention:
    wide = _balanced_values(_balanced_scores(on_host(f)))
    if wide.key_bias is not None:
        wide.key_bias[:, idle_key_bias(f)] = 0
    return jax.tree.map(
        lambda new, old: jnp.asarray(new, old.dtype) if eqx.is_inexact_array(old) else old, wide, f
    )


def balancedness(f: MultiheadAttention) -> dict[str, Float[np.ndarray, " groups"]]:
    r"""How far each group of heads is from balance, 0 for balanced and at most 1:
    $\|Q Q^T - K K^T\|_F / (\|Q\|_F^2 + \|K\|_F^2)$ under "query_key", and the same of $O^T O$ and
    $V V^T$ under "value_output", biases included as in `balance_gauge`.

    Where only scalings are symmetries, $Q Q^T - K K^T$ is the differences that these can change.
    Norms of queries or keys are shared by all heads, so that there is one number for the layer.
    """
    wide = on_host(f)
    blocks, free = score_blocks(f), np.full(f.value_proj.shape[1], -1)
    return {
        "query_key": np.array([_imbalance(*pair, blocks) for pair in score_pairs(wide)]),
        "value_output": np.array([_imbalance(*pair, free) for pair in value_pairs(wide)]),
    }


def on_host(f: MultiheadAttention) -> MultiheadAttention:
    """f with NumPy arrays in float64, all of them copies."""
    return jax.tree.map(lambda x: np.array(x, np.float64) if eqx.is_inexact_array(x) else x, f)


def balanced_pair(left: Matrix, right: Matrix) -> tuple[Matrix, Matrix]:
    r"""L and R of shapes (k, a) and (k, b) with the given $L^T R = U S W^T$ and with
    $L L^T = R R^T$: $L = \Omega S^{1/2} U^T$, $R = \Omega S^{1/2} W^T$, with the rotation $\Omega$
    that keeps them nearest to the given ones."""
    (z, inner), (w, core) = np.linalg.qr(left.T), np.linalg.qr(right.T)
    U, S, Wt = np.linalg.svd(inner @ core.T, full_matrices=False)
    root = np.eye(len(left), len(S)) * np.sqrt(S)
    new_left, new_right = root @ (z @ U).T, root @ (Wt @ w.T)
    a, _, b = np.linalg.svd(left @ new_left.T + right @ new_right.T)
    return a @ b @ new_left, a @ b @ new_right


def balancing_scales(
    left: Matrix, right: Matrix, blocks: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Factors for the rows of two matrices that give both the same norm in each block of rows and
    keep the products of blocks; zeros for a block that vanishes on either side."""
    ours, theirs = (_by_block(np.sum(side**2, axis=1), blocks) for side in (left, right))
    seen = (ours > 0) & (theirs > 0)
    scale = (np.where(seen, theirs, 1) / np.where(seen, ours, 1)) ** 0.25
    return np.where(seen, scale, 0)[blocks], np.where(seen, 1 / scale, 0)[blocks]


def _balanced_scores(f: MultiheadAttention) -> MultiheadAttention:
    blocks, pairs = score_blocks(f), score_pairs(f)
    if f.query_norm is not None or f.key_norm is not None:
        one, other = balancing_scales(*pairs[0], blocks)
        return _scaled_side(_scaled_side(f, "query", one), "key", other)
    left, right = zip(*(_balanced(*pair, blocks) for pair in pairs), strict=True)
    queries, keys = _out_of_a_row(left, f.group), np.stack(right)
    return _with(
        f,
        query_proj=queries[..., :-1],
        query_bias=queries[..., -1],
        key_proj=keys[..., :-1],
        key_bias=keys[..., -1],
    )


def _balanced(left: Matrix, right: Matrix, blocks: Int[np.ndarray, " k"]) -> tuple[Matrix, Matrix]:
    free = blocks < 0
    new = np.zeros_like(left), np.zeros_like(right)
    if free.any():
        new[0][free], new[1][free] = balanced_pair(left[free], right[free])
    scales = balancing_scales(left[~free], right[~free], blocks[~free])
    for side, old, scale in zip(new, (left, right), scales, strict=True):
        side[~free] = scale[:, None] * old[~free]
    return new


def _scaled_side(f: MultiheadAttention, side: str, scale: np.ndarray) -> MultiheadAttention:
    """Rows of the queries or keys of all heads scaled, or the gamma of the norm behind them."""
    norm = getattr(f, f"{side}_norm")
    if norm is not None:
        scaled = eqx.tree_at(lambda n: n.gamma, norm, scale * norm.gamma)
        return eqx.tree_at(lambda g: getattr(g, f"{side}_norm"), f, scaled)
    matrices, bias = getattr(f, f"{side}_proj"), getattr(f, f"{side}_bias")
    rows = {f"{side}_proj": scale[:, None] * matrices}
    return _with(f, **rows, **({} if bias is None else {f"{side}_bias": scale * bias}))


def _balanced_values(f: MultiheadAttention) -> MultiheadAttention:
    left, right = zip(*(balanced_pair(*pair) for pair in value_pairs(f)), strict=True)
    outputs, values = _out_of_a_row(left, f.group).swapaxes(1, 2), np.stack(right)
    return _with(f, output_proj=outputs, value_proj=values[..., :-1], value_bias=values[..., -1])


def _imbalance(left: Matrix, right: Matrix, blocks: Int[np.ndarray, " k"]) -> float:
    apart, free = left @ left.T - right @ right.T, blocks < 0
    by_block = _by_block(np.diag(apart)[~free], blocks[~free])
    mixed = apart[np.ix_(free, free)]
    size = np.sum(left**2) + np.sum(right**2)
    return float(np.hypot(np.linalg.norm(by_block), np.linalg.norm(mixed)) / max(size, 1e-300))


def _by_block(values: Float[np.ndarray, " k"], blocks: Int[np.ndarray, " k"]) -> np.ndarray:
    return np.bincount(blocks, values) if len(blocks) else np.zeros(0)


def _out_of_a_row(groups: tuple[Matrix, ...], count: int) -> Float[np.ndarray, "H k a"]:
    return np.concatenate([np.stack(np.split(row, count, axis=1)) for row in groups])


def _with(f: MultiheadAttention, **arrays: Any) -> MultiheadAttention:
    """f with other arrays; what was None stays None."""
    names = [name for name in arrays if getattr(f, name) is not None]
    return eqx.tree_at(
        lambda g: [getattr(g, name) for name in names], f, [arrays[name] for name in names]
    )
