"""The JSON schema of an audit, derived from the annotations of the record."""

import dataclasses
import types
import typing

from .ranges import Least, least
from .record import SCHEMA, Audit


_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def schema() -> dict:
    """The JSON schema (draft 2020-12) that every audit.json of this version satisfies."""
    definitions: dict[str, dict] = {}
    root = _rule(Audit, definitions)
    definitions["Audit"]["properties"]["schema"] = {"const": SCHEMA}
    definitions["Audit"]["properties"]["status"] = {"enum": ["complete", "partial"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        **root,
        "$defs": definitions,
    }


def _rule(kind, definitions) -> dict:
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if dataclasses.is_dataclass(kind):
        return _record(kind, definitions)
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_rule(option, definitions) for option in options]}
    if origin in (tuple, list):
        return {"type": "array", "items": _rule(options[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _rule(options[1], definitions)}
    raise TypeError(f"no JSON rule for the annotation {kind}.")


def _bounded(rule: dict, bound: Least | None) -> dict:
    """A rule whose numbers are not below their least value."""
    if bound is None:
        return rule
    if "anyOf" in rule:
        return {"anyOf": [_bounded(option, bound) for option in rule["anyOf"]]}
    if rule.get("type") == "array":
        return {**rule, "items": _bounded(rule["items"], bound)}
    return {**rule, **bound.rule} if rule.get("type") in ("number", "integer") else rule


def _record(kind, definitions) -> dict:
    reference = {"$ref": f"#/$defs/{kind.__name__}"}
    if kind.__name__ in definitions:
        return reference
    definitions[kind.__name__] = {}  # claimed before the fields, so that a cycle would end
    hints = typing.get_type_hints(kind)
    definitions[kind.__name__] = {
        "type": "object",
        "description": (kind.__doc__ or "").strip().splitlines()[0],
        "properties": {
            name: _bounded(_rule(hint, definitions), least(kind, name))
            for name, hint in hints.items()
        },
        "required": list(hints),
        "additionalProperties": False,
    }
    return reference
