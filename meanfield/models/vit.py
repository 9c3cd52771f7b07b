"""Vision transformers: ViT and DINOv2.

    x_0 = (class token, patches) + position
    y = x + s_1 attention(LN(x)),  x' = y + s_2 W_2 gelu(W_1 LN(y))     in each layer (pre-norm)

The layer scales s_1, s_2 (one number a coordinate) are DINOv2's; they are made part of the output
projection and of W_2, so that the attention audited is the one that acts.
"""

import numpy as np

from .embedding import PatchEmbedding
from .layer import Layer, pre_norm_layer
from .parts import Parts
from .reader import Linear, Reader


IGNORABLE = (
    r"embeddings\.mask_token",
    r"pooler\..*",
    r"(classifier|decoder|head)\b.*",
)


def read(reader: Reader, family: str) -> Parts:
    """The embeddings, layers and head of a ViT or DINOv2 checkpoint."""
    config = reader.config
    dim = config.integer("hidden_size")
    epsilon = config.number("layer_norm_eps", 1e-12 if family == "vit" else 1e-6)
    make = _vit_layer if family == "vit" else _dino_layer
    count = config.integer("num_hidden_layers")
    return Parts(
        embedding=_embedding(reader, dim),
        layers=tuple(make(reader, f"encoder.layer.{l}", dim, epsilon) for l in range(count)),
        final_norm=reader.layer_norm("layernorm", dim, epsilon),
        head=_classifier(reader, dim) if family == "vit" else None,
        ignorable=IGNORABLE,
    )


def _embedding(reader: Reader, dim: int) -> PatchEmbedding:
    config, take, at = reader.config, reader.checkpoint.take, "embeddings"
    channels = config.integer("num_channels", 3)
    side = config.integer("image_size")
    patch = config.divisor("patch_size", side)
    grid = (side // patch, side // patch)
    tokens = 1 + grid[0] * grid[1]
    return PatchEmbedding(
        take(f"{at}.patch_embeddings.projection.weight", dim, channels, patch, patch),
        take(f"{at}.patch_embeddings.projection.bias", dim),
        take(f"{at}.cls_token", 1, 1, dim).reshape(dim),
        take(f"{at}.position_embeddings", 1, tokens, dim)[0],
        grid,
    )


def _projections(reader: Reader, at: str, dim: int) -> list[Linear]:
    """Query, key, value and output of a layer; the first three may lack their bias."""
    bias = reader.config.flag("qkv_bias", True)
    parts = [f"{at}.attention.attention.{part}" for part in ("query", "key", "value")]
    inner = [reader.linear(part, dim, dim, bias=bias) for part in parts]
    return [*inner, reader.linear(f"{at}.attention.output.dense", dim, dim)]


def _vit_layer(reader: Reader, at: str, dim: int, epsilon: float) -> Layer:
    config = reader.config
    hidden = config.integer("intermediate_size")
    mlp = reader.mlp(
        reader.linear(f"{at}.intermediate.dense", hidden, dim),
        reader.linear(f"{at}.output.dense", dim, hidden),
        reader.activation("hidden_act", "gelu"),
    )
    heads = config.divisor("num_attention_heads", dim)
    *inner, output = _projections(reader, at, dim)
    return pre_norm_layer(
        reader.layer_norm(f"{at}.layernorm_before", dim, epsilon),
        reader.attention(inner, output, heads),
        reader.layer_norm(f"{at}.layernorm_after", dim, epsilon),
        mlp,
    )


def _dino_layer(reader: Reader, at: str, dim: int, epsilon: float) -> Layer:
    config = reader.config
    scales = [reader.checkpoint.take(f"{at}.layer_scale{i}.lambda1", dim) for i in (1, 2)]
    *inner, output = _projections(reader, at, dim)
    heads = config.divisor("num_attention_heads", dim)
    swiglu = config.flag("use_swiglu_ffn", False)
    return pre_norm_layer(
        reader.layer_norm(f"{at}.norm1", dim, epsilon),
        reader.attention(inner, output.scaled(scales[0]), heads),
        reader.layer_norm(f"{at}.norm2", dim, epsilon),
        (_swiglu if swiglu else _plain_mlp)(reader, f"{at}.mlp", dim, scales[1]),
    )


def _plain_mlp(reader: Reader, at: str, dim: int, scale: np.ndarray):
    hidden = dim * reader.config.integer("mlp_ratio", 4)
    return reader.mlp(
        reader.linear(f"{at}.fc1", hidden, dim),
        reader.linear(f"{at}.fc2", dim, hidden).scaled(scale),
        reader.activation("hidden_act", "gelu"),
    )


def _swiglu(reader: Reader, at: str, dim: int, scale: np.ndarray):
    wide = dim * reader.config.integer("mlp_ratio", 4)
    hidden = (int(wide * 2 / 3) + 7) // 8 * 8
    both = reader.linear(f"{at}.weights_in", 2 * hidden, dim)
    bias = (None, None) if both.bias is None else np.split(both.bias, 2)
    gate, into = map(Linear, np.split(both.weight, 2), bias)
    out = reader.linear(f"{at}.weights_out", dim, hidden).scaled(scale)
    return reader.mlp(into, out, "silu", gate=gate)


class Classifier:
    """The logits of the classes, from the class token alone."""

    def __init__(self, linear: Linear):
        self.linear = linear

    def __call__(self, states: np.ndarray) -> np.ndarray:
        return states[0] @ self.linear.weight.T + self.linear.bias


def _classifier(reader: Reader, dim: int) -> Classifier | None:
    labels = reader.config.fields.get("id2label")
    if not isinstance(labels, dict) or "classifier.weight" not in reader.checkpoint:
        return None
    return Classifier(reader.linear("classifier", len(labels), dim))
