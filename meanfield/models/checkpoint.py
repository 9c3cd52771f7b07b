"""A checkpoint on disk: the named tensors of one or several safetensors files, read by numpy.

Nothing is run, nothing is downloaded, pickle is never loaded. Every tensor that a model asks for
is checked (present, of the expected shape, finite); what no model asked for is an error.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .error import ModelError
from .files import open_tensors, weight_files
from .header import is_quantised_name
from .names import HEADS, known_names
from .tensor import Table, Tensor, upcast


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

    def rename(self, family: str) -> None:
        """Tensors go by the names that the family's architecture knows."""
        known = known_names(self.tensors, family, self.where)
        self.tensors = {known[name]: tensor for name, tensor in self.tensors.items()}

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The values of a tensor, which must have the given shape and be finite."""
        tensor = self._find(name, shape)
        values = upcast(tensor.read(), tensor.entry.dtype).reshape(tensor.shape)
        return values.astype(self.dtype, copy=False)

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
                f"{tensor.where} must have shape {shape} by config.json or --arch; got "
                f"{tensor.shape}."
            )
        self._taken.add(name)
        return tensor

    def finish(self, *ignorable: str) -> tuple[str, ...]:
        """The tensors that belong to heads of tasks and were not taken, by name.

        Args:
          ignorable: patterns (full match) of buffers and poolers, which carry nothing at all.

        Raises:
          ModelError: a tensor is neither taken nor known to be without effect.
        """
        buffers, heads = re.compile("|".join(ignorable) or r"(?!)"), re.compile(HEADS)
        left = [n for n in self.tensors if n not in self._taken and not buffers.fullmatch(n)]
        strange = [n for n in left if not heads.fullmatch(n)]
        if strange:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            raise ModelError(
                f"{self.where}: tensor {strange[0]!r}{more} has no place in this architecture; the "
                "checkpoint would be read wrongly. Check model_type in config.json."
            )
        return tuple(left)


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


def _check_index(index: dict[str, str], owner: dict[str, str], path: Path) -> None:
    for name in sorted(index.keys() ^ owner.keys() if index else ()):
        there = "the index but not in its shard" if name in index else "a shard but not the index"
        raise ModelError(f"{path}: tensor {name!r} is in {there}. Download the shards again.")
    for name, file in index.items():
        if owner[name] != file:
            raise ModelError(
                f"{path}: the index puts tensor {name!r} in {file}, it is in {owner[name]}."
            )
