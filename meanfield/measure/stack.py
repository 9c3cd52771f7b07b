"""Batches of measures: the same noun with a leading axis."""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from .conditional import ConditionalMeasure
from .measure import Measure


AnyMeasure = TypeVar("AnyMeasure", Measure, ConditionalMeasure)


def stack(measures: Sequence[AnyMeasure]) -> AnyMeasure:
    """Pad measures to a common size and stack them along a new leading axis, for `jax.vmap`.

    Raises:
      ValueError: no measure was given, or they live in different dimensions.
    """
    if not measures:
        raise ValueError("`measures` must hold at least one measure; got none.")
    dims = sorted({mu.dim for mu in measures})
    if len(dims) > 1:
        raise ValueError(f"`measures` must share one dimension to be stacked; got {dims}.")
    size = max(mu.size for mu in measures)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[mu.pad(size) for mu in measures])
