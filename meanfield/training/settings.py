"""The settings of a training run, checked."""

import math
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from .method import AbstractMethod
from .steps import Batches
from .transformation import is_transformation


def checked_count(name: str, value: Any) -> int:
    """The value as an int.

    Raises:
      ValueError: it is no whole number of at least 1.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1; got {value!r}.")
    return int(value)


def check_method(method: Any) -> None:
    """Raises TypeError for what is no method, and ValueError for a step that leads nowhere."""
    if not isinstance(method, AbstractMethod):
        wrapped = is_transformation(method)
        hint = "Wrap it: mf.training.Optax(transformation)." if wrapped else ""
        raise TypeError(
            "`method` must be a method such as Euler(0.1), Heun, Proximal or Optax; got "
            f"{'a transformation of optax' if wrapped else repr(method)[:80]}. {hint}".rstrip()
        )
    if method.duration is not None and not 0 < method.duration < math.inf:
        raise ValueError(f"`step` must be positive and finite; got {method.duration}.")


def checked_batches(count: int, size: Any, key: PRNGKeyArray | None) -> Batches | None:
    """Mini-batches of `count` examples, or None for all at once.

    Raises:
      ValueError: a size that does not fit, or no key.
    """
    if size is None:
        return None
    if key is None:
        raise ValueError("`key` must be given with `batch_size`: it draws the mini-batches.")
    size = checked_count("batch_size", size)
    if size > count:
        raise ValueError(
            f"`batch_size` must be from 1 to the number of examples {count}; got {size}."
        )
    return Batches(size, key)
