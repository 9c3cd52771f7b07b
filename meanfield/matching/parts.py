"""Settings of parts of an estimator, under names like `solver__epsilon`."""

import inspect
from typing import Any

import equinox as eqx


def settings(part: Any) -> dict[str, Any]:
    """What the constructor of a problem, a solver or a regularizer was given."""
    names = inspect.signature(type(part)).parameters
    return {name: getattr(part, name) for name in names if hasattr(part, name)}


def nested(name: str, part: Any) -> dict[str, Any]:
    """The settings of a part and of its own parts, with their names before them."""
    if not isinstance(part, eqx.Module):
        return {}
    found = {}
    for key, value in settings(part).items():
        found[f"{name}__{key}"] = value
        found |= nested(f"{name}__{key}", value)
    return found


def replaced(part: Any, path: str, value: Any) -> Any:
    """The part made again with one setting changed, checked by its own constructor.

    Raises:
      ValueError: a setting that the part does not have.
    """
    name, _, rest = path.partition("__")
    known = settings(part) if isinstance(part, eqx.Module) else {}
    if name not in known:
        raise ValueError(
            f"`{name}` is no setting of {type(part).__name__}; it has {', '.join(known) or 'none'}."
        )
    changed = replaced(known[name], rest, value) if rest else value
    return type(part)(**{**known, name: changed})
