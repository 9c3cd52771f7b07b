"""A checkpoint on disk: the named tensors of one or several safetensors files, read by numpy.

Nothing is run, nothing is downloaded, pickle is never loaded. Every tensor that a model asks for
is checked (present, of the expected shape, finite); what no model asked for is an error.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .document import read_json
from .error import ModelError
from .foreign import refuse_foreign, refuse_pickle
from .header import FLOATING, Entry, is_quantised_name, read_header


_STORED = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
}
_BLOCK = 2**20


class Tensor:
    """One tensor of a file, mapped into memory and not yet read."""

    def __init__(self, entry: Entry, path: Path):
        self.entry, self.path = entry, path

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def where(self) -> str:
        """Its name and file, for messages."""
        return f"{self.path.name}: tensor {self.name!r}"

    def stored(self) -> np.ndarray:
        """The values as they are stored (bfloat16 as its 16 bits), mapped from the file."""
        if self.entry.dtype not in FLOATING:
            raise ModelError(
                f"{self.where} holds {self.entry.dtype} values where weights were expected. "
                "Use the checkpoint in float32, float16 or bfloat16."
            )
        kind = _STORED[self.entry.dtype]
        if 0 in self.shape:
            return np.zeros(self.shape, kind)
        return np.memmap(self.path, kind, "r", offset=self.entry.start, shape=self.shape or (1,))

    def bad_values(self) -> tuple[int, int]:
        """How many values are not finite, and the flat index of the first (-1 if none)."""
        flat, count, first = self.stored().reshape(-1), 0, -1
        for start in range(0, flat.size, _BLOCK):
            bad = ~np.isfinite(upcast(flat[start : start + _BLOCK], self.entry.dtype))
            if bad.any() and first < 0:
                first = start + int(bad.argmax())
            count += int(bad.sum())
        return count, first

    def read(self) -> np.ndarray:
        """The stored values in memory, checked to be finite.

        Raises:
          ModelError: a value is NaN or infinite.
        """
        count, first = self.bad_values()
        if count:
            index = tuple(int(i) for i in np.unravel_index(first, self.shape or (1,)))
            raise ModelError(
                f"{self.where} holds {count} value(s) that are NaN or infinite, the first at "
                f"index {index}. The checkpoint is damaged: download or train it again."
            )
        return np.array(self.stored())


def upcast(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Stored values as float32 (float64 stays): products of half precision would overflow."""
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored if dtype == "F64" else stored.astype(np.float32, copy=False)


class Table:
    """The rows of a large tensor (an embedding), kept as stored and made float when asked for."""

    def __init__(self, tensor: Tensor, dtype: np.dtype):
        self._stored, self._kind, self._dtype = tensor.read(), tensor.entry.dtype, dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._stored.shape

    def rows(self, ids) -> np.ndarray:
        """The rows of the given indices, shape (*ids.shape, width)."""
        return upcast(self._stored[ids], self._kind).astype(self._dtype, copy=False)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """The inner products of x, shape (n, width), with every row: (n, rows)."""
        return x @ self.rows(slice(None)).T


class Checkpoint:
    """The tensors of a model, each handed out once and accounted for.

    Args:
      tensors: what the files hold.
      where: the folder or file, for messages.
      dtype: the floating type in which weights are handed out.
    """

    def __init__(self, tensors: Iterable[Tensor], where: str, dtype: str = "float32"):
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.where, self.dtype, self._taken = where, np.dtype(dtype), set()
        if quantised := [name for name in self.tensors if is_quantised_name(name)]:
            raise ModelError(
                f"{where}: tensor {quantised[0]!r} belongs to a quantised checkpoint, which is not "
                "supported. Use the model in float32, float16 or bfloat16."
            )

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    @property
    def parameters(self) -> int:
        """How many numbers the tensors handed out hold."""
        return sum(int(np.prod(self.tensors[name].shape)) for name in self._taken)

    def strip_prefix(self, *prefixes: str) -> None:
        """Names lose the first of the prefixes that any name has (`bert.`, `model.`, ...)."""
        prefix = next((p for p in prefixes if any(n.startswith(p) for n in self.tensors)), "")
        named = {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items()}
        if len(named) < len(self.tensors):
            raise ModelError(f"{self.where}: tensors occur both with and without {prefix!r}.")
        self.tensors = named

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The values of a tensor, which must have the given shape and be finite."""
        tensor = self._find(name, shape)
        values = upcast(tensor.read(), tensor.entry.dtype).reshape(tensor.shape)
        return values.astype(self.dtype, copy=False)

    def maybe(self, name: str, *shape: int) -> np.ndarray | None:
        """As `take`, or None where the checkpoint has no such tensor."""
        return self.take(name, *shape) if name in self.tensors else None

    def table(self, name: str, *shape: int) -> Table:
        """As `take`, for a large table of which few rows are needed at a time."""
        return Table(self._find(name, shape), self.dtype)

    def _find(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self.tensors:
            raise ModelError(
                f"{self.where}: tensor {name!r} of shape {shape} is missing. The checkpoint is "
                "incomplete, or its config.json belongs to another model."
            )
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise ModelError(
                f"{tensor.where} must have shape {shape} by config.json; got {tensor.shape}."
            )
        self._taken.add(name)
        return tensor

    def finish(self, *ignorable: str) -> None:
        """Refuses tensors that were not taken, unless a pattern (full match) says that they carry
        nothing the forward pass needs."""
        known = re.compile("|".join(ignorable) or r"(?!)")
        left = [n for n in self.tensors if n not in self._taken and not known.fullmatch(n)]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise ModelError(
                f"{self.where}: tensor {left[0]!r}{more} has no place in this architecture; the "
                "checkpoint would be read wrongly. Check model_type in config.json."
            )


def open_checkpoint(path: Path, dtype: str = "float32") -> Checkpoint:
    """The checkpoint in a folder (model.safetensors, or shards with their index) or one file.

    Raises:
      ModelError: no weights, or weights that are damaged, foreign or dangerous.
    """
    files, index = weight_files(path)
    tensors = [tensor for file in files for tensor in open_tensors(file)]
    owner = {}
    for tensor in tensors:
        if tensor.name in owner:
            raise ModelError(
                f"{path}: tensor {tensor.name!r} is in both {owner[tensor.name]} and "
                f"{tensor.path.name}. Download the shards again."
            )
        owner[tensor.name] = tensor.path.name
    _check_index(index, owner, path)
    return Checkpoint(tensors, str(path), dtype)


def open_tensors(path: Path) -> list[Tensor]:
    """The tensors of one safetensors file, its header checked."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            refuse_foreign(file.read(256), str(path))
            file.seek(0)
            entries = read_header(file, size, str(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from None
    return [Tensor(entry, path) for entry in entries]


def weight_files(path: Path) -> tuple[list[Path], dict[str, str]]:
    """The safetensors files of a model, and the map from tensors to files of its index."""
    if path.is_file():
        return [path], {}
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.is_file():
        return [single], {}
    if not index.is_file():
        refuse_pickle([entry.name for entry in path.iterdir()], str(path))
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(f, str) for f in places.values()):
        raise ModelError(f"{index}: weight_map must map tensor names to file names.")
    return [_shard(path, name) for name in sorted(set(places.values()))], places


def _shard(folder: Path, name: str) -> Path:
    """A shard in the folder itself: a bare name, no link that leaves it."""
    if not name or name != Path(name).name or name in (".", "..") or "\\" in name or "\0" in name:
        raise ModelError(
            f"{folder}: the index names the shard {name[:80]!r}; only bare file names are followed."
        )
    file = folder / name
    if not file.is_file():
        raise ModelError(f"{folder}: the shard {name!r} of the index is absent. Download it.")
    if file.resolve().parent != folder.resolve():
        raise ModelError(f"{folder}: the shard {name!r} is a link that leaves the folder. Copy it.")
    return file


def _check_index(index: dict[str, str], owner: dict[str, str], path: Path) -> None:
    for name in sorted(index.keys() ^ owner.keys() if index else ()):
        there = "the index but not in its shard" if name in index else "a shard but not the index"
        raise ModelError(f"{path}: tensor {name!r} is in {there}. Download the shards again.")
    for name, file in index.items():
        if owner[name] != file:
            raise ModelError(
                f"{path}: the index puts tensor {name!r} in {file}, it is in {owner[name]}."
            )
