"""Whether two models are checkpoints of one architecture, and what differs if they are not."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from meanfield.attention import AbstractPointMap, CausalAttention
from meanfield.models import Layer, ModelError, Transformer

from .head_particles import multihead
from .neuron_particles import perceptron


def check_same_architecture(model_a: Transformer, model_b: Transformer) -> None:
    """Raises ModelError, with one line that says what differs, unless layers of both are alike.

    Families may differ where layers do not (BERT and RoBERTa); so may vocabularies and lengths.
    """
    pairs = zip(_facts(model_a), _facts(model_b), strict=False)
    for (what, one), (_, two) in pairs:
        if not np.array_equal(one, two):
            raise ModelError(
                "the models must be checkpoints of one architecture; they differ in "
                f"{what}: {_shown(one)} and {_shown(two)}."
            )


def _facts(model: Transformer) -> Iterator[tuple[str, Any]]:
    """What two checkpoints of one architecture have in common, the plainest first."""
    yield "the number of layers", len(model.layers)
    yield "the dimension", model.dim
    yield "causality", bool(model.causal)
    for l, layer in enumerate(model.layers):
        for what, value in (*_attention(layer), *_perceptron(layer)):
            yield f"{what} of layer {l}", value


def _attention(layer: Layer) -> Iterator[tuple[str, Any]]:
    f = multihead(layer)
    yield "the heads", f.query_proj.shape[0]
    yield "the key/value heads", f.key_proj.shape[0]
    yield "the head dimension", f.query_proj.shape[1]
    yield "the value dimension", f.value_proj.shape[1]
    yield "the place of norms", "after" if layer.norm is None else "before"
    yield "the attention norm", _norm(layer.norm)
    yield "the query norm", _norm(f.query_norm)
    yield "the key norm", _norm(f.key_norm)
    yield "the scale of scores", f.score_scale
    rotary = f.rotary
    yield "rotary positions", None if rotary is None else (rotary.theta, rotary.dims)
    yield "rotary frequencies", None if rotary is None else rotary.frequencies
    yield "the position bias", jax.tree.structure(f.score_bias)
    masked = layer.attention
    yield "the window", masked.window if isinstance(masked, CausalAttention) else None


def _perceptron(layer: Layer) -> Iterator[tuple[str, Any]]:
    norm, f = perceptron(layer)
    yield "the hidden neurons", f.weight_in.shape[0]
    yield "the gate", "none" if f.gate is None else "gated"
    yield "the activation", f.activation
    yield "the perceptron's norm", _norm(norm)


def _norm(norm: AbstractPointMap | None) -> str:
    return "none" if norm is None else f"{type(norm).__name__}({getattr(norm, 'epsilon', ''):g})"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return getattr(value, "__name__", None) or " ".join(str(value).split())[:80]
