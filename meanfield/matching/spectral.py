"""Regularizers of the singular values of a transform, decomposed on the host.

They take concrete arrays and do not trace: compiled programs of this library hold no
decompositions.
"""

from typing import Any

import equinox as eqx
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from .moments import Moments
from .regularizer import SLACK, AbstractRegularizer, Matrix, Values, indicator, strength_of


Singular = tuple[
    Float[np.ndarray, "*batch q k"], Float[np.ndarray, "*batch k"], Float[np.ndarray, "*batch k p"]
]


def _decomposed(matrix: Matrix) -> Singular:
    if isinstance(matrix, Tracer):
        raise TypeError(
            "Nuclear, Rank and Orthogonal decompose their matrix on the host and cannot be traced. "
            "Call them outside `jax.jit`, `jax.vmap` and `jax.grad`."
        )
    left, values, right = np.linalg.svd(np.asarray(matrix), full_matrices=False)
    return left, values, right


def _composed(left: np.ndarray, values: np.ndarray, right: np.ndarray) -> Matrix:
    return (left * values[..., None, :]) @ right


class Nuclear(AbstractRegularizer):
    r"""$R(M) = \lambda |M|_*$, the sum of the singular values: a low rank.

    Args:
      strength: $\lambda$.
      relative: whether it is a share of the largest singular value that a cross-moment of the two
        measures can have; at one, M is zero.
    """

    strength: float
    relative: bool = eqx.field(static=True)

    def __init__(self, strength: Any = 0.1, *, relative: bool = True):
        self.strength, self.relative = strength_of("strength", strength), relative

    def value(self, transform: Matrix) -> Values:
        return self.strength * _decomposed(transform)[1].sum(axis=-1)

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        left, values, right = _decomposed(transform)
        shrunk = (values[..., None, :] - step * self.strength).clip(min=0)
        return _composed(left, shrunk[..., 0, :], right)

    def conjugate(self, moment: Matrix) -> Values:
        return indicator(_decomposed(moment)[1][..., 0] <= self.strength * (1 + SLACK))

    def absolute(self, moments: Moments) -> "Nuclear":
        unit = moments.largest_singular_value if self.relative else 1.0
        return Nuclear(self.strength * unit, relative=False)


class Rank(AbstractRegularizer):
    r"""$R(M) = 0$ if M has at most the rank r, infinite otherwise; not convex.

    Args:
      rank: r, at least one.
    """

    rank: int = eqx.field(static=True)

    def __init__(self, rank: int):
        if rank < 1:
            raise ValueError(f"`rank` must be at least 1; got {rank}.")
        self.rank = int(rank)

    def value(self, transform: Matrix) -> Values:
        values = _decomposed(transform)[1]
        rest = values[..., self.rank :].max(axis=-1, initial=0.0)
        return indicator(rest <= SLACK * values[..., 0])

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        left, values, right = _decomposed(transform)
        return _composed(left, np.where(np.arange(values.shape[-1]) < self.rank, values, 0), right)

    def conjugate(self, moment: Matrix) -> Values:
        return indicator(abs(np.asarray(moment)).max(axis=(-2, -1)) == 0)


class Orthogonal(AbstractRegularizer):
    r"""$R(M) = 0$ if M has orthonormal rows or columns (all singular values one), infinite
    otherwise; not convex. With inner products this is Wasserstein-Procrustes."""

    def value(self, transform: Matrix) -> Values:
        return indicator((abs(_decomposed(transform)[1] - 1) <= SLACK).all(axis=-1))

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        left, _, right = _decomposed(transform)
        return left @ right

    def conjugate(self, moment: Matrix) -> Values:
        return _decomposed(moment)[1].sum(axis=-1)
