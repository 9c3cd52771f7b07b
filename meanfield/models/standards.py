"""What published models of a family have in common, used only where nothing tells otherwise.

The number of heads does not show in a tensor's shape, nor do the epsilon of a norm or the base of
rotary positions. Everything taken from here is named as assumed.
"""

from collections.abc import Mapping
from typing import Any

from .error import ModelError
from .families import HEADS
from .shapes import Shapes


# None says that the family has models with and without it, and that it is taken to be absent
_STANDARDS: dict[str, dict[str, Any]] = {
    "roberta": {"layer_norm_eps": 1e-5},
    "mpnet": {"layer_norm_eps": 1e-5},
    "llama": {
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "rope_scaling": None,
        "max_position_embeddings": 4096,
    },
    "mistral": {
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "sliding_window": None,
        "max_position_embeddings": 32_768,
    },
    "qwen2": {
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "sliding_window": None,
        "max_position_embeddings": 32_768,
    },
    "qwen3": {
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "sliding_window": None,
        "max_position_embeddings": 40_960,
    },
}
# the small BERTs that are widely used do not follow the rule of 64: MiniLM, BGE, E5; TinyBERT
_SMALL_BERTS = {384: 12, 312: 12}
_HEAD_DIM = 64
_LLAMA_HEAD_DIM = 128


def standards(family: str) -> dict[str, Any]:
    """The fields that published models of a family share."""
    return dict(_STANDARDS.get(family, {}))


def standard_heads(shapes: Shapes, known: Mapping[str, Any]) -> dict[str, Any]:
    """The number of heads that a model of this family and size usually has; nothing if it is known.

    Raises:
      ModelError: it is not known, and there is no usual one.
    """
    family, name = shapes.family, HEADS[shapes.family]
    if known.get(name) is not None:
        return {}
    rows, k = known.get("hidden_size", known.get("dim", known.get("n_embd"))), _HEAD_DIM
    if family in ("llama", "mistral", "qwen2"):
        rows, k = shapes.of("layers.0.self_attn.q_proj.weight")[0], _LLAMA_HEAD_DIM
    if family in ("bert", "roberta") and rows in _SMALL_BERTS:
        return {name: _SMALL_BERTS[rows]}
    if type(rows) is not int or rows % k:
        raise ModelError(
            f"{shapes.where}: how many heads a {family} of dimension {rows} has cannot be read off "
            "its tensors. Say it: --head-count N, or Architecture(heads=N)."
        )
    return {name: rows // k}
