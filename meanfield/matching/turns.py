"""Starts that take turns on the device: iterations of Sinkhorn for each that still moves."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .bilinear import BilinearPairs
from .sweeps import Swept, sweep
from .task import Task, first_of, pairs_of


class Way(NamedTuple):
    """How the kernel is had: `kept`, `streamed` or `far` (see {mod}`.sweeps`), and the devices that
    share its rows, if it is not kept."""

    name: str
    mesh: jax.sharding.Mesh | None = None

    @property
    def for_far_potentials(self) -> "Way":
        return self._replace(name="far")


class Turn(NamedTuple):
    """Potentials and moments of a batch; those of starts without a turn are as they were, or
    zero."""

    f: Float[Array, "s n"]
    g: Float[Array, "s m"]
    cross: Float[Array, "s q p"]
    second: Float[Array, "s p p"]
    error: Float[Array, " s"]
    dual: Float[Array, " s"]


def turns(
    task: Task,
    transforms: Float[np.ndarray, "s q p"],
    f: Float[Array, "s n"],
    g: Float[Array, "s m"],
    going: Bool[np.ndarray, " s"],
    epsilon: float,
    steps: int,
    way: Way,
) -> Turn:
    """So many iterations for each start that is `going`.

    How many go, and how far, compiles nothing: a batch has one program.
    """
    order = np.argsort(~going, kind="stable").astype(np.int32)
    dtype = task.x.dtype
    return _taken(
        on_device(task),
        transforms.astype(dtype),
        f,
        g,
        order,
        np.int32(going.sum()),
        np.asarray(epsilon, dtype),
        np.int32(steps),
        way,
    )


@eqx.filter_jit
def _taken(
    task: Task,
    transforms: Float[Any, "s q p"],
    f: Float[Array, "s n"],
    g: Float[Array, "s m"],
    order: Int[Any, " s"],
    count: Int[Any, ""],
    epsilon: Float[Any, ""],
    steps: Int[Any, ""],
    way: Way,
) -> Turn:
    transforms, order = jnp.asarray(transforms), jnp.asarray(order)

    def turn(k: Array, now: Turn) -> Turn:
        start = order[k]
        pairs = shared_among(way.mesh, costs_of(task, transforms[start]))
        problem = task.entropic(pairs, epsilon)
        found: Swept = sweep(problem, now.f[start], now.g[start], steps, way.name)
        news = (found.f, found.g, found.cross, found.second, found.error, found.dual)
        return Turn(*(old.at[start].set(new) for old, new in zip(now, news, strict=True)))

    s, q, p = transforms.shape
    empty = jnp.zeros(s, task.x.dtype)
    begin = Turn(f, g, jnp.zeros((s, q, p), f.dtype), jnp.zeros((s, p, p), f.dtype), empty, empty)
    return jax.lax.fori_loop(0, count, turn, begin)


def on_device(task: Task) -> Task:
    """What makes costs and marginals, with numbers as arrays: another problem of the same sizes
    compiles nothing. What the transforms alone need stays on the host."""
    dtype = task.x.dtype
    return eqx.tree_at(
        lambda one: (
            one.weight,
            one.norms,
            one.regularizer,
            one.pinned,
            one.moments,
            one.constant,
        ),
        task,
        (np.asarray(task.weight, dtype), np.asarray(task.norms, dtype), None, None, None, None),
    )


def costs_of(task: Task, transform: Float[Any, "q p"]) -> BilinearPairs:
    """The costs of one transform."""
    return first_of(pairs_of(task, jnp.asarray(transform, task.x.dtype)[None]))


def shared_among(mesh: jax.sharding.Mesh | None, pairs: BilinearPairs) -> BilinearPairs:
    """The same costs, with rows shared among devices."""
    return BilinearPairs(rows=pairs.rows, cols=pairs.cols, mesh=mesh)
