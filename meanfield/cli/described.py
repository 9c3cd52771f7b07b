"""What a person says of weights that came without a config.json: --arch, --head-count, --set."""

import json
from typing import Annotated, Any

import typer

from .exits import UsageError


Arch = Annotated[
    str | None,
    typer.Option(
        metavar="FAMILY",
        help="The family of weights without a config.json: bert, gpt2, llama, vit, ... Sizes are "
        "read off the tensors.",
    ),
]
HeadCount = Annotated[
    int | None, typer.Option(help="With --arch: how many heads a layer has. The usual by default.")
]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="With --arch: a field of config.json, such as rope_theta=500000. Repeatable.",
    ),
]


def architecture(arch: str | None, count: int | None, fields: list[str] | None):
    """The `models.Architecture` that the options describe; None without --arch.

    Raises:
      UsageError: options that need --arch stand alone, or --set without a value.
      ModelError: no such family.
    """
    if arch is None:
        if count is not None or fields:
            raise UsageError("--head-count and --set describe weights for --arch FAMILY; give it.")
        return None
    from meanfield.models import Architecture

    return Architecture(arch, count, dict(map(_field, fields or [])))


def heads_or_count(
    heads: str | None, arch: str | None, count: int | None
) -> tuple[str | None, int | None]:
    """`--arch bert --heads 12` says how many heads there are; everywhere else, which to audit."""
    if arch is not None and count is None and heads is not None and heads.strip().isdigit():
        return None, int(heads)
    return heads, count


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set looks like rope_theta=500000; got {text!r}.")
    try:
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return name.strip(), value.strip()  # a word, such as gelu_new
