"""`inspect`: what is in a model's files, without mathematics and without JAX."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from .architecture import Architecture
from .config import Config
from .error import ModelError
from .header import FLOATING, ITEM_SIZE
from .load import is_llama2c, locate, open_described
from .tensor import Tensor


_ALIASES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "dim": ("hidden_size", "n_embd", "dim"),
    "max_tokens": ("max_position_embeddings", "n_positions"),
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the files of a model say.

    Args:
      path, family: where it is and its model_type.
      layers, heads, key_value_heads, dim: its shape.
      max_tokens: its longest input, as far as the files say.
      tensors, parameters, bytes: how many tensors, numbers and bytes the weights have.
      dtypes: how many numbers of each dtype.
      bad: (tensor, count, first flat index) for each tensor that holds NaN or infinite values.
      files: the weight files.
      assumed: what of the shape was neither told nor read off the tensors.
    """

    path: Path
    family: str
    layers: int
    heads: int
    key_value_heads: int
    dim: int
    max_tokens: int
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    bad: tuple[tuple[str, int, int], ...]
    files: tuple[Path, ...]
    assumed: dict[str, Any]

    def memory(self, tokens: int) -> int:
        """An estimate of the bytes that an audit of one layer needs at a number of tokens.

        Weights as float32, and about six n x n matrices of scores alive for each head.
        """
        return 4 * self.parameters + 6 * 4 * self.heads * tokens**2


def inspect(path: str | Path, *, architecture: Architecture | None = None) -> Facts:
    """The facts of a model: its architecture, sizes, dtypes, and weights that are not finite.

    Takes what `load` takes. Every weight is read once; nothing is computed.

    Raises:
      ModelError: as `load` (values that are not finite are counted, not refused).
    """
    found = locate(path, architecture)
    if is_llama2c(found, architecture):
        from .llama2c import read_llama2c

        checkpoint, config, _, _ = read_llama2c(found, "float32")
        family = "llama"
    else:
        checkpoint, config, family = open_described(found, architecture)
    return _facts(found, family, config, list(checkpoint.tensors.values()))


def _facts(path: Path, family: str, config: Config, tensors: list[Tensor]) -> Facts:
    weights = [tensor for tensor in tensors if tensor.entry.dtype in FLOATING]
    heads = _integer(config, "heads")
    dtypes: dict[str, int] = {}
    for tensor in tensors:
        count = math.prod(tensor.shape)
        dtypes[tensor.entry.dtype] = dtypes.get(tensor.entry.dtype, 0) + count
    return Facts(
        path=path,
        family=family,
        layers=_integer(config, "layers"),
        heads=heads,
        key_value_heads=_groups(config, heads),
        dim=_integer(config, "dim"),
        max_tokens=_longest(config, family),
        tensors=len(tensors),
        parameters=sum(math.prod(tensor.shape) for tensor in weights),
        bytes=sum(math.prod(t.shape) * ITEM_SIZE[t.entry.dtype] for t in tensors),
        dtypes=dict(sorted(dtypes.items())),
        bad=tuple((t.name, *bad) for t in weights if (bad := t.bad_values())[0]),
        files=tuple(sorted({tensor.path for tensor in tensors})),
        assumed=config.assumed,
    )


def _integer(config: Config, fact: str) -> int:
    for name in _ALIASES[fact]:
        if name in config:
            return config.integer(name)
    raise ModelError(f"{config.where}: {_ALIASES[fact][0]} is missing. Is the file complete?")


def _groups(config: Config, heads: int) -> int:
    there = "num_key_value_heads" in config
    return config.integer("num_key_value_heads") if there else heads


def _longest(config: Config, family: str) -> int:
    if family in ("vit", "dinov2"):
        return 1 + (config.integer("image_size") // config.integer("patch_size")) ** 2
    longest = _integer(config, "max_tokens")
    padded = family in ("roberta", "mpnet")
    return longest - config.integer("pad_token_id", 1, low=0) - 1 if padded else longest
