r"""Conditional gradients in moments: energies that are not concave, marginals that are free.

Minimises $J(Q) = E(Q) + \langle D, Q \rangle + \rho_1 \mathrm{KL}(Q_1 | a) + \rho_2 \mathrm{KL}(Q_2
| b) + \varepsilon \mathrm{KL}(Q | a b^\top)$ over couplings of mass one, where E is a quadratic
function of moments. Each step solves the transport problem of the linearised energy, and goes
towards its coupling as far as a quadratic upper bound of J falls (theory page).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .descent import Schedule
from .energy import AbstractEnergy, Slopes, State
from .features import Features
from .task import Data
from .unit_mass import Reached, UnitMass, iterated


# Errors of the marginals (of at most two) above which potentials may have far to go.
_FAR = 0.5


class Relaxed(eqx.Module):
    """The problem between the features of two measures.

    Attributes:
      features: of both, on the host.
      a, b: the weights as shares.
      data: the part of the cost that does not depend on the coupling.
      rho: the prices of both marginals, infinite where they are fixed.
      energy: E.
    """

    features: tuple[Features, Features]
    a: Float[Array, " n"]
    b: Float[Array, " m"]
    data: Data
    rho: tuple[float, float]
    energy: AbstractEnergy

    def problem(self, slopes: Slopes, epsilon: float, rho: tuple[float, float]) -> UnitMass:
        """The transport problems of linear costs, a batch."""
        dtype, data, (x, y) = self.a.dtype, self.data, (f.values for f in self.features)
        u = x @ np.swapaxes(slopes.transform, 1, 2)
        alpha, beta = _quadratic(x, slopes.first), _quadratic(y, slopes.second)
        fixed = jnp.broadcast_to(data.rows, (len(u), *data.rows.shape))
        return UnitMass(
            u=jnp.concatenate([jnp.asarray(u, dtype), fixed], axis=-1),
            alpha=jnp.asarray(alpha, dtype) + data.alpha,
            beta=jnp.asarray(beta, dtype) + data.beta,
            v=jnp.concatenate([jnp.asarray(y, dtype), data.cols], axis=-1),
            table=data.table,
            weights=(self.a, self.b),
            rho=(jnp.asarray(rho[0], dtype), jnp.asarray(rho[1], dtype)),
            epsilon=jnp.asarray(epsilon, dtype),
            points=jnp.concatenate([jnp.asarray(x, dtype), data.rows], axis=-1),
        )

    def state(self, found: Reached) -> State:
        """The moments of couplings that were found."""
        (x, y), data = (f.values for f in self.features), self.data
        cross, sent, received = (
            np.asarray(array, np.float64) for array in (found.cross, found.sent, found.received)
        )
        q, p = y.shape[1], x.shape[1]
        shared = np.trace(cross[:, q:, p:], axis1=1, axis2=2)
        offsets = sent @ np.asarray(data.alpha) + received @ np.asarray(data.beta)
        paid = [
            0.0 if np.isinf(r) else r * np.asarray(lost, np.float64)
            for r, lost in zip(self.rho, found.lost, strict=True)
        ]
        return State(
            cross=cross[:, :q, :p],
            first=np.swapaxes(x * sent[..., None], 1, 2) @ x,
            second=np.swapaxes(y * received[..., None], 1, 2) @ y,
            data=offsets - shared + np.asarray(found.table, np.float64),
            lost=paid[0] + paid[1] + np.zeros(len(cross)),
            entropy=np.asarray(found.entropy, np.float64),
        )

    def objective(self, state: State, epsilon: float) -> Float[np.ndarray, " s"]:
        """J, at couplings whose divergences the state holds."""
        return self.energy.value(state) + _linear(state, epsilon)

    def at(self, rows: Any, cols: Any) -> "Relaxed":
        """The problem between samples of the atoms, with equal weights; None for all of them."""
        x, y = self.features
        rows, a = _drawn(rows, self.a)
        cols, b = _drawn(cols, self.b)
        return Relaxed(
            features=(x._replace(values=x.values[rows]), y._replace(values=y.values[cols])),
            a=a,
            b=b,
            data=self.data.at(rows, cols),
            rho=self.rho,
            energy=self.energy,
        )


class Course(NamedTuple):
    """Where a batch of starts has come to: the moments `about` which the energy was linearised, the
    linear costs, their couplings with their own moments `state`, by what share of itself the
    cross-moment changes from `about` to `state`, and the steps taken."""

    about: State
    slopes: Slopes
    found: Reached
    state: State
    change: Float[np.ndarray, " s"]
    steps: int

    @property
    def error(self) -> Float[np.ndarray, " s"]:
        return np.asarray(self.found.error, np.float64)

    def one(self, k: int) -> "Course":
        """The course of one start, as a batch of one."""
        batch = self._replace(steps=np.zeros(1))
        return jax.tree.map(lambda leaf: leaf[k : k + 1], batch)._replace(steps=self.steps)


def descend(
    task: Relaxed,
    slopes: Slopes,
    schedule: Schedule,
    *,
    keep: bool,
    part: "Relaxed | None" = None,
    kept: tuple[float, float] = (1.0, 1.0),
) -> Course:
    """From the coupling of a linear cost, with its marginals fixed, to a stationary one; where a
    `part` of the masses is given, the shares `kept` of them, from the coupling of these."""
    temperature, steps, inf = schedule.hottest * schedule.epsilon, 0, (np.inf, np.inf)
    g = jnp.zeros((len(slopes.transform), len(task.b)), task.b.dtype)
    first = task if part is None else part
    found = _iterated(first.problem(slopes, temperature, inf), g, 5 * schedule.inner, False)
    state = _of_all(task, task.state(found), kept)
    while True:
        temperature = max(temperature, schedule.epsilon)
        cold = temperature <= schedule.epsilon
        energy = task.energy if cold else task.energy.warm
        slopes = energy.slopes(state)
        problem = task.problem(slopes, temperature, task.rho)
        near = keep and bool(np.max(found.error) <= _FAR)
        found = _iterated(problem, found.g, schedule.inner, near)
        new = task.state(found)
        moved = State(*(after - before for after, before in zip(new, state, strict=True)))
        change, steps = _relative(moved.cross, new.cross), steps + 1
        course = Course(state, slopes, found, new, change, steps)
        length = _length(energy, slopes, moved, temperature)
        # a state below the least linear cost is of no coupling: its marginals were not met
        impossible = (length == 0) & (course.error <= schedule.tolerance)
        state = _towards(state, moved, np.where(impossible, 1.0, length))
        settled = bool((np.maximum(change, course.error) <= schedule.tolerance).all())
        if (cold and settled) or steps >= schedule.max_steps or not np.isfinite(change).all():
            return course
        temperature *= schedule.cooling


def completed(
    task: Relaxed, course: Course, epsilon: float, tolerance: float, max_steps: int, *, keep: bool
) -> Course:
    """The same linear costs, with the marginals of their couplings met."""
    problem, rounds = task.problem(course.slopes, epsilon, task.rho), 0
    found = course.found
    while not bool((np.asarray(found.error) <= tolerance).all()) and 20 * rounds < max_steps:
        near = keep and bool(np.max(found.error) <= _FAR)
        found, rounds = _iterated(problem, found.g, 20, near), rounds + 1
    return course._replace(found=found, state=task.state(found))


def _of_all(task: Relaxed, state: State, kept: tuple[float, float]) -> State:
    """The state of couplings of parts, with divergences to all of the masses."""
    logs = -np.log(kept)
    prices = np.where(np.isinf(task.rho), 0.0, task.rho)
    return state._replace(lost=state.lost + prices @ logs, entropy=state.entropy + logs.sum())


def _iterated(problem: UnitMass, g: Float[Array, "s m"], steps: int, keep: bool) -> Reached:
    return iterated(problem, g, jnp.asarray(steps), keep)


def _drawn(rows: Any, weights: Array) -> tuple[Any, Array]:
    if rows is None:
        return np.arange(weights.size), weights
    return rows, jnp.full(len(rows), 1 / len(rows), weights.dtype)


def _length(
    energy: AbstractEnergy, slopes: Slopes, moved: State, epsilon: float
) -> Float[np.ndarray, " s"]:
    """The step in [0, 1] that lowers the quadratic upper bound most."""
    slope, bend = slopes.at(moved) + _linear(moved, epsilon), energy.bend(moved)
    curved = bend > 0
    best = np.where(curved, -slope / np.where(curved, 2 * bend, 1.0), 1.0)
    return np.where(slope < 0, np.minimum(best, 1.0), 0.0)


def _linear(state: State, epsilon: float) -> Float[np.ndarray, " s"]:
    return state.data + state.lost + epsilon * state.entropy


def _towards(state: State, moved: State, length: np.ndarray) -> State:
    return State(
        *(
            before + length.reshape(-1, *[1] * (change.ndim - 1)) * change
            for before, change in zip(state, moved, strict=True)
        )
    )


def _relative(moved: np.ndarray, new: np.ndarray) -> Float[np.ndarray, " s"]:
    size = np.linalg.norm(new, axis=(-2, -1))
    return np.linalg.norm(moved, axis=(-2, -1)) / np.where(size > 0, size, 1.0)


def _quadratic(x: np.ndarray, form: np.ndarray) -> np.ndarray:
    """The values of quadratic forms at points, shape (s, n)."""
    return np.sum((x @ form) * x, axis=-1)
