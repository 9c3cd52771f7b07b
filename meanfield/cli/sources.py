"""Files named on the command line, as inputs of an audit; nothing is ever unpickled."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from meanfield.cli.exits import UsageError


class SourceError(OSError):
    """A file that cannot be read as an input."""


def gather(model: str, texts: list[str], tokens: list[Path], images: list[Path]) -> dict[str, Any]:
    """The inputs by name; the samples that ship with the package where none is given."""
    found: dict[str, Any] = {}
    for name in texts:
        found["stdin" if name == "-" else name] = read_text(name)
    for path in tokens:
        found[str(path)] = read_tokens(path)
    for path in (file for given in images for file in _files(given)):
        found[str(path)] = read_array(path)
    return found or samples(model)


def _files(path: Path) -> list[Path]:
    """A file itself, or the .npy files of a folder.

    Raises:
      SourceError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    if not (found := sorted(path.glob("*.npy"))):
        raise SourceError(f"--images {path} is a folder without .npy files.")
    return found


def read_text(name: str) -> str:
    """The text of a file, or of stdin for `-`.

    Raises:
      SourceError: no such file, or not UTF-8.
    """
    if name == "-":
        return _decoded("stdin (--text -)", sys.stdin.buffer.read())
    path = Path(name)
    if path.is_dir():
        raise SourceError(f"--text {name} is a folder; give a text file.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"--text {name}: no such file{_there(path)}.") from None
    return _decoded(f"--text {name}", data)


def _decoded(what: str, data: bytes) -> str:
    """UTF-8 whatever the locale is, with line ends as Python's text files have them."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{what} is not UTF-8 (byte {error.start}); convert it, e.g. with iconv."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _there(path: Path) -> str:
    if not path.parent.is_dir():
        return f" and no folder {path.parent}"
    names = sorted(p.name for p in path.parent.iterdir() if p.is_file())[:6]
    return f"; the folder has {', '.join(names)}" if names else ""


def read_tokens(path: Path) -> np.ndarray:
    """Token ids from a JSON list, or ids or hidden states from a .npy file."""
    if path.suffix != ".json":
        return read_array(path)
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"--tokens {path} cannot be read ({error}).") from None
    if not isinstance(ids, list) or not all(type(i) is int and abs(i) < 2**31 for i in ids):
        raise SourceError(f"--tokens {path} must be a JSON list of token ids.")
    return np.asarray(ids, np.int64)


def read_array(path: Path) -> np.ndarray:
    """A .npy file; pickled objects are refused."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path} cannot be read as .npy ({_first_line(error)}).") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise SourceError(f"{path} must be one .npy array of numbers.")
    return array


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def samples(model: str) -> dict[str, Any]:
    """The shipped sample: images for the digits model, a page of text for every other."""
    from meanfield.models import zoo

    if model == "digits-vit":
        return {"sample digits": zoo.sample_images()[:4]}
    return {"sample text": zoo.sample_text()}


def parse_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """`0,3-5` as (0, 3, 4, 5), each once; None for all.

    Raises:
      UsageError: the value of `option` is not such a list.
    """
    if text is None or text == "all":
        return None
    try:
        spans = [[int(end) for end in part.split("-", 1)] for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} looks like 0,3-5; got {text!r}.") from None
    if any(not 0 <= span[0] <= span[-1] < 10_000 for span in spans):
        raise UsageError(f"{option} looks like 0,3-5; got {text!r}.")
    numbers = (number for span in spans for number in range(span[0], span[-1] + 1))
    return tuple(dict.fromkeys(numbers))
