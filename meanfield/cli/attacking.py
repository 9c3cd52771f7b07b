"""Options of attacks and certificates: --fractions, --radii, --domain, --attack-steps."""

from typing import Annotated, Any

import typer

from .exits import UsageError


Fractions = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="With --attack: how much of the worst token's mass is peeled off, in (0, 1]: "
        "1,0.1,0.01,1e-3,1e-4 by default.",
    ),
]
Radii = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="With --attack or --certify: how far tokens may move, in the units of the layer's "
        "input: 0.001,0.01,0.1 by default.",
    ),
]
Domain = Annotated[
    str | None,
    typer.Option(
        help="With --attack: where peeled mass may go: layernorm, what the norm before the layer "
        "can put out (the default), or ball, that of the observed radius."
    ),
]
Steps = Annotated[
    int | None, typer.Option(help="With --attack: steps of each search, 120 by default.")
]


def attack_settings(
    fractions: str | None,
    radii: str | None,
    domain: str | None,
    steps: int | None,
    attacked: bool,
    certified: bool,
) -> dict[str, Any]:
    """The fields of `AuditSettings` that were given.

    Raises:
      UsageError: an option without what it belongs to, or not a list of numbers.
    """
    for option, given in (("fractions", fractions), ("domain", domain), ("attack-steps", steps)):
        if given is not None and not attacked:
            raise UsageError(f"--{option} belongs to --attack; give it too.")
    if radii is not None and not (attacked or certified):
        raise UsageError("--radii belongs to --attack and --certify; give one of them too.")
    found = {
        "fractions": fractions and _numbers("--fractions", fractions),
        "radii": radii and _numbers("--radii", radii),
        "domain": domain,
        "attack_steps": steps,
    }
    return {name: value for name, value in found.items() if value is not None}


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"{option} looks like 0.1,0.01,1e-3; got {text!r}.") from None
