"""From text to token ids and back, without padding and without truncation."""

import abc
from pathlib import Path
from typing import Any

from .document import read_json
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


class HubTokenizer(AbstractTokenizer):
    """A tokenizer of the `tokenizers` library.

    Args:
      tokenizer: a `tokenizers.Tokenizer`; its padding and truncation are switched off.
    """

    def __init__(self, tokenizer: Any):
        tokenizer.no_padding()  # all-MiniLM-L6-v2 pads every text to 128 by itself
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._bytes = type(tokenizer.decoder).__name__ == "ByteLevel"

    def encode(self, text: str) -> list[int]:
        found = self._tokenizer.encode(text)
        if all(found.special_tokens_mask):
            refuse_empty(text)
        return found.ids

    def tokens(self, ids: list[int]) -> list[str]:
        return [self._name(i) for i in ids]

    def _name(self, id: int) -> str:
        name = self._tokenizer.id_to_token(id)
        if name is None:
            return f"#{id}"
        return name.replace("\u0120", " ").replace("\u010a", "\n") if self._bytes else name

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def find_tokenizer(folder: Path) -> tuple[HubTokenizer | None, tuple[Path, ...]]:
    """The tokenizer of a model folder and its files; None where there is none we can read.

    Read are tokenizer.json, vocab.txt (WordPiece) and vocab.json with merges.txt (byte-level BPE).

    Raises:
      ModelError: a tokenizer file is damaged.
    """
    from tokenizers import Tokenizer

    readers = (
        (("tokenizer.json",), lambda path: Tokenizer.from_file(str(path))),
        (("vocab.txt",), _word_piece),
        (("vocab.json", "merges.txt"), _byte_pairs),
    )
    for names, read in readers:
        paths = tuple(folder / name for name in names)
        if all(path.is_file() for path in paths):
            try:
                return HubTokenizer(read(*paths)), paths
            except (ModelError, KeyboardInterrupt):
                raise
            except BaseException as error:  # the library raises bare Exception, or panics
                raise ModelError(
                    f"{paths[0]}: cannot be read as a tokenizer ({str(error)[:120]}). "
                    "Download it again."
                ) from None
    return None, ()


def _word_piece(vocabulary: Path):
    from tokenizers import BertWordPieceTokenizer

    settings = vocabulary.with_name("tokenizer_config.json")
    lower = not settings.is_file() or read_json(settings).get("do_lower_case", True)
    return BertWordPieceTokenizer(str(vocabulary), lowercase=bool(lower))


def _byte_pairs(vocabulary: Path, merges: Path):
    from tokenizers import ByteLevelBPETokenizer

    return ByteLevelBPETokenizer(str(vocabulary), str(merges))
