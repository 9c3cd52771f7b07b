"""The tokenizer of llama2.c: byte pairs merged greedily by the best score.

The file: int32 longest piece, then for each id a float32 score, an int32 length and the bytes.
Ids 0, 1, 2 are unknown, begin and end; 3..258 are the raw bytes.
"""

import struct
from pathlib import Path

from .error import ModelError
from .tokenizer import AbstractTokenizer, refuse_empty


_BEGIN, _BYTES = 1, 3


def find_vocabulary(folder: Path, size: int) -> Path | None:
    """The tokenizer file that goes with a llama2.c model of this vocabulary, if it is there."""
    for name in (f"tok{size}.bin", "tokenizer.bin"):
        if (folder / name).is_file():
            return folder / name
    return None


class Llama2cTokenizer(AbstractTokenizer):
    """Reads a llama2.c tokenizer file.

    Args:
      path: the file.
      size: how many ids the model knows.

    Raises:
      ModelError: the file is damaged or belongs to another vocabulary.
    """

    def __init__(self, path: Path, size: int):
        data, at = path.read_bytes(), 4
        self._pieces, self._scores = [], []
        for _ in range(size):
            if at + 8 > len(data):
                raise ModelError(f"{path}: ends before piece {len(self._pieces)} of {size}.")
            score, length = struct.unpack_from("<fi", data, at)
            at += 8
            if not 0 <= length <= len(data) - at:
                raise ModelError(f"{path}: piece {len(self._pieces)} has the length {length}.")
            self._pieces.append(data[at : at + length])
            self._scores.append(score)
            at += length
        if at != len(data):
            raise ModelError(f"{path}: {len(data) - at} bytes follow the last of {size} pieces.")
        self._ids = {piece: i for i, piece in reversed(list(enumerate(self._pieces)))}

    def encode(self, text: str) -> list[int]:
        if not text:
            refuse_empty(text)
        ids = [self._ids[b" "]] if b" " in self._ids else []
        for character in text:
            piece = character.encode()
            known = self._ids.get(piece)
            ids += [known] if known is not None else [byte + _BYTES for byte in piece]
        while (best := self._best_merge(ids)) is not None:
            at, merged = best
            ids[at : at + 2] = [merged]
        return [_BEGIN, *ids]

    def _best_merge(self, ids: list[int]) -> tuple[int, int] | None:
        """Where the pair with the best score stands, and what it becomes."""
        found = None
        for at, (left, right) in enumerate(zip(ids, ids[1:], strict=False)):
            merged = self._ids.get(self._pieces[left] + self._pieces[right])
            if merged is not None and (found is None or self._scores[merged] > found[0]):
                found = self._scores[merged], at, merged
        return None if found is None else found[1:]

    def tokens(self, ids: list[int]) -> list[str]:
        return [self._bytes(i).decode("utf-8", "replace") for i in ids]

    def decode(self, ids: list[int]) -> str:
        text = b"".join(self._bytes(i) for i in ids if i not in (1, 2)).decode("utf-8", "replace")
        return text.removeprefix(" ") if ids[:1] == [_BEGIN] else text

    def _bytes(self, id: int) -> bytes:
        """The bytes of an id; raw bytes are written <0x0A> in the file."""
        if _BYTES <= id < _BYTES + 256:
            return bytes([id - _BYTES])
        return self._pieces[id] if id < len(self._pieces) else f"#{id}".encode()
