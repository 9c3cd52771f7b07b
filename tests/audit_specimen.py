"""A made-up audit with every kind of value in it, and the tokens that try to break its writers."""

import dataclasses
import math

from meanfield.audits.growth import summarise
from meanfield.audits.record import (
    SCHEMA,
    Audit,
    Bounds,
    Check,
    GlobalBound,
    Head,
    Input,
    Local,
    Model,
    Peeling,
    PeelPoint,
    RadiusPoint,
    Row,
    Run,
    Warn,
    Whole,
    WorstToken,
)
from meanfield.audits.summary import summarise_layer


HOSTILE = (
    "<script>alert(1)</script>",
    "[/red]",
    "[link=file:///etc/passwd]x",
    "\x1b[2J",
    "\x9b31m",
    "$\\bad$",
    "|",
    "`",
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2",
    "@SUM(1)",
    "\u202eevil\u2066",
    "\x00",
    "\n",
    "\ud800",
    "中文",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}",
    "&amp;",
)


def specimen(tokens=None, layers=4, heads=3, inputs=2, **changes) -> Audit:
    """An audit of `layers` layers on `inputs` inputs; layer 0 jumps past 64 tokens."""
    tokens = tuple(tokens or [f"word{i}" for i in range(12)])
    rows = tuple(row(i, l, tokens, heads) for i in range(inputs) for l in range(layers))
    by_layer = [[r for r in rows if r.layer == l] for l in range(layers)]
    fields = dict(
        schema=SCHEMA,
        status="complete",
        model=Model(
            name="specimen",
            path="models/specimen",
            family="bert",
            causal=False,
            layers=layers,
            heads=heads,
            dim=8,
            parameters=12345,
            max_tokens=512,
            hashes={"model.safetensors": "ab" * 32},
            config={"hidden_size": 8},
            assumed={"num_attention_heads": heads},
        ),
        run=Run(
            version="0.1.0",
            python="3.11",
            jax="0.10",
            numpy="2.4",
            platform="linux",
            device="cpu",
            dtype="f32",
            seed=(0, 0),
            command="meanfield audit specimen",
            started="2026-01-01T00:00:00Z",
            elapsed=1.5,
            digest="cd" * 32,
            settings={"max_tokens": 256},
        ),
        inputs=tuple(Input(f"text {i}", "text", "ef" * 32, tokens, 0, 40) for i in range(inputs)),
        layers=tuple(summarise_layer(group) for group in by_layer),
        growth=tuple(summarise(l, group, jump=1.8) for l, group in enumerate(by_layer)),
        checks=(Check("local.max>50", 12.0, 50.0, True),),
        warnings=(Warn("note", "a warning about <b>nothing</b>", "layer 0"),),
        rows=rows,
        whole=(),
    )
    return Audit(**{**fields, **changes})


def attacked(tokens=None, layers=4, heads=3, inputs=2, **changes) -> Audit:
    """The specimen with attacks and certificates, and all blocks together.

    In layer 1 the search for the smallest fraction stalled, and no certificate is finite at 0.1.
    """
    plain = specimen(tokens, layers, heads, inputs)
    rows = tuple(
        dataclasses.replace(
            row, peeling=peeling(row), radii=radii(constant(row), stalled=row.layer == 1)
        )
        for row in plain.rows
    )
    whole = tuple(all_blocks(row) for row in rows if row.layer == 0)
    by_layer = [[r for r in rows if r.layer == l] for l in range(layers)]
    summaries = tuple(summarise_layer(group) for group in by_layer)
    fields = dict(rows=rows, whole=whole, layers=summaries)
    return dataclasses.replace(plain, **{**fields, **changes})


def constant(row: Row) -> float:
    """The local constant, which specimens always have."""
    assert row.local.value is not None
    return row.local.value


def peeling(row: Row) -> Peeling:
    """Ratios that grow like fraction^-0.4; the exact one a little below that of the coupling."""
    points = tuple(
        PeelPoint(
            fraction=fraction,
            ratio=2 * constant(row) * fraction**-0.4,
            coupling_ratio=2.01 * constant(row) * fraction**-0.4,
            distance_in=fraction**0.5,
            distance_out=2 * constant(row) * fraction**0.1,
            displacement=3.0,
            stalled=row.layer == 1 and fraction < 0.005,
        )
        for fraction in (1.0, 0.1, 0.01, 0.001)
    )
    return Peeling(0, row.worst_tokens[0].token, "layernorm", 14.0, points)


def radii(value: float, *, stalled: bool = False, certified: bool = True):
    """Attacks a little above the constant, certificates twice and more above."""
    return tuple(
        RadiusPoint(
            radius=radius,
            attack=value * (1 + radius),
            stalled=stalled and radius == 0.1,
            certificate=_certificate(value, radius, stalled) if certified else None,
            separated=radius < 0.05,
        )
        for radius in (0.001, 0.01, 0.1)
    )


def _certificate(value: float, radius: float, vacuous: bool) -> GlobalBound:
    if vacuous and radius == 0.1:
        return GlobalBound(None, "meanfield:ball-reach")
    return GlobalBound(math.log10(2 * value * (1 + 30 * radius)), "meanfield:ball-bend")


def all_blocks(row: Row) -> Whole:
    """All blocks together: half as sensitive as the first layer, and not certified."""
    value = constant(row) / 2
    return Whole(
        input=row.input,
        tokens=row.tokens,
        atoms=row.atoms,
        radius=2.5,
        local=Local(value, value, value / 4, value, None, 1e-4, 20, "successful"),
        worst_tokens=row.worst_tokens,
        shares=row.shares,
        peeling=row.peeling,
        radii=radii(value, certified=False),
        warnings=(),
    )


def row(i: int, layer: int, tokens, heads: int) -> Row:
    """The measurements of one layer at one input."""
    value = 4.0 + layer + 0.25 * i
    shares = (0.9, *([0.1 / (len(tokens) - 1)] * (len(tokens) - 1)))
    jump = 3.0 if layer == 0 else 1.0
    return Row(
        input=i,
        layer=layer,
        tokens=len(tokens),
        atoms=len(tokens),
        radius=10.0 + layer,
        score_min=-5.0,
        score_max=7.5,
        local=Local(value, value, value / 2, value, value * 2.5, 1e-4, 14, "successful"),
        heads=tuple(head(h, value) for h in range(heads)),
        bounds=bounds(),
        worst_tokens=tuple(WorstToken(k, tokens[k], shares[k]) for k in range(min(5, len(tokens)))),
        shares=shares,
        lengths=(16, 32, 64, 128),
        constants=(value / jump, value * 1.2 / jump, value * 1.5 / jump, value * 1.9),
        peeling=None,
        radii=(),
        warnings=(),
    )


def head(h: int, value: float) -> Head:
    """One head; the last one's entropy is missing."""
    entropy = None if h == 2 else 0.5 / (h + 1)
    return Head(
        h, value / (h + 2), value / (h + 2), value / (h + 3), -4.0, 6.0, entropy, 0.9, 0.3, None
    )


def bounds() -> Bounds:
    """Global bounds, one of them missing."""
    return Bounds(
        12.0,
        GlobalBound(4.2, "ours, n atoms"),
        GlobalBound(120.5, "ours, W_2"),
        GlobalBound(None, None),
    )
