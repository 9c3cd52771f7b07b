"""`compare`, `report` and `schema`: commands on audits that were already made."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .exits import UsageError, guarded


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")]
_COMPARED = (
    *("layer", "A local", "B local", "B / A"),
    *("A peel", "B peel", "A certified", "B certified"),
    *("A growth", "B growth", "A token", "B token"),
)
_WRITERS = {".html": "html", ".md": "md", ".csv": "csv", ".png": "png", ".json": "json"}


@guarded
def compare(
    a: Annotated[Path, typer.Argument(help="audit.json of one run.")],
    b: Annotated[Path, typer.Argument(help="audit.json of another.")],
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
    verbose: Verbose = False,
) -> None:
    """Two audits side by side, layer by layer."""
    from meanfield.audits import read

    from .terminal import show_table

    one, two = read(a), read(b)
    print(f"A {a}: {_name(one)}\nB {b}: {_name(two)}")
    for difference in _differences(one, two):
        print(f"! {difference}")
    show_table(_COMPARED, _rows(one, two), color=not no_color)


def _name(audit) -> str:
    from meanfield.report.escape import visible

    sizes = f"{len(audit.inputs)} inputs, {audit.run.dtype}"
    return visible(f"{audit.model.name}, {sizes}, {audit.run.started}")


def _differences(one, two) -> list[str]:
    """What keeps the two from being comparable."""
    found = []
    if _other_tensors(one.model.hashes, two.model.hashes):
        found.append("the models differ (hashes)")
    if [i.sha256 for i in one.inputs] != [i.sha256 for i in two.inputs]:
        found.append("the inputs differ")
    found += [f"{x} is partial" for x, audit in (("A", one), ("B", two)) if not audit.complete]
    return found


def _other_tensors(one: dict[str, str], two: dict[str, str]) -> bool:
    """Whether two models have other tensors; their files are compared where one is not told."""
    told = "tensors" in one and "tensors" in two
    return one["tensors"] != two["tensors"] if told else one != two


def _rows(one, two) -> list[list[str]]:
    """One line per layer that both have, and one for all blocks where both measured them."""
    from meanfield.audits.summary import worst_whole
    from meanfield.report.table import exponent

    right = {layer.layer: layer for layer in two.layers}
    growth = [{record.layer: record for record in audit.growth} for audit in (one, two)]
    rows = []
    for layer in (layer for layer in one.layers if layer.layer in right):
        other = right[layer.layer]
        exponents = [exponent(found.get(layer.layer)) for found in growth]
        rows.append(_row(str(layer.layer), layer, other, exponents, _told(one, two)))
    whole = [worst_whole(audit.whole) for audit in (one, two)]
    if whole[0] is not None and whole[1] is not None:
        rows.append(_row("all", whole[0], whole[1], ["", ""], _told(one, two)))
    return rows


def _told(one, two) -> tuple[float | None, float | None]:
    """The fraction and the radius that both audits have; None where they have none in common."""
    from meanfield.report.table import told_fraction, told_radius

    found = [{tell(audit) for audit in (one, two)} for tell in (told_fraction, told_radius)]
    fraction, radius = (values.pop() if len(values) == 1 else None for values in found)
    return fraction, radius


def _row(name: str, layer, other, exponents: list[str], told) -> list[str]:
    from meanfield.report.numbers import number
    from meanfield.report.table import certified_at, peel_at, worst_token

    x, y = layer.local.value, other.local.value
    fraction, radius = told
    both = (layer, other)
    peels = [peel_at(each.peeling, fraction) if fraction is not None else "" for each in both]
    proofs = [certified_at(each.radii, radius) if radius is not None else "" for each in both]
    ratio = f"{y / x:.2f}" if x and y is not None else "–"
    tokens = [worst_token(layer), worst_token(other)]
    return [name, number(x), number(y), ratio, *peels, *proofs, *exponents, *tokens]


@guarded
def report(
    run: Annotated[Path, typer.Argument(help="audit.json of a run.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .html, .md, .csv, .png or .json file.")
    ] = Path("report.html"),
    paths: Annotated[
        bool, typer.Option("--paths", help="Absolute paths in full on a page, not their last part.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
    verbose: Verbose = False,
) -> None:
    """Write the report of a run again, in the format that the file's ending names."""
    from meanfield.audits import read

    from .outputs import render, write_file

    kind = _WRITERS.get(output.suffix)
    if kind is None:
        raise UsageError(f"-o must end in {', '.join(_WRITERS)}; got {str(output)!r}.")
    audit = read(run)
    write_file(output, render(audit, kind, paths=paths), force=force)


@guarded
def schema(verbose: Verbose = False) -> None:
    """Print the JSON schema of audit.json."""
    from meanfield.audits import schema as made

    sys.stdout.write(json.dumps(made(), indent=1) + "\n")
