"""`meanfield compare-models`: two checkpoints of one architecture, as measures of heads."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .described import Arch, Fields, HeadCount, architecture
from .exits import UsageError, guarded


_MODEL = "Folder, safetensors file, llama2.c .bin file, or a shipped model."


@guarded
def compare_models(
    a: Annotated[str, typer.Argument(help=_MODEL)],
    b: Annotated[str, typer.Argument(help="Another checkpoint of the same architecture.")],
    heads: Annotated[
        bool,
        typer.Option(
            "--heads/--neurons", help="What is matched: attention heads, or perceptron neurons."
        ),
    ] = True,
    layers: Annotated[
        str | None, typer.Option(metavar="LIST", help="Which layers: 0,3-5. All by default.")
    ] = None,
    arch: Arch = None,
    head_count: HeadCount = None,
    fields: Fields = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write JSON; - for stdout, in place of the table."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a .png or .svg.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """How far two checkpoints of one architecture are apart, and which head became which.

    Heads are matched by what they compute: permuted heads, and weights that were multiplied by
    matrices which cancel, are at distance zero.
    """
    _check_files([path for path in (json if json != "-" else None, figure) if path], force)
    if figure is not None and figure.suffix not in (".png", ".svg"):
        raise UsageError(f"--figure must end in .png or .svg; got {str(figure)!r}.")
    told = architecture(arch, head_count, fields)
    from .terminal import progress

    with progress(wanted=not no_progress) as report:
        found = _compare(a, b, told, heads=heads, layers=layers, report=report)
    written = list(_write(found, json, figure, force))
    if json == "-":
        sys.stdout.write(found.to_json())
    else:
        _show(found, (a, b), written, color=not no_color)


def _check_files(paths: list, force: bool) -> None:
    from .outputs import check_file

    for path in paths:
        check_file(Path(path), force=force)


def _compare(a: str, b: str, told, *, heads: bool, layers: str | None, report):
    from meanfield.models import load

    one, two = (load(path, architecture=told) for path in (a, b))
    from meanfield.audits import Heads, Neurons, compare_models

    base = _base(layers, len(one.layers))
    return compare_models(one, two, Heads() if heads else Neurons(), base=base, progress=report)


def _base(layers: str | None, count: int) -> list[float] | None:
    """Equal weights for the layers that were asked for."""
    from .sources import parse_numbers

    chosen = parse_numbers("--layers", layers)
    if chosen is None:
        return None
    if not set(chosen) <= set(range(count)):
        raise UsageError(f"--layers must be among 0-{count - 1}; got {layers}.")
    return [(l in chosen) / len(chosen) for l in range(count)]


def _write(found, json: str | None, figure: Path | None, force: bool):
    """Writes what was asked for; yields the paths."""
    from .outputs import write_file

    if json not in (None, "-"):
        write_file(Path(json), found.to_json(), force=force)
        yield json
    if figure is not None:
        from meanfield.plot import model_comparison_image

        write_file(figure, model_comparison_image(found, figure.suffix[1:]), force=force)
        yield str(figure)


def _show(found, paths: tuple[str, str], written: list[str], *, color: bool) -> None:
    from meanfield.report.comparison import comparison_lines, comparison_table
    from meanfield.report.escape import visible

    from .terminal import console, show_table

    out = console(color=color)
    for letter, path, model in zip("AB", paths, found.models, strict=True):
        sizes = f"{model.layers} layers × {model.heads} heads · d={model.dim}"
        name = f"{letter}  {visible(path)} · {visible(model.family)}"
        out.print(f"{name} · {sizes}", style="dim")
    out.print()
    show_table(*comparison_table(found), color=color)
    out.print()
    for line in (*comparison_lines(found), *map(visible, written)):
        out.print(line, style="dim")
