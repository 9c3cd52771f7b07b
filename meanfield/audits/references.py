"""The parts of an audit point at one another: summaries at rows, rows at inputs."""

from collections.abc import Iterable

from .record import Audit, Growth, Row
from .restoring import RecordError


def check_references(audit: Audit) -> None:
    """Refuses an audit whose parts do not belong together.

    Raises:
      RecordError: a part is told twice, or points at another that is not there.
    """
    if audit.status not in ("complete", "partial"):
        raise RecordError(f"status must be 'complete' or 'partial'; got {audit.status[:40]!r}.")
    places = _once("rows", [(row.layer, row.input) for row in audit.rows])
    layers = _once("layers", [layer.layer for layer in audit.layers])
    _once("growth", [record.layer for record in audit.growth])
    _inside("layers", [(layer.layer, layer.input) for layer in audit.layers], places)
    _inside("growth", [record.layer for record in audit.growth], layers)
    inputs = set(range(len(audit.inputs)))
    _inside("rows", [row.input for row in audit.rows], inputs)
    _inside("whole", [row.input for row in audit.whole], inputs)
    for curve in (*audit.rows, *audit.growth):
        _check_curve(curve)


def _once(name: str, keys: list) -> set:
    if len(set(keys)) < len(keys):
        raise RecordError(f"{name} must hold each layer and input once.")
    return set(keys)


def _inside(name: str, keys: Iterable, known: set) -> None:
    if lost := [key for key in keys if key not in known]:
        raise RecordError(f"{name} point at {lost[0]}, which the record does not have.")


def _check_curve(curve: Row | Growth) -> None:
    if len(curve.lengths) != len(curve.constants):
        raise RecordError(f"layer {curve.layer} must have as many constants as lengths.")
    after = [jump.after for jump in getattr(curve, "jumps", ())]
    _inside(f"jumps of layer {curve.layer}", after, set(curve.lengths))
