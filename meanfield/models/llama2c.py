"""llama2.c checkpoints (version 0): a Llama in one flat file, and its tokenizer beside it.

Seven int32: dim, hidden, layers, heads, key/value heads, vocabulary (negative: the output matrix
is not the embedding), longest sequence. Then float32 matrices in a fixed order. Its rotary
positions turn neighbouring coordinates (2i, 2i + 1); ours turn (i, i + k/2): the rows of the query
and key matrices are permuted once, which changes no score.
"""

import math
import struct
from pathlib import Path

import numpy as np

from .checkpoint import Checkpoint
from .config import Config
from .error import ModelError
from .foreign import refuse_foreign
from .header import Entry
from .llama2c_tokenizer import Llama2cTokenizer, find_vocabulary
from .tensor import Tensor


_FIELDS: tuple[str, ...] = ("dim", "hidden", "layers", "heads", "groups", "vocabulary", "longest")
_AGAIN = "It is not a llama2.c file (version 0), or it is truncated: download it again."


class _Rows(Tensor):
    """A float32 tensor of a llama2.c file; rotary rows are put in half-split order."""

    def __init__(self, entry: Entry, path: Path, heads: int = 0):
        super().__init__(entry, path)
        self._heads = heads

    def read(self) -> np.ndarray:
        rows = super().read()
        if not self._heads:
            return rows
        pairs = rows.reshape(self._heads, -1, 2, rows.shape[-1])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def read_llama2c(
    path: Path, dtype: str
) -> tuple[Checkpoint, Config, Llama2cTokenizer | None, tuple[Path, ...]]:
    """The tensors of a llama2.c file under the names of Llama, its config and its tokenizer.

    The tokenizer is `tokenizer.bin` or `tok<vocabulary>.bin` in the same folder.

    Raises:
      ModelError: the file is not of this format; its size must be exactly what the header says.
    """
    with path.open("rb") as file:
        head = file.read(256)
    refuse_foreign(head, str(path))
    if len(head) < 28:
        raise ModelError(f"{path}: {len(head)} bytes are too few. {_AGAIN}")
    size = dict(zip(_FIELDS, struct.unpack("<7i", head[:28]), strict=True))
    tied, size["vocabulary"] = size["vocabulary"] > 0, abs(size["vocabulary"])
    _check(size, path)
    expected, there = _bytes(size, tied), path.stat().st_size
    if there != expected:
        raise ModelError(
            f"{path}: must have {expected:,} bytes by its header; it has {there:,}. {_AGAIN}"
        )
    tensors = _tensors(path, size, tied)
    vocabulary = find_vocabulary(path.parent, size["vocabulary"])
    tokenizer = None if vocabulary is None else Llama2cTokenizer(vocabulary, size["vocabulary"])
    files = (path,) if vocabulary is None else (path, vocabulary)
    return Checkpoint(tensors, str(path), dtype), _config(size, tied, path), tokenizer, files


def _check(size: dict[str, int], path: Path) -> None:
    bad = [name for name in _FIELDS if not 0 < size[name] <= 10_000_000]
    d, h, g = size["dim"], size["heads"], size["groups"]
    if bad or d % h or h % g or (d // h) % 2:
        raise ModelError(f"{path}: the header says {size}, which no model has. {_AGAIN}")


def _stacks(size: dict[str, int]) -> tuple[tuple[str, tuple[int, ...], int], ...]:
    """Name, shape in one layer, and the heads whose rows turn (0: none), in the file's order."""
    d, f, h, g = size["dim"], size["hidden"], size["heads"], size["groups"]
    kv = g * (d // h)
    return (
        ("input_layernorm", (d,), 0),
        ("self_attn.q_proj", (d, d), h),
        ("self_attn.k_proj", (kv, d), g),
        ("self_attn.v_proj", (kv, d), 0),
        ("self_attn.o_proj", (d, d), 0),
        ("post_attention_layernorm", (d,), 0),
        ("mlp.gate_proj", (f, d), 0),
        ("mlp.down_proj", (d, f), 0),
        ("mlp.up_proj", (f, d), 0),
    )


def _tail(size: dict[str, int], tied: bool) -> list[tuple[str, tuple[int, ...], int]]:
    """What follows the layers: the last norm, two obsolete rotary tables, the output matrix."""
    d, rotary = size["dim"], (size["longest"], size["dim"] // size["heads"])
    tail = [("norm.weight", (d,), 0), ("rotary_emb.inv_freq", rotary, 0)]
    return tail if tied else [*tail, ("lm_head.weight", (size["vocabulary"], d), 0)]


def _bytes(size: dict[str, int], tied: bool) -> int:
    """How long the file must be: known before a list of its tensors is made."""
    layer = sum(math.prod(shape) for _, shape, _ in _stacks(size))
    tail = sum(math.prod(shape) for _, shape, _ in _tail(size, tied))
    return 28 + 4 * (size["vocabulary"] * size["dim"] + size["layers"] * layer + tail)


def _tensors(path: Path, size: dict[str, int], tied: bool) -> list[Tensor]:
    plan = [("embed_tokens.weight", (size["vocabulary"], size["dim"]), 0)]
    for name, shape, turning in _stacks(size):
        plan += [(f"layers.{l}.{name}.weight", shape, turning) for l in range(size["layers"])]
    tensors, start = [], 28
    for name, shape, turning in [*plan, *_tail(size, tied)]:
        stop = start + 4 * math.prod(shape)
        tensors.append(_Rows(Entry(name, "F32", shape, start, stop), path, turning))
        start = stop
    return tensors


def _config(size: dict[str, int], tied: bool, path: Path) -> Config:
    return Config(
        {
            "hidden_size": size["dim"],
            "intermediate_size": size["hidden"],
            "num_hidden_layers": size["layers"],
            "num_attention_heads": size["heads"],
            "num_key_value_heads": size["groups"],
            "vocab_size": size["vocabulary"],
            "max_position_embeddings": size["longest"],
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": tied,
        },
        str(path),
    )
