r"""Alternation between couplings and transforms from a batch of starts, {cite}`sebbouh2024`.

A transport problem is solved inexactly by a few warm-started iterations, then the transform is the
best one for the moments of its coupling. Iterations run on the device, transforms on the host: they
are small, and some need decompositions. Starts take turns on the device, so that one kernel is in
memory, and those that have settled, or met another start, cost nothing more.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .task import Task, chosen
from .turns import Way, turns


# Marginal errors (of at most two) above which potentials may have far to go.
_FAR = 0.5
# Two starts have met when their transforms differ by less than this share of their size, and by
# less than one step before: on the two sides of a saddle they would part.
_MET = 0.01


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
    """Where a batch of starts has come to.

    `cross`, `second`, `error` and `dual` are those of the coupling of the potentials; `met` is the
    start, an earlier one, that a start has met, or its own number.
    """

    transforms: Float[np.ndarray, "s q p"]
    f: Float[Array, "s n"]
    g: Float[Array, "s m"]
    cross: Float[np.ndarray, "s q p"]
    second: Float[np.ndarray, "s p p"]
    error: Float[np.ndarray, " s"]
    change: Float[np.ndarray, " s"]
    dual: Float[np.ndarray, " s"]
    steps: Int[np.ndarray, " s"]
    met: Int[np.ndarray, " s"]

    @property
    def alone(self) -> Bool[np.ndarray, " s"]:
        """The starts that have met no earlier one."""
        return self.met == np.arange(len(self.met))

    def at(self, rows: Any) -> "Descent":
        """Some of the starts, as a batch of their own."""
        leaves: list[Any] = [chosen(leaf, rows) for leaf in self]
        return Descent(*leaves)._replace(met=np.arange(len(leaves[-1])))


def begun(task: Task, transforms: Float[np.ndarray, "s q p"], g: Any = None) -> Descent:
    """Starts at transforms; from potentials that are near those of an optimum, if given."""
    s, _, p = transforms.shape
    near = g is not None
    return Descent(
        transforms=np.asarray(transforms, np.float64),
        f=jax.device_put(np.zeros((s, len(task.a)), task.a.dtype)),
        g=g if near else jax.device_put(np.zeros((s, len(task.b)), task.b.dtype)),
        cross=np.zeros_like(transforms),
        second=np.zeros((s, p, p)),
        error=np.full(s, 0.0 if near else 1.0),
        change=np.full(s, np.inf),
        dual=np.full(s, -np.inf),
        steps=np.zeros(s, int),
        met=np.arange(s),
    )


def descend(
    task: Task, at: Descent, schedule: Schedule, way: Way, going: Bool[np.ndarray, " s"]
) -> Descent:
    """Alternate, with the starts that are `going`, until none changes by more than the
    tolerance."""
    temperature, apart = schedule.hottest * schedule.epsilon, np.inf
    for _ in range(schedule.max_steps):
        temperature = max(temperature, schedule.epsilon)
        cold = temperature <= schedule.epsilon
        at = _stepped(task, at, going, temperature, schedule, way, 1.0 if cold else 0.0)
        if not np.isfinite(at.change[going]).all():
            break
        if cold:
            met, apart = _meetings(at, going, apart)
            at = at._replace(met=met)
            settled = np.maximum(at.change, at.error) <= schedule.tolerance
            going = going & ~settled & (met == np.arange(len(met)))
        if not going.any():
            break
        temperature *= schedule.cooling
    return _with_partners(at)


def completed(
    task: Task,
    at: Descent,
    epsilon: float,
    tolerance: float,
    max_steps: int,
    way: Way,
    going: Bool[np.ndarray, " s"],
) -> Descent:
    """The couplings of the transforms themselves, with their marginals met."""
    rounds = 0
    while True:
        at = _swept(task, at, going, epsilon, _ROUND, way)
        going, rounds = going & (at.error > tolerance), rounds + 1
        if not going.any() or _ROUND * rounds >= max_steps:
            return at


# Iterations between two looks at the marginals.
_ROUND = 20


def objectives(task: Task, at: Descent) -> Float[np.ndarray, " s"]:
    """The objective of each start, with the entropy, at its transform: what descends. By duality,
    so that it is low, by little, where marginals are not yet met."""
    return at.dual * task.free_mass + np.array([float(task.besides(m)) for m in at.transforms])


def _stepped(task: Task, at: Descent, going, temperature, schedule, way, share) -> Descent:
    """A few iterations, and the transform for the moments they end at."""
    at = _swept(task, at, going, temperature, schedule.inner, way)
    new = _updated(task, at, schedule.step, share)
    change = _relative_change(at.transforms, new)
    return at._replace(
        transforms=np.where(going[:, None, None], new, at.transforms),
        change=np.where(going, change, at.change),
        steps=at.steps + going,
    )


def _swept(task: Task, at: Descent, going, temperature: float, steps: int, way: Way) -> Descent:
    if not at.error[going].max(initial=0.0) <= _FAR:
        way = way.for_far_potentials
    found = turns(task, at.transforms, at.f, at.g, going, temperature, steps, way)
    news = (found.cross, found.second, found.error, found.dual)
    olds, scales = (at.cross, at.second, at.error, at.dual), (*2 * [task.free_mass], 1.0, 1.0)
    cross, second, error, dual = (
        np.where(going.reshape(-1, *[1] * (old.ndim - 1)), scale * np.asarray(new, np.float64), old)
        for new, old, scale in zip(news, olds, scales, strict=True)
    )
    return at._replace(f=found.f, g=found.g, cross=cross, second=second, error=error, dual=dual)


def _meetings(at: Descent, going, apart: Any) -> tuple[Int[np.ndarray, " s"], Any]:
    """Whom each start has met, and how far apart all of them are now."""
    flat = at.transforms.reshape(len(at.steps), -1)
    now = np.linalg.norm(flat[:, None] - flat, axis=-1)
    near = (now <= _MET * np.linalg.norm(flat, axis=-1)) & (now <= apart)
    alone = at.met == np.arange(len(flat))
    earlier = np.tril(near & alone & (going & alone)[:, None], -1)
    return np.where(earlier.any(axis=1), earlier.argmax(axis=1), at.met), now


def _with_partners(at: Descent) -> Descent:
    """Starts that met another end where it ends."""
    end = at.met
    while (end[end] != end).any():
        end = end[end]
    leaves: list[Any] = [chosen(leaf, end) for leaf in at]
    return Descent(*leaves)._replace(steps=at.steps, met=end)


def _updated(task: Task, at: Descent, step: float | None, share: float) -> np.ndarray:
    if step is None:
        return np.asarray(task.transform_for(at.cross, at.second, at.transforms, share))
    slope = at.cross + task.pinned.cross
    if task.squared:
        slope = slope - at.transforms @ (at.second + task.pinned.second)
    return np.asarray(task.regularizer.proximal(at.transforms + step * slope, step))


def _relative_change(old: np.ndarray, new: np.ndarray) -> Float[np.ndarray, " s"]:
    """|M' - M| / |M'|; a transform that has come to zero counts as changing until it is zero."""
    size = np.linalg.norm(new, axis=(-2, -1))
    change = np.linalg.norm(new - old, axis=(-2, -1))
    return np.where(change == 0, 0.0, change / np.where(size > 0, size, 1.0))
