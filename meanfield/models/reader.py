"""From named tensors to the maps of `meanfield.attention`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from meanfield.attention import MLP, LayerNorm, MultiheadAttention, RMSNorm

from .activation import ACTIVATIONS
from .checkpoint import Checkpoint
from .config import Config
from .error import ModelError


class Linear(NamedTuple):
    """A matrix (out, in) and a bias (out,) of a checkpoint."""

    weight: np.ndarray
    bias: np.ndarray | None = None

    def scaled(self, factor: np.ndarray) -> "Linear":
        """The same followed by a factor for each output."""
        bias = None if self.bias is None else factor * self.bias
        return Linear(factor[:, None] * self.weight, bias)


class Reader:
    """Makes maps of tensors by their names.

    Args:
      checkpoint: the tensors.
      config: the fields of config.json.
    """

    def __init__(self, checkpoint: Checkpoint, config: Config):
        self.checkpoint, self.config = checkpoint, config

    def linear(self, name: str, out: int, into: int, *, bias: bool = True) -> Linear:
        """`name.weight` of shape (out, into) and, if there should be one, `name.bias`."""
        weight = self.checkpoint.take(f"{name}.weight", out, into)
        return Linear(weight, self.checkpoint.take(f"{name}.bias", out) if bias else None)

    def layer_norm(self, name: str, dim: int, epsilon: float) -> LayerNorm:
        """`name.weight` and `name.bias`, each of shape (dim,)."""
        gamma, beta = (self.checkpoint.take(f"{name}.{part}", dim) for part in ("weight", "bias"))
        return LayerNorm(jnp.asarray(gamma), jnp.asarray(beta), epsilon)

    def rms_norm(self, name: str, dim: int, epsilon: float) -> RMSNorm:
        """`name.weight` of shape (dim,)."""
        return RMSNorm(jnp.asarray(self.checkpoint.take(f"{name}.weight", dim)), epsilon)

    def mlp(self, into: Linear, out: Linear, activation: str, gate: Linear | None = None) -> MLP:
        """The perceptron of two matrices, or of three with a gate."""
        return MLP(
            jnp.asarray(into.weight),
            _array(into.bias),
            jnp.asarray(out.weight),
            _array(out.bias),
            ACTIVATIONS[activation],
            None if gate is None else jnp.asarray(gate.weight),
            None if gate is None else _array(gate.bias),
        )

    def activation(self, name: str, default: str) -> str:
        """The name of an activation in config.json, one of those known."""
        return self.config.word(name, default, tuple(ACTIVATIONS))

    def attention(
        self,
        inner: Sequence[Linear],
        output: Linear,
        heads: int,
        groups: int | None = None,
        **more: Any,
    ) -> MultiheadAttention:
        """Attention from matrices in which the heads lie one after the other.

        Args:
          inner: query, key, value: matrices (H k, d), (G k, d), (G v, d) and their biases.
          output: matrix (e, H v) and its bias.
          heads, groups: H and G (equal by default).
          more: what else `MultiheadAttention` takes.

        Raises:
          ModelError: every weight is zero.
        """
        query, key, value = inner
        if not any(np.any(part.weight) for part in (*inner, output)):
            raise ModelError(
                f"{self.checkpoint.where}: every attention weight of a layer is zero. The "
                "checkpoint is damaged or was never filled: download or train it again."
            )
        groups = heads if groups is None else groups
        per_head = output.weight.reshape(len(output.weight), heads, -1).swapaxes(0, 1)
        return MultiheadAttention(
            _split(query.weight, heads),
            _split(key.weight, groups),
            _split(value.weight, groups),
            jnp.asarray(np.ascontiguousarray(per_head)),
            query_bias=_maybe_split(query.bias, heads),
            key_bias=_maybe_split(key.bias, groups),
            value_bias=_maybe_split(value.bias, groups),
            output_bias=_array(output.bias),
            **more,
        )


def _array(values: np.ndarray | None) -> Array | None:
    return None if values is None else jnp.asarray(values)


def _split(rows: np.ndarray, heads: int) -> Array:
    return jnp.asarray(rows.reshape(heads, -1, *rows.shape[1:]))


def _maybe_split(rows: np.ndarray | None, heads: int) -> Array | None:
    return None if rows is None else _split(rows, heads)
