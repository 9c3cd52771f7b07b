"""Fields of a config.json that the shapes of the tensors tell."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from .error import ModelError
from .families import looks_like


Fields = dict[str, Any]


class Shapes:
    """The shapes of a checkpoint's tensors, under the names that its family gives them.

    Args:
      family: whose names they should be.
      shapes: the shape of each tensor, by the names of `names.known_names`.
      where: the file, for messages.
    """

    def __init__(self, family: str, shapes: Mapping[str, tuple[int, ...]], where: str):
        self._shapes, self.family, self.where = dict(shapes), family, where

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def of(self, name: str, rank: int = 2) -> tuple[int, ...]:
        """The shape of a tensor that every model of the family has."""
        shape = self._shapes.get(name)
        if shape is None or len(shape) != rank or 0 in shape:
            like = [f for f in looks_like(self._shapes) if f != self.family]
            hint = f" Its tensors look like {' or '.join(like)}." if like else ""
            told = "there is no such tensor" if shape is None else f"it has shape {shape}"
            raise ModelError(
                f"{self.where}: is no {self.family}, which has {name!r} with {rank} axes; "
                f"{told}.{hint} Correct --arch (Architecture)."
            )
        return shape

    def layers(self, prefix: str) -> int:
        """How many layers there are: names `prefix.0.`, `prefix.1.`, ..."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d{1,6})\.")
        found = [int(match[1]) for name in self._shapes if (match := pattern.match(name))]
        return 1 + max(found, default=0)


def fields_of(shapes: Shapes, known: Mapping[str, Any]) -> Fields:
    """The fields that the shapes tell, given those that are known (heads, above all).

    Raises:
      ModelError: a tensor of the family is absent, or has a shape that none of its models has.
    """
    return _READERS[shapes.family](shapes, known)


def _bert(shapes: Shapes, known: Mapping[str, Any]) -> Fields:
    words, dim = shapes.of("embeddings.word_embeddings.weight")
    found = {
        "vocab_size": words,
        "hidden_size": dim,
        "max_position_embeddings": shapes.of("embeddings.position_embeddings.weight")[0],
        "num_hidden_layers": shapes.layers("encoder.layer"),
        "intermediate_size": shapes.of("encoder.layer.0.intermediate.dense.weight")[0],
    }
    if shapes.family == "mpnet":
        buckets, heads = shapes.of("encoder.relative_attention_bias.weight")
        return {
            **found,
            "relative_attention_num_buckets": buckets,
            "num_attention_heads": heads,
        }
    return {**found, "type_vocab_size": shapes.of("embeddings.token_type_embeddings.weight")[0]}


def _distilbert(shapes: Shapes, known: Mapping[str, Any]) -> Fields:
    words, dim = shapes.of("embeddings.word_embeddings.weight")
    return {
        "vocab_size": words,
        "dim": dim,
        "max_position_embeddings": shapes.of("embeddings.position_embeddings.weight")[0],
        "n_layers": shapes.layers("transformer.layer"),
        "hidden_dim": shapes.of("transformer.layer.0.ffn.lin1.weight")[0],
    }


def _gpt2(shapes: Shapes, known: Mapping[str, Any]) -> Fields:
    words, dim = shapes.of("wte.weight")
    return {
        "vocab_size": words,
        "n_embd": dim,
        "n_positions": shapes.of("wpe.weight")[0],
        "n_layer": shapes.layers("h"),
        "n_inner": shapes.of("h.0.mlp.c_fc.weight")[1],
    }


def _llama(shapes: Shapes, known: Mapping[str, Any]) -> Fields:
    words, dim = shapes.of("embed_tokens.weight")
    at = "layers.0.self_attn"
    found = {
        "vocab_size": words,
        "hidden_size": dim,
        "num_hidden_layers": shapes.layers("layers"),
        "intermediate_size": shapes.of("layers.0.mlp.up_proj.weight")[0],
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "mlp_bias": "layers.0.mlp.up_proj.bias" in shapes,
        **_grouped_heads(shapes, known, at),
    }
    if shapes.family != "qwen2":
        found["attention_bias"] = f"{at}.q_proj.bias" in shapes
    return found


def _grouped_heads(shapes: Shapes, known: Mapping[str, Any], at: str) -> Fields:
    """Heads, key/value heads and their dimension: any of the first and the last tells the rest."""
    wide, narrow = (shapes.of(f"{at}.{name}.weight")[0] for name in ("q_proj", "k_proj"))
    heads, k = known.get("num_attention_heads"), known.get("head_dim")
    if shapes.family == "qwen3":
        k = shapes.of(f"{at}.q_norm.weight", rank=1)[0]
    elif k is None and f"{at}.rotary_emb.inv_freq" in shapes:
        k = 2 * shapes.of(f"{at}.rotary_emb.inv_freq", rank=1)[0]
    elif k is None and type(heads) is int and heads > 0:
        k = wide // heads
    if k is None:
        return {}
    if type(k) is not int or k < 1 or wide % k or narrow % k:
        raise ModelError(
            f"{shapes.where}: query and key matrices of {wide} and {narrow} rows do not divide "
            f"into heads as told (heads {heads}, head_dim {k}). Correct --head-count "
            "(Architecture(heads=...))."
        )
    return {
        "num_attention_heads": wide // k,
        "head_dim": k,
        "num_key_value_heads": narrow // k,
    }


def _vision(shapes: Shapes, known: Mapping[str, Any]) -> Fields:
    at = "embeddings.patch_embeddings.projection.weight"
    dim, channels, patch, _ = shapes.of(at, rank=4)
    cells = shapes.of("embeddings.position_embeddings", rank=3)[1] - 1
    side = math.isqrt(max(cells, 0))
    if side * side != cells or not cells:
        raise ModelError(
            f"{shapes.where}: {cells + 1} positions are not a class token and a square of "
            "patches; such a model is not supported."
        )
    found = {
        "hidden_size": dim,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": patch * side,
        "num_hidden_layers": shapes.layers("encoder.layer"),
        "qkv_bias": "encoder.layer.0.attention.attention.query.bias" in shapes,
    }
    return {**found, **(_vit if shapes.family == "vit" else _dino)(shapes, dim)}


def _vit(shapes: Shapes, dim: int) -> Fields:
    found: Fields = {"intermediate_size": shapes.of("encoder.layer.0.intermediate.dense.weight")[0]}
    if "classifier.weight" in shapes:
        classes = shapes.of("classifier.weight")[0]
        found["id2label"] = {str(i): f"class {i}" for i in range(classes)}
    return found


def _dino(shapes: Shapes, dim: int) -> Fields:
    swiglu = "encoder.layer.0.mlp.weights_in.weight" in shapes
    if not swiglu:
        ratio = shapes.of("encoder.layer.0.mlp.fc1.weight")[0] // dim
        return {"use_swiglu_ffn": False, "mlp_ratio": ratio}
    hidden = shapes.of("encoder.layer.0.mlp.weights_in.weight")[0] // 2
    # hidden is two thirds of mlp_ratio * dim, rounded up to a multiple of 8
    fitting = [r for r in range(1, 17) if (int(dim * r * 2 / 3) + 7) // 8 * 8 == hidden]
    return {"use_swiglu_ffn": True, "mlp_ratio": fitting[0] if fitting else 4}


_READERS: dict[str, Callable[[Shapes, Mapping[str, Any]], Fields]] = {
    **dict.fromkeys(("bert", "roberta", "mpnet"), _bert),
    "distilbert": _distilbert,
    "gpt2": _gpt2,
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _llama),
    **dict.fromkeys(("vit", "dinov2"), _vision),
}
