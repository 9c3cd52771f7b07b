"""The layer table that the terminal, Markdown and the page share, and the sentence above it."""

import math
import os
from collections.abc import Sequence

from meanfield.audits.record import (
    Audit,
    Growth,
    Input,
    Jump,
    LayerSummary,
    Peeling,
    RadiusPoint,
    Whole,
)
from meanfield.audits.summary import worst_whole
from meanfield.audits.thresholds import certified, is_culprit

from .escape import shorten, visible
from .numbers import MISSING, interval, number, percent, power


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
    "peel",
    "shift",
    "certified",
    "flag",
)
# The fraction that tables name, if it was tried.
_TOLD_FRACTION = 0.01


def layer_table(audit: Audit) -> tuple[list[str], list[list[str]]]:
    """The header and the rows without the columns in which nothing is known.

    All blocks together, where they were measured, are the last row.
    """
    header, rows = _header(audit), layer_rows(audit)
    if (whole := worst_whole(audit.whole)) is not None:
        rows.append(_whole_cells(audit, whole))
    known = [i for i in range(len(header)) if {row[i] for row in rows} - {"", MISSING}]
    return [header[i] for i in known], [[row[i] for i in known] for row in rows]


def _header(audit: Audit) -> list[str]:
    """`HEADER`, with the fraction and the radius that the columns of attacks are about."""
    fraction, radius = told_fraction(audit), told_radius(audit)
    at = {"peel": fraction, "shift": radius, "certified": radius}
    return [name if at.get(name) is None else f"{name} {at[name]:g}" for name in HEADER]


def told_fraction(audit: Audit) -> float | None:
    """The fraction of a token's mass that tables tell about; None without attacks."""
    found = sorted({p.fraction for row in _measured(audit) for p in _points(row.peeling)})
    return min(found, key=lambda x: abs(math.log(x / _TOLD_FRACTION)), default=None)


def told_radius(audit: Audit) -> float | None:
    """The radius that tables tell about, the smallest; None without attacks and certificates."""
    return min((p.radius for row in _measured(audit) for p in row.radii), default=None)


def _measured(audit: Audit) -> list[LayerSummary | Whole]:
    return [*audit.layers, *audit.whole]


def _points(peeling: Peeling | None):
    return () if peeling is None else peeling.points


def peel_at(peeling: Peeling | None, fraction: float | None) -> str:
    """The ratio at a fraction, with a question mark where the search stalled."""
    point = next((p for p in _points(peeling) if p.fraction == fraction), None)
    return MISSING if point is None else number(point.ratio) + ("?" if point.stalled else "")


def shift_at(radii: Sequence[RadiusPoint], radius: float | None) -> str:
    """What moving tokens within a radius reaches."""
    point = next((p for p in radii if p.radius == radius), None)
    return MISSING if point is None else number(point.attack) + ("?" if point.stalled else "")


def certified_at(radii: Sequence[RadiusPoint], radius: float | None) -> str:
    """What is proved for a radius."""
    point = next((p for p in radii if p.radius == radius), None)
    return MISSING if point is None else certificate_text(point)


def certificate_text(point: RadiusPoint) -> str:
    """The certificate of a radius, as a power where it is huge."""
    if (value := certified(point)) is not None:
        return number(value)
    return power(None if point.certificate is None else point.certificate.log10)


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
        *_attack_cells(audit, layer),
        flags(audit, layer, growth),
    ]


def _attack_cells(audit: Audit, layer: LayerSummary | Whole) -> list[str]:
    radius = told_radius(audit)
    return [
        peel_at(layer.peeling, told_fraction(audit)),
        shift_at(layer.radii, radius),
        certified_at(layer.radii, radius),
    ]


def _whole_cells(audit: Audit, whole: Whole) -> list[str]:
    """The cells of all blocks as one map: what is not measured of them stays empty."""
    failed = [c.expression for c in audit.checks if not c.passed and c.expression[:5] == "whole"]
    known = {
        "layer": "all",
        "radius": number(whole.radius),
        "local": number(whole.local.value),
        "worst token": worst_token(whole),
        "flag": "; ".join(failed),
    }
    known |= dict(zip(("peel", "shift", "certified"), _attack_cells(audit, whole), strict=True))
    return [known.get(name, MISSING) for name in HEADER]


def worst_token(layer: LayerSummary | Whole) -> str:
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
    failed = [
        c.expression for c in audit.checks if not c.passed and is_culprit(c, layer, audit.rows)
    ]
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
        f"Layer {top.layer} is the most sensitive{_so_far(audit)}: a small move of its "
        f"tokens can be amplified {number(top.local.value)} times."
    )
    if top.worst_tokens:
        worst = top.worst_tokens[0]
        text += (
            f" {percent(worst.share)} of the worst move is in one token, "
            f"“{shorten(visible(worst.token))}” at position {worst.index}{_of_window(audit, top)}."
        )
    return " ".join([text, *_attack_headline(audit)])


def _so_far(audit: Audit) -> str:
    """` of the 5 layers measured before the run ended early`, or nothing for a complete run."""
    if audit.complete:
        return ""
    return f" of the {len(audit.layers)} layers measured before the run ended early"


def _of_window(audit: Audit, layer: LayerSummary) -> str:
    """Which of several inputs a layer is told of."""
    if len(audit.inputs) == 1:
        return ""
    return f" of {shorten(visible(window_name(audit.inputs[layer.input])), 60)}"


def window_name(source: Input) -> str:
    """An input and, where it is a part of a longer text, at which token it starts."""
    name, whole = shown_path(source.name), len(source.tokens) == source.total
    return name if whole or source.kind != "text" else f"{name} from token {source.start}"


def shown_path(name: str) -> str:
    """The last part of an absolute path, which may name a person; everything else as it is."""
    return os.path.basename(name.rstrip("/\\")) if os.path.isabs(name) else name


def _attack_headline(audit: Audit) -> list[str]:
    """What peeling a little mass does, and what all blocks together do; often nothing."""
    fraction, found = told_fraction(audit), []
    peeled = [
        (point.ratio, layer)
        for layer in audit.layers
        for point in _points(layer.peeling)
        if point.fraction == fraction and point.ratio is not None
    ]
    if peeled and fraction is not None:
        ratio, layer = max(peeled, key=lambda pair: pair[0])
        found.append(
            f"Sending {100 * fraction:g}% of one token's mass far away is amplified "
            f"{number(ratio)} times in layer {layer.layer}."
        )
    whole = worst_whole(audit.whole)
    if whole is not None and whole.local.value is not None:
        found.append(f"All blocks together amplify a small move {number(whole.local.value)} times.")
    return found


def verdict(audit: Audit) -> str:
    """`incomplete`, `failed`, `passed`, or `measured` when nothing was asked."""
    if not audit.complete:
        return "incomplete"
    if not audit.checks:
        return "measured"
    return "passed" if audit.passed else "failed"
