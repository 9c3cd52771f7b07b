"""Exit codes, and the one line that stands for an error."""

import enum
import errno
import functools
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import typer


class Exit(enum.IntEnum):
    """What the exit code of `meanfield` means."""

    OK = 0
    VIOLATED = 1
    USAGE = 2
    INPUT = 3
    INCOMPLETE = 4
    INTERNAL = 70


class UsageError(ValueError):
    """Arguments that do not go together."""


# By name, so that telling errors apart imports nothing.
_CODES = {
    "UsageError": Exit.USAGE,
    "ThresholdError": Exit.USAGE,
    "ModelError": Exit.INPUT,
    "InputError": Exit.INPUT,
    "RecordError": Exit.INPUT,
    "LimitError": Exit.INPUT,
    "ResumeError": Exit.INPUT,
}


def code_of(error: BaseException) -> Exit:
    """The exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return Exit.INCOMPLETE
    for kind in type(error).__mro__:
        if kind.__module__.startswith("meanfield") and kind.__name__ in _CODES:
            return _CODES[kind.__name__]
    return Exit.INPUT if isinstance(error, (OSError, MemoryError)) else Exit.INTERNAL


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose errors are one line on stderr and an exit code; `-v` adds the traceback."""

    @functools.wraps(command)
    def run(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, (typer.Exit, typer.Abort)) or _is_click(error):
                raise
            complain(error, verbose=bool(kwargs.get("verbose")))
            raise typer.Exit(code_of(error)) from None

    return run


def _is_click(error: BaseException) -> bool:
    return any(kind.__name__ == "ClickException" for kind in type(error).__mro__)


def _words(error: BaseException) -> str:
    """What an error says; a full disk says what it did not take, and what to do."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" {error.filename}" if error.filename else ""
        return (
            f"the disk is full: the file{where} was not written. Free some space; after an audit, "
            "the same command with --resume goes on from the rows that are kept."
        )
    return str(error)


def stop_on_terminate() -> None:
    """SIGTERM ends a command as Ctrl-C does: what there is, is written."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def complain(error: BaseException, *, verbose: bool = False) -> None:
    """One line on stderr."""
    from meanfield.report.escape import visible

    if verbose:
        traceback.print_exception(error)
    text = " ".join(_words(error).split()) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        text = "interrupted before the first row was finished; nothing was written"
    if code_of(error) == Exit.INTERNAL and not verbose:
        text = f"internal error: {type(error).__name__}: {text} (-v shows where)"
    print(f"meanfield: {visible(text)}", file=sys.stderr)
