"""One layer of a transformer: its attention, the norm before it, and the whole block as a map."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from meanfield.attention import (
    AbstractInContextMap,
    AbstractPointMap,
    Affine,
    CausalAttention,
    Composition,
    LayerNorm,
    MLP,
    MultiheadAttention,
    Residual,
)

from .activation import ACTIVATIONS
from .checkpoint import Checkpoint
from .config import Config
from .error import ModelError


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


def multihead(
    query: Affine, key: Affine, value: Affine, output: Affine, heads: int, groups: int, **more
) -> MultiheadAttention:
    """Attention from the matrices of a checkpoint, in which the heads lie one after the other.

    Args:
      query, key, value: matrices (H k, d), (G k, d), (G v, d) and their biases.
      output: matrix (e, H v) and its bias.
      heads, groups: H and G.
      more: what else `MultiheadAttention` takes.
    """
    wide = output.weight.reshape(output.weight.shape[0], heads, -1)
    return MultiheadAttention(
        _split(query.weight, heads),
        _split(key.weight, groups),
        _split(value.weight, groups),
        wide.swapaxes(0, 1),
        query_bias=_split(query.bias, heads),
        key_bias=_split(key.bias, groups),
        value_bias=_split(value.bias, groups),
        output_bias=output.bias,
        **more,
    )


def _split(rows, heads: int):
    return None if rows is None else rows.reshape(heads, -1, *rows.shape[1:])


def refuse_zeros(matrices: list[np.ndarray], where: str) -> None:
    """Refuses a layer in which every matrix is zero: a damaged or empty checkpoint.

    Raises:
      ModelError: there is no nonzero entry.
    """
    if not any(np.any(matrix) for matrix in matrices):
        raise ModelError(
            f"{where}: every attention weight of this layer is zero. The checkpoint is damaged or "
            "was never filled: download or train it again."
        )


class Reader:
    """Makes maps of tensors by their names.

    Args:
      checkpoint: the tensors.
      config: the fields of config.json.
    """

    def __init__(self, checkpoint: Checkpoint, config: Config):
        self.checkpoint, self.config = checkpoint, config

    def affine(self, name: str, out: int, into: int, *, bias: bool = True) -> Affine:
        """`name.weight` of shape (out, into) and, if there should be one, `name.bias`."""
        weight = self.checkpoint.take(f"{name}.weight", out, into)
        shift = jnp.asarray(self.checkpoint.take(f"{name}.bias", out)) if bias else None
        return Affine(jnp.asarray(weight), shift)

    def layer_norm(self, name: str, dim: int, epsilon: float) -> LayerNorm:
        """`name.weight` and `name.bias`, each of shape (dim,)."""
        gamma, beta = (self.checkpoint.take(f"{name}.{p}", dim) for p in ("weight", "bias"))
        return LayerNorm(jnp.asarray(gamma), jnp.asarray(beta), epsilon)

    def mlp(self, into: Affine, out: Affine, activation: str, gate: Affine | None = None) -> MLP:
        """The perceptron of two affine maps, with an activation by its name."""
        act = ACTIVATIONS[activation]
        if gate is None:
            return MLP(into.weight, into.bias, out.weight, out.bias, act)
        return MLP(into.weight, into.bias, out.weight, out.bias, act, gate.weight, gate.bias)

    def activation(self, name: str, default: str) -> str:
        """The name of an activation in config.json, one of those known."""
        return self.config.word(name, default, tuple(ACTIVATIONS))

    def attention(
        self, names: tuple[str, str, str, str], dim: int, heads: int, *, bias: bool = True, **more
    ) -> MultiheadAttention:
        """Attention with four square matrices: query, key, value, output."""
        parts = [self.affine(name, dim, dim, bias=bias) for name in names]
        refuse_zeros([np.asarray(p.weight) for p in parts], f"{self.checkpoint.where}: {names[0]}")
        return multihead(*parts, heads, heads, **more)
