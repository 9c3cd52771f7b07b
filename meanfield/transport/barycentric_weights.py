"""The weights of several measures in their barycentre."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float


def barycentric_weights(weights: Any, count: int, dtype: Any) -> Float[Array, " K"]:
    """The weights as an array that sums to one; equal ones where none are given.

    Raises:
      ValueError: another shape than (count,), a negative weight, or none that is positive.
    """
    if weights is None:
        return jnp.full(count, 1 / count, dtype)
    weights = jnp.asarray(weights, dtype)
    if weights.shape != (count,):
        raise ValueError(
            f"`weights` must have shape ({count},), one for each measure; got {weights.shape}."
        )
    if not isinstance(weights, Tracer):
        known = np.asarray(weights)
        if not (np.all(np.isfinite(known)) and np.all(known >= 0) and known.sum() > 0):
            raise ValueError(
                "`weights` must be finite and nonnegative, and one of them positive; got "
                f"{known.tolist()}."
            )
    return weights / jnp.sum(weights)
