"""The layer table that the terminal, Markdown and the page share, and the sentence above it."""

from meanfield.audits.record import Audit, Growth, Jump, LayerSummary
from meanfield.audits.thresholds import is_culprit

from .escape import shorten, visible
from .numbers import MISSING, interval, number, percent


HEADER = (
    "layer",
    "radius",
    "score range",
    "local",
    "upper",
    "worst head",
    "Σ heads",
    "entropy",
    "worst token",
    "growth n^α",
    "flag",
)


def layer_table(audit: Audit) -> tuple[list[str], list[list[str]]]:
    """The header and the rows without the columns in which nothing is known."""
    rows = layer_rows(audit)
    known = [i for i in range(len(HEADER)) if {row[i] for row in rows} - {"", MISSING}]
    return [HEADER[i] for i in known], [[row[i] for i in known] for row in rows]


def layer_rows(audit: Audit) -> list[list[str]]:
    """The cells of the layer table, visible but not yet escaped for any writer."""
    growth = {record.layer: record for record in audit.growth}
    return [_cells(audit, layer, growth.get(layer.layer)) for layer in audit.layers]


def _cells(audit: Audit, layer: LayerSummary, growth: Growth | None) -> list[str]:
    return [
        str(layer.layer),
        number(layer.radius),
        number(layer.score_range, 2),
        number(layer.local.value),
        number(layer.local.upper),
        MISSING if layer.worst_head is None else f"h{layer.worst_head} {number(layer.head_value)}",
        number(layer.heads_sum),
        number(layer.entropy, 2),
        worst_token(layer),
        exponent(growth),
        flags(audit, layer, growth),
    ]


def worst_token(layer: LayerSummary) -> str:
    """The worst token and its share, `[CLS] 90%`."""
    if not layer.worst_tokens:
        return MISSING
    worst = layer.worst_tokens[0]
    return f"{shorten(visible(worst.token), 16)} {percent(worst.share)}"


def exponent(growth: Growth | None) -> str:
    """The fitted exponent with its interval."""
    if growth is None or growth.exponent is None:
        return MISSING
    return f"{growth.exponent:.2f} {interval(growth.low, growth.high)}".strip()


def flags(audit: Audit, layer: LayerSummary, growth: Growth | None) -> str:
    """What a reader must not miss on this line."""
    found = [jump_flag(audit, step) for step in growth.jumps] if growth else []
    failed = [c.expression for c in audit.checks if not c.passed and is_culprit(c, layer)]
    split = layer.local.split is not None and layer.local.split == layer.local.value
    return "; ".join([*failed, *found, *(["splitting is worse than moving"] if split else [])])


def jump_flag(audit: Audit, jump: Jump) -> str:
    """One line about a jump of the growth curve."""
    if of_images(audit):
        return f"changes between {jump.before} and {jump.after} patches (×{jump.factor:.1f})"
    return f"changes past position {jump.before} (×{jump.factor:.1f} by {jump.after})"


def of_images(audit: Audit) -> bool:
    """Whether the growth is one with patches, not with the length of a text."""
    kinds = {source.kind for source in audit.inputs}
    return kinds == {"image"}


def chosen_heads(audit: Audit) -> str:
    """`heads 0, 3 of 12` where not all were audited, else nothing."""
    chosen = audit.run.settings.get("heads")
    if not isinstance(chosen, list):
        return ""
    return f"heads {', '.join(map(str, sorted(set(chosen))))} of {audit.model.heads}"


def assumptions(audit: Audit) -> str:
    """`num_attention_heads 12, hidden_act gelu`: what the weights did not tell; often nothing."""
    told = {name: "none" if v is None else v for name, v in audit.model.assumed.items()}
    return visible(", ".join(f"{name} {value}" for name, value in told.items()))


def headline(audit: Audit) -> str:
    """What the audit found, in one or two sentences of plain text."""
    known = [layer for layer in audit.layers if layer.local.value is not None]
    if not known:
        return "No layer was measured."
    top = max(known, key=lambda layer: layer.local.value or 0.0)
    text = (
        f"Layer {top.layer} is the most sensitive: a small move of its tokens can be amplified "
        f"{number(top.local.value)} times."
    )
    if not top.worst_tokens:
        return text
    worst = top.worst_tokens[0]
    return (
        f"{text} {percent(worst.share)} of the worst move is in one token, "
        f"“{shorten(visible(worst.token))}” at position {worst.index}."
    )


def verdict(audit: Audit) -> str:
    """`incomplete`, `failed`, `passed`, or `measured` when nothing was asked."""
    if not audit.complete:
        return "incomplete"
    if not audit.checks:
        return "measured"
    return "passed" if audit.passed else "failed"
