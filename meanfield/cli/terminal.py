"""The terminal: tables on stdout, progress on stderr and only where somebody is looking."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from meanfield.audits.record import Audit
from meanfield.report.escape import visible
from meanfield.report.numbers import number
from meanfield.report.table import (
    assumptions,
    chosen_heads,
    headline,
    layer_table,
    verdict,
)
from meanfield.report.text import attack_line, bounds_line


# Where there is no terminal (a pipe, a log) lines are not wrapped.
_WIDE = 180
_NARROW = 120
_WRAPPED = ("flag", "value", "moved")
_DISPENSABLE = ("radius", "score range", "upper", "Σ heads", "entropy", "shift")
# Where attacks take its place.
_DISPLACED = ("growth",)
_TEXT_COLUMNS = (
    *("worst head", "worst token", "flag", "fact", "value", "A token", "B token"),
    *("moved", "farthest"),
)


def console(*, color: bool = True, stderr: bool = False):
    """A rich console that highlights nothing by itself."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if stream.isatty() else _WIDE,
    )


def show(audit: Audit, *, color: bool = True, written: Sequence[str] = ()) -> None:
    """The audit as the terminal shows it: what, the layer table, checks, where the files are."""
    out = console(color=color)
    from rich.text import Text

    for line in _about(audit):
        out.print(Text(line, style="dim"))
    out.print()
    header, rows = _fitting(*layer_table(audit), out.width)
    out.print(_table(header, rows, bold="local"))
    out.print()
    out.print(Text(headline(audit)))
    out.print(Text("upper: proved at the same point; " + bounds_line(audit), style="dim"))
    if (found := attack_line(audit)) is not None:
        out.print(Text(found, style="dim"))
    for warning in audit.warnings[:6]:
        where, message = visible(warning.where), visible(warning.message)
        out.print(Text(f"! {where}: {message}", style="yellow"))
    if len(audit.warnings) > 6:
        out.print(Text(f"! {len(audit.warnings) - 6} more warnings in the report", style="yellow"))
    for check in audit.checks:
        mark, style = ("✓ pass  never", "green") if check.passed else ("✗ FAIL ", "bold red")
        out.print(Text(f"{mark} {check.expression}  (it is {number(check.value)})", style=style))
    end = f"{verdict(audit)} in {audit.run.elapsed:.1f} s"
    out.print(Text(" · ".join([end, *(visible(path) for path in written)])))


def _fitting(header: Sequence[str], rows: list[list[str]], width: int):
    """The whole table, or its main columns on a narrow terminal."""
    if width >= _NARROW:
        return header, rows
    attacked = any(name.startswith(("peel", "certified")) for name in header)
    spared = _DISPENSABLE + (_DISPLACED if attacked else ())
    keep = [i for i, name in enumerate(header) if not name.startswith(spared)]
    return [header[i] for i in keep], [[row[i] for i in keep] for row in rows]


def _about(audit: Audit) -> Iterator[str]:
    model, run = audit.model, audit.run
    sha = next(
        (sha for name, sha in model.hashes.items() if name.endswith(("safetensors", "tensors"))), ""
    )
    parts = [
        f"meanfield {run.version}",
        visible(model.name),
        visible(model.family),
        f"{model.layers} layers × {model.heads} heads",
        *([found] if (found := chosen_heads(audit)) else []),
        f"d={model.dim}",
        *([f"sha256 {sha[:8]}…"] if sha else []),
        run.dtype,
        f"jax {run.jax} {run.device}",
    ]
    yield " · ".join(parts)
    if found := assumptions(audit):
        yield f"assumed  {found}  (the weights do not tell; --set NAME=VALUE does)"
    for i, source in enumerate(audit.inputs[:3]):
        window = f"{len(source.tokens)} of {source.total} tokens"
        start = f" from {source.start}" if source.start else ""
        yield f"{source.kind}  {visible(source.name)}  {window}{start}{_merged(audit, i)}"
    if len(audit.inputs) > 3:
        yield f"and {len(audit.inputs) - 3} more inputs; the worst one is shown for each layer"


def _merged(audit: Audit, source: int) -> str:
    """How many equal tokens became masses; nothing without --dedup."""
    row = next((row for row in audit.rows if row.input == source), None)
    if row is None or not audit.run.settings.get("dedup"):
        return ""
    return f" · {row.tokens - row.atoms} duplicates merged"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, bold: str | None = None):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    empty = [all(not row[i] for row in rows) for i in range(len(header))]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for i, name in enumerate(header):
        if not empty[i]:
            side = "left" if name in _TEXT_COLUMNS else "right"
            style = "bold" if name == bold else "yellow" if name == "flag" else ""
            table.add_column(Text(name), justify=side, style=style, no_wrap=name not in _WRAPPED)
    for row in rows:
        table.add_row(*(Text(cell) for i, cell in enumerate(row) if not empty[i]))
    return table


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, color: bool = True) -> None:
    """A plain table on stdout."""
    console(color=color).print(_table(header, rows))


@contextmanager
def progress(*, wanted: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """A progress bar on stderr; None where stderr is not a terminal or it is not wanted."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=None)

        def report(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what or "compiling")

        yield report
