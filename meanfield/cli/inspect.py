"""`meanfield inspect`: what is in a model's files, without any mathematics."""

from typing import Annotated

import typer

from .exits import guarded


@guarded
def inspect(
    model: Annotated[
        str, typer.Argument(help="Folder, llama2.c .bin file, or a shipped model.")
    ] = "shakespeare-gpt",
    no_color: Annotated[bool, typer.Option(help="No colours.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """Architecture, sizes, data types and hashes of a model; no mathematics."""
    from meanfield.models import inspect as look
    from meanfield.report.escape import shorten, visible

    from .terminal import show_table

    facts = vars(look(model))
    rows = [[name, shorten(visible(_shown(value)), 100)] for name, value in facts.items()]
    show_table(("fact", "value"), rows, color=not no_color)


def _shown(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
