r"""Gromov-Wasserstein between any two matrices: what is compared, and by which loss."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..measure import Measure
from .cost import AbstractCrossCost


class AbstractLoss(eqx.Module):
    r"""A loss $L(s, t) = f_1(s) + f_2(t) - h_1(s) h_2(t)$ {cite}`peyre2016`."""

    @abc.abstractmethod
    def first(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """$f_1$ and $h_1$ of the entries of the first matrix."""

    @abc.abstractmethod
    def second(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """$f_2$ and $h_2$ of the entries of the second matrix."""


class SquareLoss(AbstractLoss):
    r"""$(s - t)^2$."""

    def first(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return c**2, c

    def second(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return c**2, 2 * c


class KullbackLeiblerLoss(AbstractLoss):
    r"""$s \log (s / t) - s + t$, for similarities: s nonnegative, t positive."""

    def first(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if (c < 0).any():
            raise ValueError(
                "`first` must be nonnegative for KullbackLeiblerLoss(); its least entry is "
                f"{c.min():.6g}."
            )
        return c * np.log(np.where(c > 0, c, 1.0)) - c, c

    def second(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not (c > 0).all():
            raise ValueError(
                "`second` must be positive for KullbackLeiblerLoss(); its least entry is "
                f"{c.min():.6g}. Add a small number to both matrices, or take SquareLoss()."
            )
        return c, np.log(c)


class Dissimilarities(AbstractCrossCost):
    """A number for each pair of atoms of each measure, for `GromovWasserstein` and
    `FusedGromovWasserstein` with the solvers `ConditionalGradient`, `MirrorDescent` and
    `MirrorDescentOTT`.

    Args:
      first, second: symmetric matrices of shapes (n, n) and (m, m), or functions k(x, x') of two
        points; the points of a measure count only for functions. Rows and columns of absent atoms
        are not read.
      loss: `SquareLoss()` or `KullbackLeiblerLoss()`.
    """

    first: Any
    second: Any
    loss: AbstractLoss = SquareLoss()


class Compared(NamedTuple):
    """The matrices of the atoms that have mass, their shares, and what else the coupling pays.

    Attributes:
      c: both matrices.
      shares: both.
      present: which atoms these are, as indices.
      loss: how the matrices are compared.
      weight: what the comparison is multiplied by.
      table: a linear cost of the coupling, weighted.
    """

    c: tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "m m"]]
    shares: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]
    present: tuple[np.ndarray, np.ndarray]
    loss: AbstractLoss
    weight: float
    table: Float[np.ndarray, "n m"]

    def value(self, plan: Float[np.ndarray, "n m"]) -> float:
        """The distortion of a coupling, and its linear cost."""
        (f1, h1), (f2, h2) = self.loss.first(self.c[0]), self.loss.second(self.c[1])
        a, b = plan.sum(axis=1), plan.sum(axis=0)
        total = a @ f1 @ a + b @ f2 @ b - np.sum((h1 @ plan @ h2.T) * plan)
        return float(self.weight * total + np.sum(self.table * plan))

    def slope(self, plan: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
        """The gradient of the value, for symmetric matrices."""
        (f1, h1), (f2, h2) = self.loss.first(self.c[0]), self.loss.second(self.c[1])
        a, b = plan.sum(axis=1), plan.sum(axis=0)
        local = (f1 @ a)[:, None] + f2 @ b - h1 @ plan @ h2.T
        return 2 * self.weight * local + self.table


def matrix_of(name: str, given: Any, measure: Measure, present: np.ndarray) -> np.ndarray:
    """The matrix between the atoms that have mass.

    Raises:
      ValueError: a matrix of another size, not symmetric or not finite.
    """
    if isinstance(given, Callable):
        points = jnp.asarray(np.asarray(measure.points)[present])
        c = np.asarray(jax.vmap(lambda x: jax.vmap(lambda y: given(x, y))(points))(points))
    else:
        c = np.asarray(given)
        if c.shape != (measure.size, measure.size):
            raise ValueError(
                f"`{name}` must have shape {(measure.size, measure.size)}, the size of its "
                f"measure; got {c.shape}."
            )
        c = c[np.ix_(present, present)]
    c = c.astype(np.float64)
    if c.ndim != 2 or not np.isfinite(c).all():
        raise ValueError(f"`{name}` must give a finite number for each pair of atoms.")
    if np.abs(c - c.T).max() > 1e-8 * max(np.abs(c).max(), 1e-300):
        raise ValueError(f"`{name}` must be symmetric. Take (C + C.T) / 2.")
    return (c + c.T) / 2
