"""config.json: the few fields a model needs, each checked when it is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .document import read_json
from .error import ModelError


_LARGEST = 10_000_000


class Config:
    """The fields of a config.json, with a record of those that were used.

    Args:
      fields: what the file holds.
      where: its name, for messages.
      guess: those of the fields that no file tells and that were assumed; None where a config.json
        tells all that it should, so that what it leaves out has its standard meaning.
    """

    def __init__(self, fields: dict[str, Any], where: str, *, guess: dict[str, Any] | None = None):
        self.fields, self.where, self._guess = fields, where, guess
        self.used: dict[str, Any] = {}
        self.asked: set[str] = set()

    @classmethod
    def read(cls, path: Path) -> "Config":
        """The config.json at a path."""
        return cls(read_json(path, limit=10_000_000), str(path))

    @property
    def assumed(self) -> dict[str, Any]:
        """What was neither told nor read off the tensors, with the values taken instead."""
        if self._guess is None:
            return {}
        left_out = {n: value for n, value in self.used.items() if n not in self.fields}
        return {**self._guess, **left_out}

    def __contains__(self, name: str) -> bool:
        self.asked.add(name)
        return self.fields.get(name) is not None

    def integer(self, name: str, default: int | None = None, *, low: int = 1) -> int:
        """A whole number of at least `low`."""
        value = self._get(name, default)
        if type(value) is not int or not low <= value <= _LARGEST:
            self._refuse(name, f"an integer of at least {low}", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 < value < 1e30:
            self._refuse(name, "a positive number", value)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            self._refuse(name, "true or false", value)
        return value

    def word(self, name: str, default: str | None, known: Sequence[str]) -> str:
        """One of the known words."""
        value = self._get(name, default)
        if not isinstance(value, str) or value not in known:
            self._refuse(name, f"one of {', '.join(known)}", value)
        return value

    def expect(self, name: str, value: Any) -> None:
        """Refuses any value but the given one (which is also the default)."""
        self.asked.add(name)
        if self.fields.get(name, value) != value:
            self._refuse(name, repr(value), self.fields[name])

    def divisor(self, name: str, whole: int, default: int | None = None) -> int:
        """A whole number that divides another (heads the dimension, a patch the image)."""
        value = self.integer(name, default)
        if whole % value:
            self._refuse(name, f"a divisor of {whole}", value)
        return value

    def layer_type(self, index: int) -> str:
        """The kind of attention of a layer, by the list `layer_types`."""
        self.asked.add("layer_types")
        kinds = self.fields["layer_types"]
        known = ("full_attention", "sliding_attention")
        if not isinstance(kinds, list) or len(kinds) <= index or kinds[index] not in known:
            self._refuse("layer_types", f"a list of {' or '.join(known)}, one a layer", kinds)
        self.used["layer_types"] = kinds
        return kinds[index]

    def section(self, name: str) -> "Config":
        """A nested object as a config of its own (empty where absent)."""
        self.asked.add(name)
        value = self.fields.get(name)
        if value is None:
            return Config({}, f"{self.where}: {name}")
        if not isinstance(value, dict):
            self._refuse(name, "an object", value)
        self.used[name] = value
        return Config(value, f"{self.where}: {name}")

    def _get(self, name: str, default: Any) -> Any:
        self.asked.add(name)
        value = self.fields.get(name)
        self.used[name] = default if value is None else value
        return self.used[name]

    def _refuse(self, name: str, expected: str, got: Any) -> NoReturn:
        given = "nothing" if got is None else repr(got)[:80]
        raise ModelError(f"{self.where}: {name} must be {expected}; got {given}.")
