"""The group lasso on a transform: whole features of x, or whole features of y, are chosen."""

from typing import Any

import equinox as eqx
import numpy as np

from .moments import Moments
from .regularizer import SLACK, AbstractRegularizer, Matrix, Values, indicator, strength_of


def _norms(matrix: Matrix, axis: int) -> Any:
    return (matrix**2).sum(axis=axis, keepdims=True) ** 0.5


def _shrunk(matrix: Matrix, threshold: Any, axis: int) -> Matrix:
    r"""$G_j (1 - t / |G_j|)_+$ for each group j."""
    least = threshold + np.finfo(matrix.dtype).tiny
    return matrix * (1 - threshold / _norms(matrix, axis).clip(min=least))


class ColumnGroups(AbstractRegularizer):
    r"""$R(M) = \lambda \sum_j |M_{:j}|_2$: few features of x are used.

    Args:
      strength: $\lambda$.
      relative: whether it is a share of the largest norm that a column of a cross-moment of the
        two measures can have; at one, M is zero.
    """

    strength: float
    relative: bool = eqx.field(static=True)

    def __init__(self, strength: Any = 0.1, *, relative: bool = True):
        self.strength, self.relative = strength_of("strength", strength), relative

    def value(self, transform: Matrix) -> Values:
        return self.strength * _norms(transform, -2).sum(axis=(-2, -1))

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        return _shrunk(transform, step * self.strength, -2)

    def conjugate(self, moment: Matrix) -> Values:
        return indicator(_norms(moment, -2).max(axis=(-2, -1)) <= self.strength * (1 + SLACK))

    def absolute(self, moments: Moments) -> "ColumnGroups":
        unit = moments.largest_column if self.relative else 1.0
        return ColumnGroups(self.strength * unit, relative=False)


class RowGroups(AbstractRegularizer):
    r"""$R(M) = \lambda \sum_i |M_{i:}|_2$: few features of y are reached.

    Args:
      strength: $\lambda$.
      relative: whether it is a share of the largest norm that a row of a cross-moment of the two
        measures can have; at one, M is zero.
    """

    strength: float
    relative: bool = eqx.field(static=True)

    def __init__(self, strength: Any = 0.1, *, relative: bool = True):
        self.strength, self.relative = strength_of("strength", strength), relative

    def value(self, transform: Matrix) -> Values:
        return self.strength * _norms(transform, -1).sum(axis=(-2, -1))

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        return _shrunk(transform, step * self.strength, -1)

    def conjugate(self, moment: Matrix) -> Values:
        return indicator(_norms(moment, -1).max(axis=(-2, -1)) <= self.strength * (1 + SLACK))

    def absolute(self, moments: Moments) -> "RowGroups":
        unit = moments.largest_row if self.relative else 1.0
        return RowGroups(self.strength * unit, relative=False)
