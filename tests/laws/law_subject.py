"""What the laws speak of: a public function of measures, its answers, and how they change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Number:
    """An answer without atoms. In units of length it has the power `degree`."""

    degree: float = 0
    unique: bool = True

    def before(self, old, rewriting):
        return old

    def after(self, new, rewriting):
        return new


@dataclass(frozen=True)
class Rows:
    """An answer for each atom of measure `of`; both halves of a split atom have that of the whole.

    With `follows`, a point of space: it moves with the measures.
    """

    of: int = 0
    degree: float = 0
    follows: bool = False
    unique: bool = False

    def before(self, old, rewriting):
        return np.asarray(old)[..., rewriting.origin[rewriting.origin >= 0], :]

    def after(self, new, rewriting):
        return np.asarray(new)[..., rewriting.origin >= 0, :]


@dataclass(frozen=True)
class Shares:
    """Mass for each atom of measure `of`; halves of a split atom carry parts that add up."""

    of: int = 0
    degree: float = 0
    unique: bool = False

    def before(self, old, rewriting):
        return old

    def after(self, new, rewriting):
        total = np.zeros((*np.shape(new)[:-1], rewriting.size))
        for j, i in enumerate(rewriting.origin):
            if i >= 0:
                total[..., i] += np.asarray(new)[..., j]
        return total


Answer = Number | Rows | Shares


@dataclass(frozen=True)
class Subject:
    """One line of the table.

    Args:
      name: how tests call it.
      covers: the public names that it exercises, `room.name` or `room.Class.method`.
      call: `call(measures, unit)`, a dictionary of arrays. Whatever has units (radii, budgets,
        scores) is given in `unit`s, so that scaling the measures and the unit is a change of units.
      answers: how each array of the dictionary changes.
      sizes: the numbers of atoms of its measures.
      dim: of their space.
      positions: of conditional measures; none for plain ones.
      slack: how many units in the last place answers may be off, relative to their size or to
        that of the cloud; more for iterations with a tolerance.
      translates, scales, splits, singles: True, or why the law does not hold.
      traits: the kinds of clouds that it is tried on.
      quick: whether the fast lane has one draw of it.
      powers: of two, the units that float32 can state its arguments in.
    """

    name: str
    covers: tuple[str, ...]
    call: Callable[[tuple, float], dict[str, Any]]
    answers: dict[str, Answer]
    sizes: tuple[int, ...] = (5, 4)
    dim: int = 3
    positions: int = 0
    slack: float = 200.0
    tolerance: float = 0.0
    translates: bool | str = True
    scales: bool | str = True
    splits: bool | str = True
    singles: bool | str = True
    traits: tuple[str, ...] = ("generic", "ties", "light", "far", "alike")
    quick: bool = False
    powers: tuple[int, ...] = (-100, -20, 20, 100)

    def __repr__(self) -> str:
        return self.name
