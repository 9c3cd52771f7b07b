"""A progress bar on stderr, where somebody is looking."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


Report = Callable[[int, int, str], None]


@contextmanager
def reporting(progress: bool | Report) -> Iterator[Report]:
    """What to call as report(steps done, steps in all, words).

    Args:
      progress: a function of that kind; True for a bar, on stderr and only if it is a terminal;
        False for silence.
    """
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield lambda done, total, words: None


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=None)
        yield lambda done, total, words: bar.update(
            task, completed=done, total=total, description=words
        )
