r"""Alternation between couplings and transforms from a batch of starts, {cite}`sebbouh2024`.

A transport problem is solved inexactly by a few warm-started iterations, then the transform is the
best one for the moments of its coupling. Iterations run on the device, transforms on the host: they
are small, and some need decompositions.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .sweeps import Swept, swept
from .task import Task, pairs_of


# Marginal errors (of at most two) above which potentials may have far to go.
_FAR = 0.5


class Schedule(NamedTuple):
    """How the alternation is run.

    Attributes:
      epsilon: the temperature to end at, in units of the cost.
      hottest: the first temperature, as a multiple of it; the regularizer waits until it is cold.
      cooling: by what the temperature is multiplied after each step.
      inner: the iterations between two transforms.
      max_steps: the largest number of transforms.
      tolerance: how little the transform, and the marginals, may change at the end.
      step: the step of the proximal map; None for the best transform.
    """

    epsilon: float
    hottest: float
    cooling: float
    inner: int
    max_steps: int
    tolerance: float
    step: float | None


class Descent(NamedTuple):
    """Where a batch of starts has come to."""

    transforms: Float[np.ndarray, "s q p"]
    f: Float[Array, "s n"]
    g: Float[Array, "s m"]
    cross: Float[np.ndarray, "s q p"]
    second: Float[np.ndarray, "s p p"]
    error: Float[np.ndarray, " s"]
    change: Float[np.ndarray, " s"]
    dual: Float[np.ndarray, " s"]
    steps: int


def descend(
    task: Task,
    transforms: Float[np.ndarray, "s q p"],
    schedule: Schedule,
    *,
    keep: bool,
    g: Any = None,
) -> Descent:
    """Alternate until no transform changes by more than the tolerance."""
    g = jnp.zeros((len(transforms), len(task.b)), task.b.dtype) if g is None else g
    f = jnp.zeros((len(transforms), len(task.a)), task.a.dtype)
    temperature, steps, error = schedule.hottest * schedule.epsilon, 0, np.ones(len(transforms))
    while True:
        temperature = max(temperature, schedule.epsilon)
        cold = temperature <= schedule.epsilon
        found = _swept(task, transforms, f, g, temperature, schedule.inner, _way(keep, error))
        f, g = found.f, found.g
        cross, second = _moments(task, found)
        new = _updated(task, transforms, cross, second, schedule.step, 1.0 if cold else 0.0)
        change = _relative_change(transforms, new)
        transforms, steps = new, steps + 1
        error = np.asarray(found.error, np.float64)
        settled = cold and bool((np.maximum(change, error) <= schedule.tolerance).all())
        if settled or steps >= schedule.max_steps or not np.isfinite(change).all():
            break
        temperature *= schedule.cooling
    return Descent(
        transforms, f, g, cross, second, error, change, np.asarray(found.dual, np.float64), steps
    )


def completed(
    task: Task, at: Descent, epsilon: float, tolerance: float, max_steps: int, *, keep: bool
) -> Descent:
    """The couplings of the transforms themselves, with their marginals met."""
    f, g, rounds, error = at.f, at.g, 0, at.error
    while True:
        found = _swept(task, at.transforms, f, g, epsilon, 20, _way(keep, error))
        f, g, rounds = found.f, found.g, rounds + 1
        error = np.asarray(found.error, np.float64)
        if bool((error <= tolerance).all()) or 20 * rounds >= max_steps:
            break
    cross, second = _moments(task, found)
    dual = np.asarray(found.dual, np.float64)
    return at._replace(f=f, g=g, cross=cross, second=second, error=error, dual=dual)


def objectives(task: Task, at: Descent) -> Float[np.ndarray, " s"]:
    """The objective of each start, with the entropy, at its transform: what descends."""
    return at.dual * task.free_mass + np.array([task.besides(m) for m in at.transforms])


def _way(keep: bool, error: np.ndarray) -> str:
    if not error.max() <= _FAR:
        return "far"
    return "kept" if keep else "streamed"


def _swept(task: Task, transforms, f, g, temperature: float, steps: int, how: str) -> Swept:
    pairs = pairs_of(task, jnp.asarray(transforms, task.x.dtype))
    return swept(task.entropic(pairs, temperature), f, g, steps, how)


def _moments(task: Task, found: Swept) -> tuple[np.ndarray, np.ndarray]:
    mass = task.free_mass
    return mass * np.asarray(found.cross, np.float64), mass * np.asarray(found.second, np.float64)


def _updated(task: Task, transforms, cross, second, step: float | None, share: float) -> np.ndarray:
    if step is None:
        return np.asarray(task.transform_for(cross, second, transforms, share))
    slope = cross + task.pinned.cross
    if task.squared:
        slope = slope - transforms @ (second + task.pinned.second)
    return np.asarray(task.regularizer.proximal(transforms + step * slope, step))


def _relative_change(old: np.ndarray, new: np.ndarray) -> Float[np.ndarray, " s"]:
    """|M' - M| / |M'|; a transform that has come to zero counts as changing until it is zero."""
    size = np.linalg.norm(new, axis=(-2, -1))
    change = np.linalg.norm(new - old, axis=(-2, -1))
    return np.where(change == 0, 0.0, change / np.where(size > 0, size, 1.0))
