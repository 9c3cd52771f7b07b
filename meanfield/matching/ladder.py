"""Samples of the atoms, each larger than the one before, up to all of them."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..transport.entropic_problem import log_shares
from ..transport.softmin import softmin
from .descent import Descent
from .starts import systematic_sample
from .task import Task
from .turns import costs_of, on_device


# Measures up to this multiple of the sample are not sampled.
_MARGIN = 1.5
# A rung of the ladder has at most so many times the atoms of the one before.
_RUNG = 4


def ladder(task: Task, size: int | None, key: PRNGKeyArray) -> list[Task]:
    """The problem between samples of `size` atoms, between larger ones, and between all atoms."""
    n, m = task.x.shape[0], task.y.shape[0]
    largest = max(n, m)
    if size is None or largest <= _MARGIN * size:
        return [task]
    count = math.ceil(math.log(largest / size) / math.log(_RUNG))
    sizes = [round(size * (largest / size) ** (k / count)) for k in range(count)]
    return [_sampled(task, one, jr.fold_in(key, k)) for k, one in enumerate(sizes)] + [task]


def _sampled(task: Task, size: int, key: PRNGKeyArray) -> Task:
    rows, cols = (
        np.arange(len(weights))
        if len(weights) <= _MARGIN * size
        else systematic_sample(np.asarray(weights, np.float64), size, k)
        for weights, k in zip((task.a, task.b), jr.split(key), strict=True)
    )
    return task.at(rows, cols)


def extended(task: Task, small: Task, at: Descent, epsilon: float) -> Float[Array, "s m"] | None:
    """The second potentials on all atoms: soft minima over the sample of the first; None where a
    part of the cost is known between atoms only."""
    if task.data.table is not None:
        return None
    bridge = eqx.tree_at(
        lambda one: (one.y, one.b, one.data.cols, one.data.beta),
        small,
        (task.y, task.b, task.data.cols, task.data.beta),
    )
    dtype = task.x.dtype
    return _soft(on_device(bridge), at.transforms.astype(dtype), at.f, np.asarray(epsilon, dtype))


@eqx.filter_jit
def _soft(bridge: Task, transforms, f: Float[Array, "s n"], epsilon) -> Float[Array, "s m"]:
    log_a = log_shares(bridge.shares[0])

    def one(given):
        transform, f = given
        soft = softmin(costs_of(bridge, transform).transpose, f, log_a, epsilon)
        return bridge.sides[1].proximal(soft, epsilon)

    return jax.lax.map(one, (jnp.asarray(transforms), f))
