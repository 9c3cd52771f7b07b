"""Every domain of measures lies in an ellipsoid m + E B, B the unit ball: what theorems use."""

from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from jaxtyping import Float

from meanfield.measure import AbstractDomain, Ball, LayerNormRange, Sphere


Matrix = Float[np.ndarray, "_ _"]


@dataclass(frozen=True)
class Ellipsoid:
    r"""The points $m + E z$, $|z| \le 1$, with $E = \mathrm{diag}(\mathrm{axes})$, or
    $\mathrm{diag}(\mathrm{axes}) (I - 11^T / d)$ if `centred`. Convex; float64 on the host.

    Args:
      centre: the point m, shape (d,).
      axes: shape (d,).
      centred: whether z is first made to sum to zero.
    """

    centre: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, " d"]
    centred: bool = False

    def times(self, matrix: Matrix) -> Matrix:
        """M E: the linear map M seen from the unit ball."""
        scaled = matrix * self.axes
        return scaled - scaled.mean(axis=-1, keepdims=True) if self.centred else scaled

    @property
    def dim(self) -> int:
        return self.centre.size

    def reach(self, matrix: Matrix, bias: Float[np.ndarray, " _"]) -> float:
        """A bound |M m + b| + ||M E|| on |M x + b| over the ellipsoid."""
        return length(matrix @ self.centre + bias) + spectral_norm(self.times(matrix))

    def extent(self, matrix: Matrix, bias: Float[np.ndarray, " _"]) -> Float[np.ndarray, " _"]:
        """The largest |(M x + b)_k| over the ellipsoid, for every row k."""
        rows = np.linalg.norm(self.times(matrix), axis=-1)
        return upwards(np.abs(matrix @ self.centre + bias) + rows, matrix)


@singledispatch
def enclosing(domain: AbstractDomain, dim: int) -> Ellipsoid:
    """An ellipsoid that contains the domain, in dimension `dim`.

    Raises:
      TypeError: for a domain without a rule; register one with `enclosing.register`.
      ValueError: if the domain has another dimension.
    """
    raise TypeError(
        f"`domain` must be a Ball, a Sphere or a LayerNormRange; got {type(domain).__name__}."
    )


@enclosing.register(Ball)
@enclosing.register(Sphere)
def _(domain: Ball | Sphere, dim: int) -> Ellipsoid:
    return Ellipsoid(np.zeros(dim), np.full(dim, float(domain.radius)))


@enclosing.register
def _(domain: LayerNormRange, dim: int) -> Ellipsoid:
    axes = float64(domain.gamma)
    if axes.size != dim:
        raise ValueError(
            f"`domain` must live in the {dim} dimensions of the map; got a LayerNormRange in "
            f"{axes.size} dimensions."
        )
    return Ellipsoid(float64(domain.beta), dim**0.5 * axes, domain.centred)


def float64(x) -> np.ndarray:
    """An array on the host in float64, whatever the precision of the map."""
    return np.asarray(x, dtype=np.float64)


def spectral_norm(matrix: Matrix) -> float:
    """The largest singular value, rounded upwards by the backward error of its computation."""
    return float(upwards(np.linalg.norm(matrix, 2), matrix)) if matrix.size else 0.0


def product_norm(left: Matrix, right: Matrix) -> float:
    """The norm of the product L R (a, k)(k, b), through its k x k core if k is small."""
    if left.shape[1] < min(left.shape[0], right.shape[1]):
        left, right = np.linalg.qr(left)[1], np.linalg.qr(right.T)[1].T
    size = np.linalg.norm(left) * np.linalg.norm(right)
    return spectral_norm(left @ right) + 4 * left.shape[1] * np.finfo(np.float64).eps * size


def length(vector: Float[np.ndarray, " _"]) -> float:
    """The Euclidean norm, rounded upwards."""
    return float(upwards(np.linalg.norm(vector), vector))


def upwards(value, source: np.ndarray):
    """A computed norm of `source`, increased by more than the rounding errors in it."""
    return value * (1 + 8 * max(source.shape, default=1) * np.finfo(np.float64).eps)
