"""One layer of a transformer: its attention, the norm before it, and the whole block as a map."""

import equinox as eqx

from meanfield.attention import (
    MLP,
    AbstractInContextMap,
    AbstractPointMap,
    CausalAttention,
    Composition,
    MultiheadAttention,
    Residual,
)


Attention = MultiheadAttention | CausalAttention


class Layer(eqx.Module):
    """A layer of a transformer.

    Args:
      attention: the attention with its output projection, without the residual connection.
      norm: the norm before the attention; None where the norm comes after (post-norm).
      block: the whole layer, an in-context map that carries its input to its output.
    """

    attention: Attention
    norm: AbstractPointMap | None
    block: AbstractInContextMap


def pre_norm_layer(
    norm: AbstractPointMap, attention: Attention, mlp_norm: AbstractPointMap, mlp: MLP
) -> Layer:
    """x + attention(norm(x)), then x + mlp(mlp_norm(x))."""
    attend = Residual(Composition([norm, attention]))
    return Layer(attention, norm, Composition([attend, Residual(Composition([mlp_norm, mlp]))]))


def post_norm_layer(
    attention: Attention, norm: AbstractPointMap, mlp: MLP, mlp_norm: AbstractPointMap
) -> Layer:
    """norm(x + attention(x)), then mlp_norm(x + mlp(x))."""
    return Layer(attention, None, Composition([Residual(attention), norm, Residual(mlp), mlp_norm]))
