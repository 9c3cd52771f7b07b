"""A made-up audit with every kind of value in it, and the tokens that try to break its writers."""

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
    Row,
    Run,
    Warn,
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
    )
    return Audit(**{**fields, **changes})


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
