"""What an audit writes: only under one folder, each file whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

from meanfield.audits.document import read, to_json, write_atomically
from meanfield.audits.record import Audit
from meanfield.cli.exits import UsageError


JOURNAL = "partial.jsonl"
_FILES = {
    "html": "index.html",
    "md": "report.md",
    "json": "audit.json",
    "csv": "heads.csv",
    "png": "audit.png",
    "card": "model-card.md",
}
# beside heads.csv, where attacks or certificates were asked for
_ATTACKS = "attacks.csv"
FORMATS = tuple(_FILES)


def parse_formats(text: str) -> tuple[str, ...]:
    """`html,json` as a tuple.

    Raises:
      UsageError: an unknown format.
    """
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [part for part in chosen if part not in FORMATS]
    if unknown or not chosen:
        raise UsageError(f"--format takes {', '.join(FORMATS)}; got {text!r}.")
    return chosen


def check_folder(out: Path, *, force: bool, resume: bool) -> None:
    """Refuses an output folder that holds something; makes nothing yet.

    Raises:
      UsageError: it is a file, or not empty without --force or --resume.
    """
    if "\0" not in str(out) and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder.")
    _check_place(out)
    if out.is_dir() and any(out.iterdir()) and not (force or resume):
        again = "--resume to go on" if (out / JOURNAL).exists() else "--force to write over it"
        raise UsageError(f"--out {out} is not empty; give {again}, or another folder.")


def finished(out: Path) -> Audit | None:
    """The complete audit that is already in a folder, or None."""
    path = out / _FILES["json"]
    if (out / JOURNAL).exists() or not path.is_file():
        return None
    audit = read(path)
    return audit if audit.complete else None


def _check_place(out: Path) -> None:
    """Refuses a folder that could not be made or written to."""
    if "\0" in str(out):
        raise UsageError("--out must be the path of a folder; got one with a null byte.")
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UsageError(f"--out {out} cannot be made: {there} is a file; give another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out} cannot be made: {there} is not writable; give another.")


def journal_of(out: Path | None, *, force: bool) -> Path | None:
    """The journal of an audit written to `out`; a journal that is not wanted is deleted."""
    if out is None:
        return None
    if force:
        (out / JOURNAL).unlink(missing_ok=True)
    return out / JOURNAL


def finish(audit: Audit, out: Path) -> None:
    """Deletes the journal of a complete audit: its rows are in audit.json."""
    if audit.complete:
        (out / JOURNAL).unlink(missing_ok=True)


def write_all(audit: Audit, out: Path, formats: tuple[str, ...]) -> list[str]:
    """Writes each format and returns the paths."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        write_atomically(out / _FILES[name], render(audit, name))
        written.append(str(out / _FILES[name]))
    if "csv" in formats and (lines := _attacks(audit)) is not None:
        write_atomically(out / _ATTACKS, lines)
        written.append(str(out / _ATTACKS))
    return written


def write_file(path: Path, content: str | bytes, *, force: bool) -> None:
    """Writes one file, whole or not at all.

    Raises:
      UsageError: as `check_file`.
    """
    check_file(path, force=force)
    write_atomically(path, content)


def check_file(path: Path, *, force: bool) -> None:
    """Refuses a file that cannot be written; writes nothing yet.

    Raises:
      UsageError: it exists and `force` is false, or its folder does not exist.
    """
    if path.exists() and not force:
        raise UsageError(f"{path} exists; give --force to write over it.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}.")


def render(audit: Audit, name: str, *, paths: bool = False) -> str | bytes:
    """The audit in one of `FORMATS`; `paths` shows absolute paths on the page in full."""
    return _html(audit, paths) if name == "html" else _WRITERS[name](audit)


def _html(audit: Audit, paths: bool) -> str:
    from meanfield.report.page import html

    return html(audit, paths=paths)


def _markdown(audit: Audit) -> str:
    from meanfield.report.text import markdown

    return markdown(audit)


def _csv(audit: Audit) -> str:
    from meanfield.report.text import heads_csv

    return heads_csv(audit)


def _attacks(audit: Audit) -> str | None:
    from meanfield.report.attacks import attacks_csv

    return attacks_csv(audit)


def _card(audit: Audit) -> str:
    from meanfield.report.text import model_card

    return model_card(audit)


def _png(audit: Audit) -> bytes:
    from meanfield.plot.overview import overview_png

    return overview_png(audit)


_WRITERS: dict[str, Callable[[Audit], str | bytes]] = {
    "md": _markdown,
    "json": to_json,
    "csv": _csv,
    "card": _card,
    "png": _png,
}
