"""What a bare safetensors file is, told by a person: its family and what no tensor shape shows.

Sizes are read off the tensors; the rest is the family's standard, named in `Config.assumed`. What
is told must agree with the tensors, and with a config.json if there is one.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config import Config
from .error import ModelError
from .families import HEADS, SAME, SUPPORTED, family_of, looks_like
from .shapes import Fields, Shapes, fields_of
from .standards import standard_heads, standards


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The architecture of weights that came without a (complete) config.json.

    Args:
      family: the model_type, one of those that `load` supports: "bert", "gpt2", "llama", ...
      heads: how many attention heads a layer has; None for what the tensors say, or else the
        standard of the family at this size.
      fields: other fields of config.json under their names there, such as
        `{"rope_theta": 500000.0, "layer_norm_eps": 1e-5}`.

    Raises:
      ModelError: a family that is not supported, a number of heads that is not one.
    """

    family: str
    heads: int | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "family", SAME.get(self.family, self.family))
        if self.family not in SUPPORTED:
            raise ModelError(
                f"`family` (--arch) must be one of {', '.join(SUPPORTED)}; got {self.family!r}."
            )
        if self.heads is not None and (type(self.heads) is not int or self.heads < 1):
            raise ModelError(f"`heads` must be a positive integer; got {self.heads!r}.")
        if "model_type" in self.fields:
            raise ModelError("`fields` must not hold model_type; give `family` (--arch).")

    @property
    def told(self) -> Fields:
        """Everything that was told, by the names of config.json."""
        name = HEADS[self.family]
        if self.heads is None:
            return dict(self.fields)
        if self.fields.get(name, self.heads) != self.heads:
            raise ModelError(
                f"`heads` is {self.heads}, but `fields` says {name} {self.fields[name]!r}. "
                "Give one of them."
            )
        return {**self.fields, name: self.heads}


def describe(
    described: Path, where: Path, architecture: Architecture | None, shapes: Mapping[str, Any]
) -> tuple[Config, str]:
    """The fields and the family of a model.

    Args:
      described: where its config.json is, or would be.
      where: the weights, for messages.
      architecture: what a person says of it.
      shapes: the shape of each tensor, by name.

    Raises:
      ModelError: nothing describes the weights, or two descriptions contradict each other.
    """
    if architecture is None:
        if not described.is_file():
            raise ModelError(_missing(where, shapes))
        config = Config.read(described)
        return config, family_of(config)
    family, told = architecture.family, architecture.told
    written = Config.read(described).fields if described.is_file() else {}
    _check_family(written, family, described)
    _agree(told, written, str(described))
    seen = Shapes(family, shapes, str(where))
    return _config(seen, {**written, **told}, told), family


def _config(shapes: Shapes, known: Fields, told: Fields) -> Config:
    """What is known, what the shapes tell, and the standards of the family for what is left."""
    guess = standard_heads(shapes, {**fields_of(shapes, known), **known})
    read = fields_of(shapes, {**guess, **known})
    _agree(told, read, f"{shapes.where}: by the shapes of its tensors")
    guess = {**standards(shapes.family), **guess}
    guess = {name: value for name, value in guess.items() if name not in known}
    fields = {**guess, **read, **known, "model_type": shapes.family}
    return Config(fields, f"{shapes.where} (as {shapes.family})", guess=guess)


def check_told(architecture: Architecture | None, config: Config) -> None:
    """Refuses fields that nothing asked for: a misspelt name must not go by in silence.

    Raises:
      ModelError: the field and the family that has no use for it.
    """
    unread = [n for n in (architecture.told if architecture else {}) if n not in config.asked]
    if unread:
        raise ModelError(
            f"{config.where}: the field {unread[0]!r} means nothing to this family; it reads "
            f"{', '.join(sorted(config.asked))}."
        )


def _check_family(written: Fields, family: str, described: Path) -> None:
    if not written:
        return
    other = written.get("model_type")
    if other in SUPPORTED and other != family:
        raise ModelError(
            f"{described}: model_type is {other!r}, which contradicts --arch {family} "
            f"(Architecture). Leave it out, or give {other}."
        )
    family_of(Config({**written, "model_type": family}, str(described)))  # not quantised


def _agree(told: Mapping[str, Any], other: Mapping[str, Any], where: str) -> None:
    for name, value in told.items():
        if other.get(name) is not None and other[name] != value:
            raise ModelError(
                f"{where}: {name} is {str(other[name])[:60]}, which contradicts the {value!r} that "
                "was told. Leave it out, or correct it."
            )


def _missing(where: Path, shapes: Mapping[str, Any]) -> str:
    families = looks_like(shapes)
    hint = f"; its tensors look like {' or '.join(families)}" if families else ""
    return (
        f"{where}: there is no config.json beside the weights{hint}. Say what they are: "
        f"--arch {families[0] if families else 'FAMILY'}, or "
        f"load(path, architecture=Architecture(...)); supported are {', '.join(SUPPORTED)}."
    )
