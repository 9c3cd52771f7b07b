"""Attention heads as particles, in coordinates that no gauge can change.

Proofs, and what is not divided out, are in docs/theory/model_distance.md.
"""

import numpy as np
from jaxtyping import Float

from meanfield.attention import (
    CausalAttention,
    LinearBias,
    MultiheadAttention,
    RelativeBias,
    Rotary,
    is_softmax,
)
from meanfield.models import Layer, ModelError

from .clouds import AbstractCloud, Points, Products, Together
from .folding import folded
from .particles import AbstractParticles


class Heads(AbstractParticles):
    r"""Each head is the pair of products that it acts through, $(A_h, M_h)$:

    $$A_h = \lambda K_h^T (Q_h, b^Q_h), \qquad M_h = O_h V_h ,$$

    the scores being $\langle A_h (x, 1), y \rangle$ up to what is the same for every key. With
    rotary positions $A_h$ is a function of the relative position, and squared distances are
    averaged over it. A query head that shares its keys and values with others has them too.
    """

    @property
    def name(self) -> str:
        return "head"

    def cloud(self, layer: Layer) -> AbstractCloud:
        f = multihead(layer)
        return Together((*_scores(f, layer), _values(f, layer)))

    def offset(self, layer: Layer) -> Float[np.ndarray, " e"]:
        """$c + \\sum_h O_h b^V_h$: shares sum to one, so value biases are one constant."""
        f = multihead(layer)
        biases = _shared(f, folded(f.value_proj, f.value_bias, layer.norm))[..., -1]
        constant = np.einsum("hev,hv->e", np.asarray(f.output_proj, np.float64), biases)
        return constant if f.output_bias is None else constant + np.asarray(f.output_bias)


def multihead(layer: Layer) -> MultiheadAttention:
    """The attention of a layer without its mask.

    Raises:
      ModelError: it is not a softmax, for which these coordinates are made.
    """
    f = layer.attention
    f = f.attention if isinstance(f, CausalAttention) else f
    if not isinstance(f, MultiheadAttention) or not is_softmax(f.choice) or f.soft_cap is not None:
        raise ModelError(
            "heads are compared in the invariants of MultiheadAttention with the softmax and no "
            f"cap on its scores; got {type(f).__name__}({type(f.choice).__name__})."
        )
    return f


def _shared(f: MultiheadAttention, rows: np.ndarray) -> np.ndarray:
    """The keys or values of each query head."""
    return np.repeat(rows, f.group, axis=0)


def _values(f: MultiheadAttention, layer: Layer) -> Products:
    """M_h = O_h V_h."""
    values = _shared(f, folded(f.value_proj, f.value_bias, layer.norm))[..., :-1]
    outputs = np.asarray(f.output_proj, np.float64).swapaxes(1, 2)
    return Products(outputs[:, None], values[:, None])


def _scores(f: MultiheadAttention, layer: Layer) -> list[AbstractCloud]:
    """All that the scores of a head depend on."""
    query = folded(f.query_proj, f.query_bias, layer.norm)
    key = _shared(f, folded(f.key_proj, f.key_bias, layer.norm))
    parts: list[AbstractCloud] = []
    if f.query_norm is not None:  # its denominator sees Q^T Q
        parts.append(Products(query[:, None], query[:, None]))
        query = np.asarray(f.query_norm.gamma, np.float64)[:, None] * query
    if f.key_norm is not None:
        parts.append(Products(key[:, None], key[:, None]))
        key = np.asarray(f.key_norm.gamma, np.float64)[:, None] * key
    query = f.score_scale * query
    turning = 0 if f.rotary is None else _dims(f.rotary, query)
    if turning:
        parts += _turning(key[:, :turning], query[:, :turning])
    key, query = key[:, turning:], query[:, turning:]
    if f.key_norm is None:
        key = key[..., :-1]  # what a key bias adds is the same for every key
    if query.shape[1]:
        parts.append(Products(key[:, None], query[:, None]))
    return parts + _position_bias(f)


def _dims(rotary: Rotary, query: np.ndarray) -> int:
    return query.shape[1] if rotary.dims is None else rotary.dims


def _turning(key: np.ndarray, query: np.ndarray) -> list[AbstractCloud]:
    r"""The products $K^T R_\delta (Q, b)$ of all planes of rotation at once.

    In one plane, with the rows $k = k_1 + i k_2$ and $q = q_1 + i q_2$ of the factors, the product
    at the relative position $\delta$ is $\mathrm{Re}(e^{i \omega \delta} Z)$,
    $Z = \bar k \otimes q$; the mean square over all $\delta$ of a difference is $|Z - Z'|^2 / 2$.
    """
    (k1, k2), (q1, q2) = (np.split(x / 2**0.25, 2, axis=1) for x in (key, query))
    left = np.stack([k1, k2], axis=2)
    real, imaginary = np.stack([q1, q2], axis=2), np.stack([q2, -q1], axis=2)
    return [Products(left, real), Products(left, imaginary)]


def _position_bias(f: MultiheadAttention) -> list[AbstractCloud]:
    """The bias of a head at each relative position, up to a constant, which softmax forgets."""
    if f.score_bias is None:
        return []
    if isinstance(f.score_bias, RelativeBias):
        table = np.asarray(f.score_bias.table, np.float64).T
        return [Points(table - table.mean(axis=1, keepdims=True))]
    if isinstance(f.score_bias, LinearBias):
        return [Points(np.asarray(f.score_bias.slopes, np.float64)[:, None])]
    raise ModelError(f"the score bias {type(f.score_bias).__name__} is not known here.")
