"""The `meanfield` command: audit, inspect, compare, compare-models, report, schema."""

import io
import sys
from typing import Annotated

import typer

from .audit import audit
from .compare_models import compare_models
from .inspect import inspect
from .records import compare, report, schema


_EPILOG = (
    "Exit codes: 0 ok, 1 a --fail-on threshold is violated, 2 usage, 3 an input cannot be read, "
    "4 incomplete (--resume goes on), 70 internal error."
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
for command in (audit, inspect, compare, compare_models, report, schema):
    app.command()(command)


def _version(wanted: bool) -> bool:
    if wanted:
        from meanfield import __version__

        print(f"meanfield {__version__}")
        raise typer.Exit
    return wanted


@app.callback(epilog=_EPILOG)
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Robustness audits of the attention layers of real transformers."""


def main() -> None:
    """The entry point of the `meanfield` script."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character gets its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
