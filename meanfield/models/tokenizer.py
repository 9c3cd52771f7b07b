"""From text to token ids and back, without padding and without truncation."""

import abc
import functools
from typing import Any

from .error import ModelError


class AbstractTokenizer(abc.ABC):
    """Text to ids and back."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, with the special tokens of the model.

        Raises:
          ModelError: the text holds no token but special ones.
        """

    @abc.abstractmethod
    def tokens(self, ids: list[int]) -> list[str]:
        """The piece of text that each id stands for."""

    @abc.abstractmethod
    def decode(self, ids: list[int]) -> str:
        """The text of the ids."""


def refuse_empty(text: str) -> None:
    """The error for a text without tokens.

    Raises:
      ModelError: always.
    """
    shown = repr(text[:40]) if text else "an empty text"
    raise ModelError(f"`text` must hold at least one token; got {shown}. Give a longer text.")


class UnreadTokenizer(AbstractTokenizer):
    """The tokenizer of files that cannot be read as the original does: it refuses every text.

    Args:
      reason: the files, why they are not read, and what to do.
    """

    def __init__(self, reason: str):
        self.reason = reason

    def encode(self, text: str) -> list[int]:
        raise ModelError(self.reason)

    def tokens(self, ids: list[int]) -> list[str]:
        return [f"#{id}" for id in ids]

    def decode(self, ids: list[int]) -> str:
        raise ModelError(self.reason)


class HubTokenizer(AbstractTokenizer):
    """A tokenizer of the `tokenizers` library.

    Args:
      tokenizer: a `tokenizers.Tokenizer`; its padding and truncation are switched off.
    """

    def __init__(self, tokenizer: Any):
        tokenizer.no_padding()  # all-MiniLM-L6-v2 pads every text to 128 by itself
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._bytes = "ByteLevel" in str(tokenizer.decoder)

    def encode(self, text: str) -> list[int]:
        found = self._tokenizer.encode(text.removeprefix("\ufeff"))  # a byte-order mark is no text
        if all(found.special_tokens_mask):
            refuse_empty(text)
        return found.ids

    def tokens(self, ids: list[int]) -> list[str]:
        return [self._name(i) for i in ids]

    def _name(self, id: int) -> str:
        name = self._tokenizer.id_to_token(id)
        if name is None:
            return f"#{id}"
        return _characters(name) if self._bytes else name

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


@functools.cache
def _byte_of() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for.

    Printable bytes of Latin-1 stand for themselves, the others for the letters from 256 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


def _characters(piece: str) -> str:
    """The characters of a byte-level piece; bytes that are no whole character as `\\xNN`."""
    bytes_of = _byte_of()
    if not all(letter in bytes_of for letter in piece):
        return piece  # an added token, which is written as it is
    return bytes(map(bytes_of.__getitem__, piece)).decode("utf-8", "backslashreplace")
