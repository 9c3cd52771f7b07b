"""The header of a safetensors file, checked before anything in it is believed.

Layout: 8 bytes little-endian n, n bytes of JSON, then the data. The JSON maps each name to dtype,
shape and data_offsets [begin, end] within the data. The checks here are stricter than the format:
duplicate names, unknown fields, holes and overlaps are all refused.
"""

import dataclasses
import math
import re
import struct
from typing import Any, BinaryIO

from .document import parse_json
from .error import ModelError


# bytes of one value; integer and boolean tensors occur as buffers and are never weights
ITEM_SIZE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "BOOL": 1, "U8": 1}
FLOATING = ("F64", "F32", "F16", "BF16")
_QUANTISED = ("I8", "I16", "U16", "U32", "U64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4")
_LONGEST_HEADER = 100_000_000
_MOST_TENSORS = 100_000
_LONGEST_NAME = 512
_HIGHEST_RANK = 4
_AGAIN = "The file is damaged or made to mislead: download or save it again."


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of a safetensors file: what it is and where in the file it lies."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(file: BinaryIO, size: int, where: str) -> list[Entry]:
    """The tensors that a safetensors file holds, in the order of their data.

    Args:
      file: the open file, at its beginning.
      size: its length in bytes.
      where: its name, for messages.

    Raises:
      ModelError: anything in the header is not as the format says.
    """
    if size < 8:
        raise ModelError(f"{where}: {size} bytes are too few for a safetensors file. {_AGAIN}")
    (length,) = struct.unpack("<Q", file.read(8))
    if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
        raise ModelError(
            f"{where}: says that its header has {length:,} bytes, the file has {size:,} "
            f"(and at most {_LONGEST_HEADER:,} are read). {_AGAIN}"
        )
    text = file.read(length)
    if text[:1] != b"{":
        raise ModelError(f"{where}: the header must begin with '{{'; got {text[:1]!r}. {_AGAIN}")
    header = parse_json(text, f"{where}: header")
    _check_metadata(header.pop("__metadata__", {}), where)
    if len(header) > _MOST_TENSORS:
        raise ModelError(
            f"{where}: holds {len(header):,} tensors; at most {_MOST_TENSORS:,} are read. {_AGAIN}"
        )
    entries = [_entry(name, record, 8 + length, where) for name, record in header.items()]
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    _check_cover(entries, 8 + length, size, where)
    return entries


def _check_metadata(metadata: Any, where: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ModelError(f"{where}: __metadata__ must map names to strings. {_AGAIN}")


def _entry(name: str, record: Any, origin: int, where: str) -> Entry:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ModelError(
            f"{where}: the tensor name {name[:40]!r} must have 1 to {_LONGEST_NAME} printable "
            f"characters. {_AGAIN}"
        )
    at = f"{where}: tensor {name[:80]!r}"
    if not isinstance(record, dict) or set(record) != {"dtype", "shape", "data_offsets"}:
        raise ModelError(f"{at}: must have dtype, shape and data_offsets, nothing else. {_AGAIN}")
    dtype, shape, offsets = record["dtype"], record["shape"], record["data_offsets"]
    _check_dtype(dtype, at)
    if not _naturals(shape) or len(shape) > _HIGHEST_RANK:
        raise ModelError(
            f"{at}: the shape must be at most {_HIGHEST_RANK} nonnegative integers; "
            f"got {str(shape)[:60]}. {_AGAIN}"
        )
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelError(
            f"{at}: data_offsets must be begin <= end; got {str(offsets)[:60]}. {_AGAIN}"
        )
    if math.prod(shape) * ITEM_SIZE[dtype] != offsets[1] - offsets[0]:
        raise ModelError(
            f"{at}: shape {shape} of {dtype} takes {math.prod(shape) * ITEM_SIZE[dtype]:,} bytes, "
            f"but {offsets[1] - offsets[0]:,} are reserved. {_AGAIN}"
        )
    return Entry(name, dtype, tuple(shape), origin + offsets[0], origin + offsets[1])


def _check_dtype(dtype: Any, at: str) -> None:
    if isinstance(dtype, str) and dtype in ITEM_SIZE:
        return
    if isinstance(dtype, str) and dtype in _QUANTISED:
        raise ModelError(
            f"{at}: {dtype} weights are quantised, which is not supported. "
            "Use the checkpoint in float32, float16 or bfloat16."
        )
    raise ModelError(f"{at}: unknown dtype {str(dtype)[:40]!r}; known: {', '.join(ITEM_SIZE)}.")


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _check_cover(entries: list[Entry], origin: int, size: int, where: str) -> None:
    """The tensors lie end to end and fill the file."""
    position = origin
    for entry in entries:
        if entry.start != position:
            problem = "overlaps another" if entry.start < position else "leaves a hole before it"
            raise ModelError(f"{where}: tensor {entry.name[:80]!r} {problem}. {_AGAIN}")
        position = entry.stop
    if position > size:
        raise ModelError(
            f"{where}: is truncated: its header promises {position:,} bytes, the file has "
            f"{size:,}. Download it again."
        )
    if position < size:
        raise ModelError(f"{where}: {size - position:,} bytes follow the last tensor. {_AGAIN}")


_QUANTISED_NAME = re.compile(
    r"(^|\.)(absmax|quant_map|qweight|qzeros|g_idx|weight_scale(_inv)?|SCB|weight_format)$"
    r"|\.quant_state\."
)


def is_quantised_name(name: str) -> bool:
    """Whether a tensor belongs to a quantisation scheme (bitsandbytes, GPTQ, AWQ, fp8)."""
    return bool(_QUANTISED_NAME.search(name))
