"""The families of transformers that can be read, and the marks by which their tensors are known."""

from collections.abc import Iterable
from typing import Any

from .config import Config
from .error import ModelError


SUPPORTED = (
    "bert", "roberta", "distilbert", "mpnet",
    "gpt2",
    "llama", "mistral", "qwen2", "qwen3",
    "vit", "dinov2",
)  # fmt: skip
# the same model under another name
SAME = {"xlm-roberta": "roberta", "camembert": "roberta"}
IMAGE_FAMILIES = ("vit", "dinov2")
# what each family calls its number of heads
HEADS = dict.fromkeys(SUPPORTED, "num_attention_heads") | {
    "distilbert": "n_heads",
    "gpt2": "n_head",
}
# the most telling tensor of each layout comes first: what has it belongs to no layout after it
_MARKS = (
    ("encoder.relative_attention_bias.weight", ("mpnet",)),
    ("transformer.layer.0.attention.q_lin.weight", ("distilbert",)),
    ("encoder.layer.0.layer_scale1.lambda1", ("dinov2",)),
    ("encoder.layer.0.layernorm_before.weight", ("vit",)),
    ("encoder.layer.0.attention.self.query.weight", ("bert", "roberta")),
    ("h.0.attn.c_attn.weight", ("gpt2",)),
    ("layers.0.self_attn.q_norm.weight", ("qwen3",)),
    ("layers.0.self_attn.q_proj.bias", ("qwen2",)),
    ("layers.0.self_attn.q_proj.weight", ("llama", "mistral")),
)


def family_of(config: Config) -> str:
    """The model_type of a config.json, if it is supported.

    Raises:
      ModelError: another architecture; the message lists those supported.
    """
    written = config.fields.get("model_type")
    family = SAME.get(written, written) if isinstance(written, str) else None
    if family not in SUPPORTED:
        raise ModelError(_unsupported(config, written))
    if config.fields.get("quantization_config") is not None:
        raise ModelError(
            f"{config.where}: the checkpoint is quantised, which is not supported. Use the model "
            "in float32, float16 or bfloat16."
        )
    return family


def _unsupported(config: Config, written: Any) -> str:
    known = ", ".join((*SUPPORTED[:2], *SAME, *SUPPORTED[2:]))
    advice = (
        "If the tensors are those of one of these, say so with --arch (models.Architecture)."
        if written is None
        else "What it computes is not known here, and --arch would give wrong numbers."
    )
    return (
        f"{config.where}: model_type {str(written)[:60]!r} is not supported; supported are "
        f"{known}, and llama2.c .bin files. {advice}"
    )


def looks_like(names: Iterable[str]) -> tuple[str, ...]:
    """The families whose tensors have these names; several where names cannot tell."""
    names = set(names)
    for mark, families in _MARKS:
        if any(name == mark or name.endswith("." + mark) for name in names):
            return families
    return ()
