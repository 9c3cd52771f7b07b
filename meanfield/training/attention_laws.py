r"""What gradient flow conserves in the layers of a transformer (proofs: docs/theory/conservation).

Each law belongs to a symmetry whose generator is a gradient: where $(Q, K) \to (M^{-T} Q, M K)$
changes nothing for any invertible M, the symmetric matrix $Q Q^T - K K^T$ stays as it is.
"""

from collections.abc import Callable
from functools import singledispatch

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.attention import (
    MLP,
    AbstractInContextMap,
    Affine,
    CausalAttention,
    Composition,
    L2Attention,
    LayerNorm,
    MultiheadAttention,
    Residual,
    RMSNorm,
)
from meanfield.attention.gauge import idle_key_bias, score_blocks, score_pairs, value_pairs


Laws = dict[str, Float[Array, "..."]]


def attention_laws(f: MultiheadAttention) -> Laws:
    r"""Tensors of which every entry is conserved by gradient flow, whatever the data and the loss.

    With G groups of heads that share keys, Q of shape (k, d) and biases as one more column:

    - "query_key", (G, k, k): $\sum_h Q_h Q_h^T - K K^T$ over the heads of the group;
    - "query_key_planes", (G, k/2), in its place for coordinates that turn (rotary positions):
      the difference of the squared norms of queries and keys in each plane;
    - "query_key_norms", (1, k), in its place behind a norm of queries or keys: the same for each
      coordinate (each plane, with rotary positions), with gamma for what is behind its norm;
    - "value_output", (G, v, v): $V V^T - \sum_h O_h^T O_h$;
    - "key_bias", (G, k): the bias itself, in coordinates where it changes no share.

    Args:
      f: the attention; `layer_laws` takes whole blocks.

    References: {cite}`marcotte2025`, {cite}`tran2026`.
    """
    laws = _score_laws(f)
    laws["value_output"] = jnp.stack([V @ V.T - O @ O.T for O, V in value_pairs(f)])
    idle = idle_key_bias(f)
    if f.key_bias is not None and len(range(*idle.indices(f.key_bias.shape[1]))):
        laws["key_bias"] = f.key_bias[:, idle]
    return laws


@singledispatch
def layer_laws(f: AbstractInContextMap) -> Laws:
    r"""The known laws of a map, as `attention_laws` has them; those of the parts of a `Composition`
    have the number of the part in front. A skip connection changes nothing.

    - `MLP`, "in_out": for each hidden unit, $|W_{1,i}|^2 + b_{1,i}^2 - m |W_{2,:i}|^2$ for an
      activation that is positively homogeneous of degree m, or for the factor beside a gate
      (m = 1); "gate_out": the same of a gate with such an activation. For no activation at all,
      the whole matrix $W_1 W_1^T + b_1 b_1^T - W_2^T W_2$. For gelu or silu without a gate: none.
    - a norm before an attention, a perceptron or an affine map, "norm_columns":
      $\gamma_j^2 + \beta_j^2$ less the squares of all that reads coordinate j.

    A map without a rule has no known law; `find_quadratic_laws` looks for unknown ones.
    """
    return {}


@layer_laws.register
def _(f: MultiheadAttention) -> Laws:
    return attention_laws(f)


@layer_laws.register
def _(f: CausalAttention) -> Laws:
    return layer_laws(f.attention)


@layer_laws.register
def _(f: L2Attention) -> Laws:
    return {
        "value_output": jnp.stack(
            [V @ V.T - O.T @ O for V, O in zip(f.value_proj, f.output_proj, strict=True)]
        )
    }


@layer_laws.register
def _(f: Residual) -> Laws:
    return layer_laws(f.f)


@layer_laws.register
def _(f: Composition) -> Laws:
    laws: Laws = {}
    for i, part in enumerate(f.maps):
        laws |= {f"{i}.{name}": law for name, law in layer_laws(part).items()}
    for i, (norm, reader) in enumerate(zip(f.maps, f.maps[1:], strict=False)):
        if isinstance(norm, LayerNorm | RMSNorm) and (columns := _columns_read(reader)):
            read = sum(jnp.sum(matrix**2, axis=tuple(range(matrix.ndim - 1))) for matrix in columns)
            shift = getattr(norm, "beta", None)
            laws[f"{i}.norm_columns"] = norm.gamma**2 + (0 if shift is None else shift**2) - read
    return laws


@layer_laws.register
def _(f: MLP) -> Laws:
    out, degree = f.weight_out, homogeneity(f.activation)
    if f.gate is not None:
        laws = {"in_out": _rows(f.weight_in, f.bias_in) - _rows(out.T)}
        if degree is not None:
            laws["gate_out"] = _rows(f.gate, f.gate_bias) - degree * _rows(out.T)
        return laws
    if _is_linear(f.activation):
        W = f.weight_in if f.bias_in is None else jnp.column_stack([f.weight_in, f.bias_in])
        return {"in_out": W @ W.T - out.T @ out}
    if degree is None:
        return {}
    return {"in_out": _rows(f.weight_in, f.bias_in) - degree * _rows(out.T)}


def homogeneity(activation: Callable[[Array], Array]) -> float | None:
    r"""The m with $\phi(st) = s^m \phi(t)$ for all s > 0, or None; seen at points, not proved."""
    t = np.concatenate([np.geomspace(0.01, 10, 25), -np.geomspace(0.01, 10, 25)])
    once, twice = (_at(activation, s * t) for s in (1, 2))
    seen = once != 0
    if not seen.any() or np.any(twice[~seen] != 0) or np.any(twice[seen] * once[seen] <= 0):
        return None
    degrees = np.log2(twice[seen] / once[seen])
    return float(degrees[0].round(6)) if np.ptp(degrees) < 1e-5 and degrees[0] > 0 else None


def _is_linear(activation: Callable[[Array], Array]) -> bool:
    one, other = _at(activation, np.array([1.0, -1.0]))
    return homogeneity(activation) == 1.0 and bool(one == -other)


def _at(activation: Callable[[Array], Array], t: np.ndarray) -> np.ndarray:
    with jax.ensure_compile_time_eval():  # laws may be traced, their degrees are not
        return np.asarray(activation(jnp.asarray(t)), np.float64)


def _score_laws(f: MultiheadAttention) -> Laws:
    blocks, pairs = score_blocks(f), score_pairs(f)
    free, count = blocks < 0, int(blocks.max(initial=-1)) + 1
    laws = {}
    if count:
        normed = f.query_norm is not None or f.key_norm is not None
        apart = jnp.stack([_rows(left) - _rows(right) for left, right in pairs])[:, ~free]
        by_block = jnp.zeros((len(pairs), count), apart.dtype).at[:, blocks[~free]].add(apart)
        laws["query_key_norms" if normed else "query_key_planes"] = by_block
    if free.any():
        parts = [(left[free], right[free]) for left, right in pairs]
        laws["query_key"] = jnp.stack([L @ L.T - R @ R.T for L, R in parts])
    return laws


def _columns_read(f: AbstractInContextMap) -> list[Array]:
    """The matrices that a map applies to its points, if it does nothing else with them."""
    if isinstance(f, CausalAttention):
        return _columns_read(f.attention)
    if isinstance(f, MultiheadAttention):
        return [f.query_proj, f.key_proj, f.value_proj]
    if isinstance(f, L2Attention):
        return [f.query_proj, f.key_proj, f.value_proj]
    if isinstance(f, MLP):
        return [f.weight_in] if f.gate is None else [f.weight_in, f.gate]
    return [f.weight] if isinstance(f, Affine) else []


def _rows(matrix: Array, bias: Array | None = None) -> Float[Array, " rows"]:
    """The sum of squares of each row, and of its bias."""
    squares = jnp.sum(matrix**2, axis=1)
    return squares if bias is None else squares + bias**2
