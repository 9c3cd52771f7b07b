"""Features in which a kernel between points is a signed inner product."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .moments import Cloud


class Features(NamedTuple):
    """Features of the points of a measure, their signs, and which of them are the points.

    Attributes:
      values: shape (n, p).
      signs: shape (p,).
      scale: the last coordinates are the points, times this.
      dim: how many coordinates that are.
    """

    values: Float[np.ndarray, "n p"]
    signs: Float[np.ndarray, " p"]
    scale: float
    dim: int


def of_products(cloud: Cloud) -> Features:
    """The points themselves, for inner products."""
    dim = cloud.points.shape[1]
    return Features(cloud.points, np.ones(dim), 1.0, dim)


def of_distances(cloud: Cloud, signs: Float[np.ndarray, " d"]) -> Features:
    r"""Features of signed squared distances $k(x, x') = \sum_k \sigma_k (x_k - x'_k)^2$.

    With $q = \sum_k \sigma_k x_k^2$, k is $q + q' - 2 \langle x, \sigma x' \rangle$, and $q + q' =
    u u' - v v'$ for $u, v = (q / c \pm c) / \sqrt 2$, whatever c is.
    """
    squares = cloud.points**2
    c = max(float(np.sqrt(cloud.shares @ squares.sum(axis=1))), np.finfo(np.float64).tiny)
    q = squares @ signs / c
    root = np.sqrt(2)
    values = np.column_stack([(q + c) / root, (q - c) / root, root * cloud.points])
    return Features(values, np.concatenate([[1.0, -1.0], -signs]), root, len(signs))
