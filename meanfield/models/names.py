"""Names of tensors as files have them, and as the architectures know them.

Files put wrappers before the names (`bert.`, `model.`, `module.` of parallel training, `_orig_mod.`
of compiled models, `0.auto_model.` of sentence encoders), and old ones call weight and bias of a
norm gamma and beta.
"""

import re
from collections.abc import Iterable

from .error import ModelError


_FIRST_LAYER = {
    **dict.fromkeys(("bert", "roberta"), "encoder.layer.0.attention.self.query.weight"),
    "mpnet": "encoder.layer.0.attention.attn.q.weight",
    "distilbert": "transformer.layer.0.attention.q_lin.weight",
    "gpt2": "h.0.attn.c_attn.weight",
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), "layers.0.self_attn.q_proj.weight"),
    **dict.fromkeys(("vit", "dinov2"), "encoder.layer.0.attention.attention.query.weight"),
}
_WRAPPER = (
    r"_orig_mod|module|model|auto_model|base_model|backbone|transformer|0|"
    r"bert|roberta|distilbert|mpnet|vit|dinov2|encoder_model|text_encoder"
)
_WRAPPERS = re.compile(rf"(?:(?:{_WRAPPER})\.)*")
_OUTER = re.compile(r"^(?:(?:_orig_mod|module|model|base_model)\.)*")
_OLD_NORM = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")
_NEW = {"gamma": "weight", "beta": "bias"}

# heads of tasks: behind the last hidden state, so that no context depends on them
HEADS = (
    r"(?:\w*classifi\w*|\w*head|heads|lm_head|crf|cls|predictions|qa_outputs|score|scores|"
    r"(?:\w+_)?linear\d*|dense\d*|fc\d*|out_proj|proj\w*|projection\w*|regress\w*|vocab_\w+|"
    r"dropout\d*|loss\w*|criterion|out|output)\b.*"
)


def known_names(names: Iterable[str], family: str, where: str) -> dict[str, str]:
    """The name that the family's architecture knows, for each name in a file.

    Raises:
      ModelError: two models in one checkpoint, or a tensor that stands twice.
    """
    names = tuple(names)
    prefix = _prefix(names, _FIRST_LAYER[family], where)
    known = {name: _known(name, prefix) for name in names}
    first: dict[str, str] = {}
    for name, short in known.items():
        if first.setdefault(short, name) != name:
            raise ModelError(
                f"{where}: {first[short][:80]!r} and {name[:80]!r} name the same tensor. "
                "Leave one out."
            )
    return known


def _prefix(names: tuple[str, ...], first_layer: str, where: str) -> str:
    """What stands before the names of the layers."""
    found = {name.removesuffix(first_layer) for name in names if name.endswith(first_layer)}
    known = sorted(prefix for prefix in found if _WRAPPERS.fullmatch(prefix))
    if len(known) > 1:
        raise ModelError(
            f"{where}: holds several models, whose names begin with "
            f"{' and '.join(map(repr, known))}. Save the one that is meant alone."
        )
    return known[0] if known else ""


def _known(name: str, prefix: str) -> str:
    inner = prefix and name.startswith(prefix)
    short = name[len(prefix) :] if inner else _OUTER.sub("", name)
    return _OLD_NORM.sub(lambda match: _NEW[match[1]], short or name)
