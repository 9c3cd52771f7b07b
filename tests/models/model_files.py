"""Model folders for tests: golden ones, copies with changes, and files written byte by byte."""

import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest


GOLDEN = Path(__file__).parent / "golden"
FAMILIES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
REPOSITORY = Path(__file__).parents[2]


def shared_data(*parts: str) -> Path:
    """A path in the data that is not part of the repository; the test skips where it is absent."""
    root = Path(os.environ.get("MEANFIELD_SHARED", REPOSITORY.parent / "shared"))
    path = root.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in {root / 'data'} (set MEANFIELD_SHARED)")
    return path


def copy_of(family: str, folder: Path) -> Path:
    """A golden model that a test may change."""
    return Path(shutil.copytree(GOLDEN / family, folder / family))


def pack(header: dict | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, well-formed or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def unpack(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if entry["dtype"] == "F32"
    }


def write(path: Path, tensors: dict[str, np.ndarray], dtype: str = "F32") -> None:
    """A safetensors file of arrays; BF16 is given as its 16 bits."""
    header, data = {}, b""
    for name, value in tensors.items():
        raw = np.ascontiguousarray(value).tobytes()
        span = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": span}
        data += raw
    path.write_bytes(pack(header, data))


def edit_config(folder: Path, **fields) -> Path:
    """The same folder with other fields in config.json (None removes one)."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def edit_tensors(folder: Path, change) -> Path:
    """The same folder with `change` applied to the dictionary of tensors."""
    path = folder / "model.safetensors"
    tensors = unpack(path)
    change(tensors)
    write(path, tensors)
    return folder


def assert_one_line(error: BaseException) -> None:
    """Messages are one printable line."""
    message = str(error)
    assert message.isprintable()
    assert len(message) < 600
