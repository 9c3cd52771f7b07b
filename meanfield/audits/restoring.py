"""JSON values as the records that annotations describe: checked field by field, never trusted."""

import dataclasses
import math
import types
import typing
from typing import Any

from .ranges import least


# JSON knows integers of any length; no count in a record is larger.
_LARGEST = 2**63


class RecordError(ValueError):
    """A file that is not an audit this version can read."""


def restore(kind: Any, value: Any, place: str = "") -> Any:
    """The inverse of `document.plain` for the annotation `kind`.

    Raises:
      RecordError: `value` is not such a record; the message names the field.
    """
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, place)
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _either(options, value, place)
    if origin is tuple or origin is list:
        items = _instance(list, value, place)
        return origin(restore(options[0], v, f"{place}[{i}]") for i, v in enumerate(items))
    if origin is dict:
        pairs = _instance(dict, value, place).items()
        return {name: restore(options[1], v, f"{place}.{name}") for name, v in pairs}
    return _scalar(kind, value, place)


def _record(kind: Any, value: Any, place: str) -> Any:
    value, hints = _instance(dict, value, place), typing.get_type_hints(kind)
    if missing := [name for name in hints if name not in value]:
        raise RecordError(f"{place or 'it'} must have the field {missing[0]!r}.")
    if foreign := [name for name in value if name not in hints]:
        raise RecordError(f"{place or 'it'} has the unknown field {foreign[0][:80]!r}.")
    found = {n: restore(hint, value[n], f"{place}.{n}".strip(".")) for n, hint in hints.items()}
    for name, number in found.items():
        _check_range(kind, name, number, place)
    return kind(**found)


def _check_range(kind: Any, name: str, value: Any, place: str) -> None:
    bound = least(kind, name)
    values = value if isinstance(value, tuple) else (value,)
    numbers = [v for v in values if type(v) in (int, float)]
    if bound is not None and not all(map(bound.holds, numbers)):
        raise RecordError(f"{place}.{name} must be {bound}; got {_shown(value)}.")


def _either(options: tuple, value: Any, place: str) -> Any:
    """The first option that the value fits; the error of a lone record is its own."""
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    for option in options[:-1]:
        try:
            return restore(option, value, place)
        except RecordError:
            continue
    return restore(options[-1], value, place)


def _instance(kind: type, value: Any, place: str) -> Any:
    if type(value) is not kind:
        words = {dict: "an object", list: "a list"}
        raise RecordError(f"{place or 'it'} must be {words[kind]}; got {_shown(value)}.")
    return value


def _scalar(kind: type, value: Any, place: str) -> Any:
    if kind is float and type(value) is int and abs(value) < _LARGEST:
        value = float(value)
    fits = type(value) is kind
    fits = fits and not (kind is int and abs(value) >= _LARGEST)
    if not fits or (kind is float and not math.isfinite(value)):
        words = {
            float: "a finite number",
            int: "a whole number",
            str: "a text",
            bool: "true or false",
        }
        raise RecordError(f"{place} must be {words[kind]}; got {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    """A value cut short; a whole number may have millions of digits."""
    if type(value) is int and abs(value) >= _LARGEST:
        return "a huge number"
    return repr(value)[:60]
