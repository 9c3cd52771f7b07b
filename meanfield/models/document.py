"""JSON files read strictly: bounded size, no duplicate keys, no NaN."""

import json
from pathlib import Path
from typing import Any

from .error import ModelError


def read_json(path: Path, *, limit: int = 64_000_000) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ModelError: the file is absent, longer than `limit` bytes, or not one JSON object.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise ModelError(f"{path}: {size:,} bytes are too many for a JSON file of this kind.")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from None


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """The object in JSON text; every name in it stands once."""

    def strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in found if names.count(name) > 1)
            raise ModelError(f"{where}: the name {twice[:80]!r} stands twice. Write the file anew.")
        return found

    def refuse(constant: str) -> None:
        raise ModelError(f"{where}: holds {constant}, which is not JSON. Write the file anew.")

    try:
        plain = text.decode("utf-8-sig")  # editors on Windows put a mark at the beginning
        value = json.loads(plain, object_pairs_hook=strict, parse_constant=refuse)
    except RecursionError:
        raise ModelError(f"{where}: is nested too deeply to be read. Write it anew.") from None
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"{where}: is not JSON ({error}). Download or write it anew.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{where}: must hold one JSON object; got {type(value).__name__}.")
    return value
