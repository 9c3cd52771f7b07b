"""`meanfield inspect`: what is in a model's files, without any mathematics."""

from typing import Annotated

import typer

from .described import Arch, Fields, HeadCount, architecture
from .exits import guarded


@guarded
def inspect(
    model: Annotated[
        str,
        typer.Argument(help="Folder, safetensors file, llama2.c .bin file, or a shipped model."),
    ] = "shakespeare-gpt",
    arch: Arch = None,
    head_count: HeadCount = None,
    fields: Fields = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """Architecture, sizes, data types and damaged weights of a model; no mathematics."""
    from meanfield.models import inspect as look
    from meanfield.report.escape import shorten, visible

    from .terminal import show_table

    facts = look(model, architecture=architecture(arch, head_count, fields))
    shown = {name: value for name, value in vars(facts).items() if name != "bad"}
    shown |= {"not finite": _bad(facts), "memory": _memory(facts)}
    rows = [[name, shorten(visible(_shown(value)), 160)] for name, value in shown.items() if value]
    show_table(("fact", "value"), rows, color=not no_color)


def _bad(facts) -> str:
    """Which tensors hold NaN or infinite values, and how many."""
    found = [f"{name}: {count:,} (first at {first:,})" for name, count, first in facts.bad]
    return "; ".join(found) or "none"


def _memory(facts) -> str:
    """The estimate for a layer at a few lengths."""
    from meanfield.audits.limits import estimate, in_gib

    lengths = sorted({min(n, facts.max_tokens) for n in (128, 512, 2048)})
    return ", ".join(f"{in_gib(estimate(facts, n, facts.heads, 4))} at {n} tokens" for n in lengths)


def _shown(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
