"""One tensor of a weight file, mapped into memory and read when it is needed."""

from pathlib import Path

import numpy as np

from .error import ModelError
from .header import FLOATING, Entry


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
        try:
            start, shape = self.entry.start, self.shape or (1,)
            return np.memmap(self.path, kind, "r", offset=start, shape=shape)
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.where} changed while it was read ({error}).") from None

    def bad_values(self) -> tuple[int, int]:
        """How many values are not finite, and the flat index of the first (-1 if none)."""
        flat, count, first = self.stored().reshape(-1), 0, -1
        for start in range(0, flat.size, _BLOCK):
            with np.errstate(over="ignore"):  # a float64 may be too large for a float32
                part = upcast(flat[start : start + _BLOCK], self.entry.dtype).astype(np.float32)
            bad = ~np.isfinite(part)
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
