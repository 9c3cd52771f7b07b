"""Regularizers that act on each entry of a transform by itself."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool

from .moments import Moments
from .regularizer import (
    SLACK,
    AbstractRegularizer,
    Matrix,
    Values,
    indicator,
    inner,
    strength_of,
)


class Ridge(AbstractRegularizer):
    r"""$R(M) = \frac{s}{2} |M|_F^2$, beside the ridge of the problem.

    Args:
      strength: s; zero asks for nothing.
    """

    strength: float = 0.0

    def value(self, transform: Matrix) -> Values:
        return self.strength / 2 * inner(transform, transform)

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        return transform / (1 + step * self.strength)

    def conjugate(self, moment: Matrix) -> Values:
        squared = inner(moment, moment)
        return squared / (2 * self.strength) if self.strength > 0 else indicator(squared == 0)


class L1(AbstractRegularizer):
    r"""$R(M) = \lambda \sum_{ij} |M_{ij}|$: few nonzero entries.

    Args:
      strength: $\lambda$.
      relative: whether it is a share of the largest entry that a cross-moment of the two measures
        can have; at one, M is zero.
    """

    strength: float
    relative: bool = eqx.field(static=True)

    def __init__(self, strength: Any = 0.1, *, relative: bool = True):
        self.strength, self.relative = strength_of("strength", strength), relative

    def value(self, transform: Matrix) -> Values:
        return self.strength * abs(transform).sum(axis=(-2, -1))

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        threshold = step * self.strength
        return transform - transform.clip(-threshold, threshold)

    def conjugate(self, moment: Matrix) -> Values:
        return indicator(abs(moment).max(axis=(-2, -1)) <= self.strength * (1 + SLACK))

    def absolute(self, moments: Moments) -> "L1":
        unit = moments.largest_entry if self.relative else 1.0
        return L1(self.strength * unit, relative=False)


class ElasticNet(AbstractRegularizer):
    r"""$R(M) = \lambda \sum_{ij} |M_{ij}| + \frac{s}{2} |M|_F^2$.

    Args:
      strength: $\lambda$, relative as in `L1`.
      ridge: s, beside the ridge of the problem.
      relative: whether $\lambda$ is a share of the largest possible entry of a cross-moment.
    """

    strength: float
    ridge: float
    relative: bool = eqx.field(static=True)

    def __init__(self, strength: Any = 0.1, ridge: Any = 1.0, *, relative: bool = True):
        self.strength, self.ridge = strength_of("strength", strength), strength_of("ridge", ridge)
        self.relative = relative

    def value(self, transform: Matrix) -> Values:
        norm = abs(transform).sum(axis=(-2, -1))
        return self.strength * norm + self.ridge / 2 * inner(transform, transform)

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        threshold = step * self.strength
        return (transform - transform.clip(-threshold, threshold)) / (1 + step * self.ridge)

    def conjugate(self, moment: Matrix) -> Values:
        if self.ridge == 0:
            return L1(self.strength, relative=False).conjugate(moment)
        left = moment - moment.clip(-self.strength, self.strength)
        return inner(left, left) / (2 * self.ridge)

    def absolute(self, moments: Moments) -> "ElasticNet":
        unit = moments.largest_entry if self.relative else 1.0
        return ElasticNet(self.strength * unit, self.ridge, relative=False)


class Nonnegative(AbstractRegularizer):
    r"""$R(M) = 0$ if no entry of M is negative, infinite otherwise."""

    def value(self, transform: Matrix) -> Values:
        size = abs(transform).max(axis=(-2, -1))
        return indicator(transform.min(axis=(-2, -1)) >= -SLACK * size)

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        return transform.clip(min=0)

    def conjugate(self, moment: Matrix) -> Values:
        return indicator(moment.max(axis=(-2, -1)) <= 0)


class Support(AbstractRegularizer):
    r"""$R(M) = 0$ if M is zero where `mask` is false, infinite otherwise.

    Args:
      mask: shape (q, p), true where M may be nonzero.
    """

    mask: Bool[np.ndarray, "q p"]

    def __init__(self, mask: Any):
        self.mask = np.asarray(mask, bool)
        if self.mask.ndim != 2:
            raise ValueError(f"`mask` must have shape (q, p); got {self.mask.shape}.")

    def absolute(self, moments: Moments) -> "Support":
        shape = len(moments.y), len(moments.x)
        if self.mask.shape != shape:
            raise ValueError(
                f"`mask` must have shape {shape}, the dimensions of `nu` and of `mu`; got "
                f"{self.mask.shape}."
            )
        return self

    def value(self, transform: Matrix) -> Values:
        outside = abs(transform * ~self.mask).max(axis=(-2, -1))
        return indicator(outside <= SLACK * abs(transform).max(axis=(-2, -1)))

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        return transform * self.mask

    def conjugate(self, moment: Matrix) -> Values:
        return indicator(abs(moment * self.mask).max(axis=(-2, -1)) == 0)
