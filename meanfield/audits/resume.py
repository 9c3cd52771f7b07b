"""A journal of finished rows: an interrupted audit goes on where it stopped, nothing twice."""

import hashlib
import json
import os
from pathlib import Path


class ResumeError(ValueError):
    """A journal that belongs to another audit, or that must not be overwritten."""


def digest(*parts) -> str:
    """SHA-256 of JSON-able parts (model hashes, input hashes, settings): the key of a journal."""
    text = json.dumps(parts, sort_keys=True, allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """An append-only file: a header line with the audit's digest, then one line per row.

    Attributes:
      path: the file; None keeps the rows in memory only.
      rows: finished rows by (input, layer); the layer of a row of all blocks is None.
    """

    def __init__(self, path: str | os.PathLike | None, key: str, *, resume: bool = False):
        """Opens the journal at `path` for the audit whose digest is `key`.

        Raises:
          ResumeError: the file exists and `resume` is false, or it has another digest.
        """
        self.path = None if path is None else Path(path)
        self.rows: dict[tuple[int, int | None], dict] = {}
        if self.path is None:
            return
        if self.path.exists() and not resume:
            raise ResumeError(
                f"{self.path} holds the rows of an unfinished audit; "
                "give --resume to go on, or delete it."
            )
        if self.path.exists() and self.path.stat().st_size:
            self._load(key)
        else:
            self._append({"meanfield.partial": 1, "digest": key})

    def add(self, row: dict) -> None:
        """Appends one row and forces it to the disk; a row that is there already stays."""
        place = (row["input"], row.get("layer"))
        if place in self.rows:
            return
        self.rows[place] = row
        if self.path is not None:
            self._append(row)

    def remove(self) -> None:
        """Deletes the file: the audit is complete and its final files are written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _append(self, line: dict) -> None:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("ab") as stream:
                stream.write(json.dumps(line, allow_nan=False).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            error.filename = str(self.path)  # writing does not tell which file
            raise

    def _load(self, key: str) -> None:
        assert self.path is not None
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # a torn last line is dropped
        lines = whole.splitlines()
        header = _parse(lines[0]) if lines else None
        if header is None or header.get("digest") != key:
            raise ResumeError(
                f"{self.path} belongs to another audit (model, inputs, settings or seed differ); "
                "run with the same arguments, or choose another --out."
            )
        for line in lines[1:]:
            row = _parse(line)
            if row is not None and type(row.get("input")) is int:
                self.rows[(row["input"], row.get("layer"))] = row
        if len(whole) < len(data):
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))


def _parse(line: bytes) -> dict | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
