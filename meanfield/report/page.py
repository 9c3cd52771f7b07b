"""What the page shows, prepared for its template: shaded cells, tokens with their share."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meanfield.audits.document import write_atomically
from meanfield.audits.record import Audit, Growth, Head, LayerSummary, Row
from meanfield.plot.palette import heat, ink_on, layer_colors

from .attacks import attack_content
from .curves import growth_figure
from .escape import shorten, visible
from .numbers import interval, number, percent, power
from .table import (
    assumptions,
    chosen_heads,
    headline,
    jump_flag,
    layer_table,
    shown_path,
    verdict,
    window_name,
)


_SHOWN_TOKENS = 260
_SHOWN_COLUMNS = 64


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map: the head it is about, and what it shows."""

    head: str
    text: str
    shade: str
    ink: str


@dataclass(frozen=True)
class Span:
    """A token in its text, shaded by its share of the worst direction."""

    text: str
    share: float
    note: str


def html(audit: Audit, path: str | os.PathLike | None = None, *, paths: bool = False) -> str:
    """The audit as one self-contained page: no script, no network, images inline.

    Args:
      audit: what to show.
      path: where to write the page; None only returns it.
      paths: show absolute paths in full; they may name people and machines.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("meanfield.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, power=power, percent=percent, visible=visible, shorten=shorten
    )
    environment.filters["shown_path"] = str if paths else shown_path
    environment.filters["window_name"] = window_name
    page = environment.get_template("audit.html").render(**_content(audit, paths=paths))
    page = page.encode("utf-8", "backslashreplace").decode("utf-8")
    if path is not None:
        write_atomically(path, page)
    return page


def _content(audit: Audit, *, paths: bool) -> dict:
    worst = {layer.layer: _row(audit, layer) for layer in audit.layers}
    values = [layer.local.value for layer in audit.layers if layer.local.value is not None]
    return dict(
        audit=audit,
        headline=headline(audit),
        verdict=verdict(audit),
        top=max(values, default=None),
        header=layer_table(audit)[0],
        table=layer_table(audit)[1],
        text_columns=("worst head", "worst token", "flag"),
        colors=layer_colors(len(audit.layers)),
        heads=_heat_map(worst, lambda head: head.value, number),
        entropy=_heat_map(worst, lambda head: head.entropy, _two_digits, top=1.0),
        sinks=_heat_map(worst, lambda head: head.sink, _two_digits, top=1.0),
        figure=growth_figure(audit.growth),
        growth=[(g, interval(g.low, g.high), _jumps(audit, g)) for g in audit.growth],
        texts=[(layer, *_text(audit, worst[layer.layer])) for layer in audit.layers],
        command=_command(audit, paths=paths),
        chosen=chosen_heads(audit),
        assumed=assumptions(audit),
        attacks=attack_content(audit),
        kinds={source.kind for source in audit.inputs},
    )


def _row(audit: Audit, layer: LayerSummary) -> Row:
    return next(r for r in audit.rows if (r.layer, r.input) == (layer.layer, layer.input))


def _heat_map(
    rows: dict[int, Row],
    value: Callable[[Head], float | None],
    write: Callable[[float | None], str],
    top: float | None = None,
) -> list[tuple[int, list[Cell]]]:
    """The cells of a layer x head map, the darkest at `top` or at the largest value."""
    known = [v for row in rows.values() for head in row.heads if (v := value(head)) is not None]
    top = top or max(known, default=1.0) or 1.0
    return [
        (layer, [_cell(head.head, value(head), write, top) for head in row.heads[:_SHOWN_COLUMNS]])
        for layer, row in rows.items()
    ]


def _cell(head: int, value: float | None, write: Callable[[float | None], str], top: float) -> Cell:
    t = 0.0 if value is None else value / top
    return Cell(f"h{head}", write(value), heat(t), ink_on(t))


def _two_digits(value: float | None) -> str:
    return number(value) if value is None else f"{value:.2f}"


def _jumps(audit: Audit, growth: Growth) -> str:
    return "; ".join(jump_flag(audit, jump) for jump in growth.jumps)


def _text(audit: Audit, row: Row) -> tuple[str, list[Span], int]:
    """The input's name, its first tokens as spans, and how many are not shown."""
    source = audit.inputs[row.input]
    shares = row.shares or (0.0,) * len(source.tokens)
    first = _first_shown(shares)
    shown = list(zip(source.tokens, shares, strict=False))[first : first + _SHOWN_TOKENS]
    glue = _glue(source.tokens)
    spans = [
        _span(token, share, first + i, _row_break(source.kind, token) or glue)
        for i, (token, share) in enumerate(shown)
    ]
    return window_name(source), spans, len(source.tokens) - len(spans)


def _first_shown(shares: Sequence[float]) -> int:
    """Long texts are shown around their worst token."""
    if len(shares) <= _SHOWN_TOKENS:
        return 0
    worst = max(range(len(shares)), key=lambda i: shares[i])
    return min(max(worst - _SHOWN_TOKENS // 2, 0), len(shares) - _SHOWN_TOKENS)


def _row_break(kind: str, token: str) -> str:
    """A patch at the left edge of an image begins a line."""
    return "\n" if kind == "image" and token.endswith(",0") else ""


def _glue(tokens: Sequence[str]) -> str:
    """Whole-word tokenizers leave spaces out: they are put back between tokens."""
    return "" if any(token[:1] in (" ", "\n") for token in tokens) else " "


def _span(token: str, share: float, index: int, glue: str) -> Span:
    piece = token[2:] if glue and token.startswith("##") and len(token) > 2 else token
    before = "" if glue == "" or piece != token else glue
    text = before + "⏎\n".join(map(_with_spaces, piece.split("\n")))
    return Span(text, share, f"{visible(token)} · position {index} · {percent(share)}")


def _with_spaces(text: str) -> str:
    """A visible string whose outer spaces stay spaces."""
    if not (inner := text.strip(" ")):
        return text
    start = text.index(inner)
    return text[:start] + visible(inner) + text[start + len(inner) :]


def _command(audit: Audit, *, paths: bool) -> str:
    if not audit.run.command:
        return f"mf.audit({shlex.quote(visible(audit.model.name))}, inputs, key=key)"
    return visible(audit.run.command if paths else _without_paths(audit.run.command))


def _without_paths(command: str) -> str:
    """A command line with absolute paths cut to their last parts."""
    try:
        parts = shlex.split(command)
    except ValueError:  # no command line: a record may hold any text
        return shown_path(command)
    cut = [part.partition("=") if part.startswith("--") else (part, "", "") for part in parts]
    return shlex.join(shown_path(name) + equal + shown_path(value) for name, equal, value in cut)
