"""An audit as JSON and back; the JSON schema is read off the record's own annotations."""

import dataclasses
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from .record import SCHEMA, Audit
from .references import check_references
from .restoring import RecordError as RecordError, restore as restore


def plain(value: Any) -> Any:
    """Dataclasses, tuples and dicts as JSON values; a number that is not finite is refused."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a record holds finite numbers or null; got {value}.")
    return value


def to_json(audit: Audit) -> str:
    """The audit as a JSON document: stable key order, ASCII only, finite numbers only."""
    return json.dumps(plain(audit), indent=1, allow_nan=False) + "\n"


def from_json(text: str, source: str = "the document") -> Audit:
    """Reads what `to_json` wrote.

    Raises:
      RecordError: `text` is not JSON, or not an audit of this schema.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{source} is not JSON ({error}); give an audit.json.") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise RecordError(
            f"{source} must be an audit with schema {SCHEMA!r}; got {str(found)[:80]!r}. "
            "Run `meanfield audit` with this version to write one."
        )
    try:
        audit = restore(Audit, document)
        check_references(audit)
    except RecordError as error:
        raise RecordError(f"{source} is a damaged audit: {error}") from None
    return audit


def read(path: str | os.PathLike) -> Audit:
    """The audit in the JSON file at `path`.

    Raises:
      RecordError: no such file, or not an audit.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read ({error}); give an audit.json.") from None
    return from_json(text, str(path))


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a temporary file beside `path` and renames it: readers never see half a file."""
    path = Path(path)
    try:
        _replace(path, content)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(
                path
            )  # the name that was asked for, not that of the temporary file
        raise


def _replace(path: Path, content: str | bytes) -> None:
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write(audit: Audit, path: str | os.PathLike) -> None:
    """Writes the audit to `path` as JSON, whole or not at all."""
    write_atomically(path, to_json(audit))
