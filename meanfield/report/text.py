"""An audit as Markdown, as CSV and as a snippet for a model card."""

import csv
import io

from meanfield.audits.record import Audit, Head, Row

from .attacks import PEELING_NOTE, RADIUS_NOTE, peeling_table, radius_table
from .escape import cell, markdown as escaped
from .numbers import MISSING, number, power
from .table import (
    assumptions,
    chosen_heads,
    headline,
    layer_rows,
    layer_table,
    shown_path,
    told_fraction,
    told_radius,
    verdict,
)


_CSV_HEADER = (
    "input",
    "layer",
    "head",
    "tokens",
    "radius",
    "local",
    "smooth",
    "split",
    "lower",
    "upper",
    "score_min",
    "score_max",
    "entropy",
    "max_attention",
    "sink",
    "log10_bound_tokens",
    "log10_bound_mean_field",
    "log10_bound_uniform",
    "worst_token",
    "worst_share",
)


def markdown(audit: Audit) -> str:
    """A report in Markdown: headline, layer table, checks, warnings, provenance."""
    model = audit.model
    lines = [
        f"# Attention audit of {escaped(model.name)}: {verdict(audit)}",
        "",
        escaped(headline(audit)) if audit.layers else "No layer was measured.",
        "",
        *_table(*layer_table(audit)),
        "",
        "`local` is the exact local Lipschitz constant at the data (max of moving and splitting "
        "tokens), `upper` a proved bound at the same point. Neither bounds other inputs.",
        "",
        *_checks(audit),
        *_attacks(audit),
        *_warnings(audit),
        "## What was audited",
        "",
        f"- model: {escaped(model.name)} ({escaped(model.family)}, {model.layers} layers × "
        f"{model.heads} heads, d = {model.dim}, {model.parameters:,} parameters)",
        *([f"- assumed: {escaped(found)}"] if (found := assumptions(audit)) else []),
        *([f"- audited: {found}"] if (found := chosen_heads(audit)) else []),
        *(f"- {escaped(name)}: sha256 `{sha}`" for name, sha in model.hashes.items()),
        *(
            f"- {escaped(shown_path(i.name))}: {len(i.tokens)} of {i.total} tokens from {i.start}, "
            f"sha256 `{i.sha256[:16]}`"
            for i in audit.inputs
        ),
        f"- meanfield {audit.run.version}, jax {audit.run.jax}, {audit.run.device}, "
        f"{audit.run.dtype}, {audit.run.elapsed:.1f} s",
    ]
    return "\n".join(lines) + "\n"


def heads_csv(audit: Audit) -> str:
    """One line per input, layer and head, and one per layer with an empty `head`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for row in audit.rows:
        writer.writerow(_layer_line(audit, row))
        writer.writerows(_head_line(audit, row, head) for head in row.heads)
    return stream.getvalue()


def model_card(audit: Audit) -> str:
    """A Markdown section for a model card: what was measured, on what, and its limits."""
    layers = [[cells[0], cells[3], cells[5], cells[8], cells[9]] for cells in layer_rows(audit)]
    return "\n".join(
        [
            "## Sensitivity of the attention layers",
            "",
            f"Local Lipschitz constants at {len(audit.inputs)} input(s) of up to "
            f"{max((len(i.tokens) for i in audit.inputs), default=0)} tokens, measured with "
            f"meanfield {audit.run.version}: how much a small move of the tokens entering a layer "
            "can be amplified by its attention. They hold at these inputs, not for all text.",
            "",
            *_table(("layer", "local", "worst head", "worst token", "growth n^α"), layers),
            "",
        ]
    )


def _table(header, rows) -> list[str]:
    lines = [header, ["---"] * len(header), *([escaped(c) for c in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _checks(audit: Audit) -> list[str]:
    if not audit.checks:
        return []
    rows = [
        [c.expression, number(c.value), number(c.limit), "passed" if c.passed else "FAILED"]
        for c in audit.checks
    ]
    return ["## Checks", "", *_table(("must not hold", "value", "limit", "verdict"), rows), ""]


def _attacks(audit: Audit) -> list[str]:
    """The tables of attacks and certificates, what they mean, and nothing where none was asked."""
    lines = []
    if (table := peeling_table(audit)) is not None:
        lines += ["## Attacks: a fraction of a token's mass is sent far", ""]
        lines += [*_table(table.header, table.rows), "", PEELING_NOTE, ""]
    if (table := radius_table(audit)) is not None:
        lines += ["## Attacks and certificates within a radius", ""]
        lines += [*_table(table.header, table.rows), "", RADIUS_NOTE, ""]
    return lines


def _warnings(audit: Audit) -> list[str]:
    if not audit.warnings:
        return []
    lines = [f"- {escaped(w.where)}: {escaped(w.message)}" for w in audit.warnings]
    return ["## Warnings", "", *lines, ""]


def _layer_line(audit: Audit, row: Row) -> list:
    worst = row.worst_tokens[0] if row.worst_tokens else None
    local = row.local
    return [
        *(cell(audit.inputs[row.input].name), row.layer, "", row.tokens, row.radius),
        *(local.value, local.smooth, local.split, local.lower, local.upper),
        *(row.score_min, row.score_max, None, None, None, *_logs(row.bounds)),
        *((cell(worst.token), worst.share) if worst else ("", None)),
    ]


def _head_line(audit: Audit, row: Row, head: Head) -> list:
    return [
        *(cell(audit.inputs[row.input].name), row.layer, head.head, row.tokens, row.radius),
        *(head.value, head.smooth, head.split, None, None),
        *(head.score_min, head.score_max, head.entropy, head.max_attention, head.sink),
        *(*_logs(head.bounds), "", None),
    ]


def _logs(bounds) -> tuple[float | None, float | None, float | None]:
    if bounds is None:
        return None, None, None
    return bounds.tokens.log10, bounds.mean_field.log10, bounds.uniform.log10


def bounds_line(audit: Audit) -> str:
    """The range over layers of the two global bounds, as one sentence; they are logarithms."""
    found = [layer.bounds for layer in audit.layers if layer.bounds is not None]
    tokens = [b.tokens.log10 for b in found if b.tokens.log10 is not None]
    field = [b.mean_field.log10 for b in found if b.mean_field.log10 is not None]
    return f"global bounds on the ball: n tokens {_span(tokens)}, any measure {_span(field)}"


def attack_line(audit: Audit) -> str | None:
    """What the columns of attacks and certificates mean; None without them."""
    fraction, radius, parts = told_fraction(audit), told_radius(audit), []
    if fraction is not None:
        parts.append(f"peel {fraction:g}: that fraction of the worst token's mass sent far")
    if radius is not None:
        parts.append(f"shift ≤ certified {radius:g}: found and proved where no token moves farther")
    if audit.whole:
        parts.append("all: every block as one map")
    return "; ".join(parts) or None


def _span(logs: list[float]) -> str:
    if not logs:
        return MISSING
    low, high = power(min(logs)), power(max(logs))
    return low if low == high else f"{low} to {high}"
