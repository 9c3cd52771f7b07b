"""Attacks and certificates as the page, Markdown and CSV tell them."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meanfield.audits.record import Audit, LayerSummary, Peeling, RadiusPoint, Row, Whole
from meanfield.audits.summary import worst_whole

from .curves import peeling_figure, radius_figure
from .drawing import Figure
from .escape import cell, shorten, visible
from .numbers import MISSING
from .table import certificate_text, peel_at, shift_at


_CSV_HEADER = (
    *("input", "layer", "what", "at", "value", "log10"),
    *("distance_in", "distance_out", "separated", "token", "note"),
)
PEELING_NOTE = (
    "Each number is W₂ after over W₂ before, both by exact transport: a lower bound on what can "
    "happen. A question mark means that the search stalled."
)
RADIUS_NOTE = (
    "Left: the largest ratio found when tokens move by at most the radius (a lower bound). Right: "
    "a proved bound on the local constant at every measure within the radius, tokens split or not; "
    "no attack from the input exceeds it. Of all blocks together only what was found is told (≥). "
    "At a star tokens come within two radii of each other: "
    "there it bounds the cost when the parts of each token are kept apart from those of others."
)
_DOMAINS = {"layernorm": "range of the norm before it", "ball": "observed ball"}


@dataclass(frozen=True)
class Table:
    """A header, rows, and the first columns that hold text."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class AttackContent:
    """What the section on attacks and certificates shows; a part that was not asked is None."""

    peeling: Table | None
    radii: Table | None
    peeling_figure: Figure | None
    radius_figure: Figure | None
    whole: Whole | None


def attack_content(audit: Audit) -> AttackContent:
    """The tables and figures of the attacks and certificates of an audit."""
    return AttackContent(
        peeling_table(audit),
        radius_table(audit),
        peeling_figure(audit),
        radius_figure(audit),
        worst_whole(audit.whole),
    )


def peeling_table(audit: Audit) -> Table | None:
    """One line per layer: the token that is peeled, and the ratio at each fraction."""
    found = [(name, each.peeling) for name, each in _measured(audit) if each.peeling is not None]
    if not found:
        return None
    fractions = sorted({p.fraction for _, peeling in found for p in peeling.points}, reverse=True)
    rows = [[name, *_peeling_cells(peeling, fractions)] for name, peeling in found]
    return Table(["layer", "token", "domain", *(f"{x:g}" for x in fractions)], rows)


def _peeling_cells(peeling: Peeling, fractions: Sequence[float]) -> list[str]:
    token = shorten(visible(peeling.token), 16)
    ratios = [peel_at(peeling, fraction) for fraction in fractions]
    return [token, _DOMAINS.get(peeling.domain, visible(peeling.domain)), *ratios]


def radius_table(audit: Audit) -> Table | None:
    """One line per layer: what was found and what is proved, for each radius."""
    found = [(name, each.radii) for name, each in _measured(audit) if each.radii]
    if not found:
        return None
    radii = sorted({p.radius for _, points in found for p in points})
    rows = []
    for name, points in found:
        at = {p.radius: p for p in points}
        rows.append([
            name,
            *(
                _sides(at[r]) if r in at else MISSING for r in radii
            ),
        ])  # fmt: skip
    return Table(["layer", *(f"{r:g}" for r in radii)], rows)


def _sides(point: RadiusPoint) -> str:
    """`19.1 ≤ 40.9`, or the side that is known: `≥ 19.1` found, `≤ 40.9` proved."""
    below = "" if point.attack is None else shift_at([point], point.radius)
    above = "" if point.certificate is None else certificate_text(point)
    star = "*" if above and not point.separated else ""
    if below and not above:
        return f"≥ {below}"
    return f"{below} ≤ {above}{star}".strip()


def _measured(audit: Audit) -> list[tuple[str, LayerSummary | Whole]]:
    found: list[tuple[str, LayerSummary | Whole]] = [(str(x.layer), x) for x in audit.layers]
    whole = worst_whole(audit.whole)
    return [*found, *([("all", whole)] if whole is not None else [])]


def attacks_csv(audit: Audit) -> str | None:
    """One line per input, layer and fraction or radius; None where none was measured."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    lines = [line for row in (*audit.rows, *audit.whole) for line in _lines(audit, row)]
    writer.writerows(lines)
    return stream.getvalue() if lines else None


def _lines(audit: Audit, row: Row | Whole) -> Iterator[list]:
    place = [cell(audit.inputs[row.input].name), row.layer if isinstance(row, Row) else "all"]
    if row.peeling is not None:
        token = cell(row.peeling.token)
        for p in row.peeling.points:
            note = "stalled" if p.stalled else row.peeling.domain
            distances = [p.distance_in, p.distance_out]
            yield [*place, "peel", p.fraction, p.ratio, None, *distances, None, token, note]
    for p in row.radii:
        if p.attack is not None:
            note = "stalled" if p.stalled else ""
            yield [*place, "shift", p.radius, p.attack, *[None] * 3, p.separated, "", note]
        if p.certificate is not None:
            log10 = p.certificate.log10
            value = None if log10 is None or log10 > 300 else 10**log10
            theorem = cell(p.certificate.theorem or "")
            known = [value, log10, None, None, p.separated]
            yield [*place, "certificate", p.radius, *known, "", theorem]
