"""Local constants of a layer, of its heads and along prefixes; one program per shape.

All layers of a model share their shapes, and contexts are padded to a few sizes by absent atoms, so
that a whole audit compiles few programs per size: for a layer, for its heads, for its upper bound.
"""

import math
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from meanfield.attention import AbstractInContextMap
from meanfield.lipschitz import LocalLipschitz, local_lipschitz, upper_at
from meanfield.measure import RESULTS, ConditionalMeasure, Measure

from .record import Local


_STEP = 32


def bucket(n: int, largest: int) -> int:
    """The padded size of n atoms: `largest` rounded up, or a fourth of it, a sixteenth, ...

    Few sizes mean few compilations; a factor of four keeps the wasted work small.
    """
    size = -(-largest // _STEP) * _STEP
    while size // 4 >= max(n, _STEP) and size > 128:
        size = -(-size // 4 // _STEP) * _STEP
    return size


def layer_constant(
    attention: AbstractInContextMap,
    mu: Measure | ConditionalMeasure,
    key: PRNGKeyArray,
    rtol: float,
    max_steps: int,
) -> LocalLipschitz:
    """The local constant of a layer, smooth and split; the same program serves its prefixes."""
    settings = {"rtol": rtol, "max_steps": max_steps, "upper": False, "throw": False}
    return local_lipschitz(attention, mu, key=key, **settings)


@eqx.filter_jit
def layer_upper(
    attention: AbstractInContextMap, mu: Measure | ConditionalMeasure
) -> Float[Array, ""]:
    """The upper bound on the local constant at the point."""
    return upper_at(attention, mu)


@eqx.filter_jit
def head_constants(
    arrays: AbstractInContextMap,
    rest: AbstractInContextMap,
    mu: Measure | ConditionalMeasure,
    key: PRNGKeyArray,
    rtol: float,
    max_steps: int,
) -> dict[str, Array]:
    """Smooth and split constants of stacked heads, one head at a time."""

    def one(head):
        f = eqx.combine(head, rest)
        settings = {"rtol": rtol, "max_steps": max_steps, "throw": False}
        sol = local_lipschitz(f, mu, key=key, lower=False, upper=False, **settings)
        return {"smooth": sol.smooth, "split": sol.split}

    return jax.lax.map(one, arrays)


def local_record(sol: LocalLipschitz, upper: Float[Array, ""] | None) -> Local:
    """The record of a solution, numbers that are not finite left out."""
    return Local(
        value=finite(sol.value),
        smooth=finite(sol.smooth),
        split=finite(sol.split),
        lower=finite(sol.lower),
        upper=finite(upper),
        residual=finite(sol.residual),
        iterations=int(np.asarray(sol.stats["smooth_steps"])),
        status=status(sol.result),
    )


def finite(value: Any) -> float | None:
    """A float, or None if it is missing or not finite."""
    number = math.nan if value is None else float(np.asarray(value))
    return number if math.isfinite(number) else None


def status(result: RESULTS) -> str:
    """`successful`, or the advice of the result."""
    return RESULTS[result]
