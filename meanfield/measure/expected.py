"""What functions of measures expect, and what they say when something else comes."""

from typing import Any

import numpy as np

from .conditional import ConditionalMeasure
from .measure import Measure


_WRAP = {
    Measure: "Write mf.Measure(points) for an array of points",
    ConditionalMeasure: "Write mf.ConditionalMeasure.from_sequence(points) for a sequence",
}
_INSTEAD = {
    Measure: "For a measure over positions use the conditional functions, such as "
    "conditional_wasserstein, or forget the positions with `.atoms`",
    ConditionalMeasure: "For one without positions use the functions of a Measure",
}
_SHAPES = {Measure: "(n, d)", ConditionalMeasure: "(s, k, d)"}


def check_measures(kind: type = Measure, /, **measures: Any) -> None:
    """Nothing, if each is one measure of the kind, not a batch.

    Raises:
      TypeError: something else, such as an array.
      ValueError: a batch.
    """
    for name, given in measures.items():
        wanted = f"`{name}` must be one {kind.__name__} with points of shape {_SHAPES[kind]}"
        if not isinstance(given, kind):
            measure = isinstance(given, Measure | ConditionalMeasure)
            remedy = _INSTEAD[kind] if measure else _WRAP[kind]
            raise TypeError(f"{wanted}; got {told(given)}. {remedy}.")
        if given.points.ndim != _SHAPES[kind].count(",") + 1:
            raise ValueError(f"{wanted}; got {told(given)}. For a batch use jax.vmap.")


def check_any_measure(**measures: Any) -> None:
    """Nothing, if each is a `Measure` or a `ConditionalMeasure`; else a TypeError."""
    for name, given in measures.items():
        if not isinstance(given, Measure | ConditionalMeasure):
            raise TypeError(
                f"`{name}` must be a Measure or a ConditionalMeasure; got {told(given)}. Write "
                "mf.Measure(points) for an array of points, or "
                "mf.ConditionalMeasure.from_sequence(points) where positions count."
            )


def told(given: Any) -> str:
    """What came, in a few words: its type, and its shape where it has one."""
    points = getattr(given, "points", given)
    shape = getattr(points, "shape", None)
    if shape is None and isinstance(given, list | tuple):
        try:
            shape = np.shape(given)
        except ValueError:  # rows of different lengths
            shape = None
    of = "" if shape is None else f" of shape {tuple(shape)}"
    return type(given).__name__ + (f" with points{of}" if points is not given else of)
