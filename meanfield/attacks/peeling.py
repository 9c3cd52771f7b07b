"""The attack that peels a little mass off one token and sends it anywhere in the domain."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..attention import AbstractInContextMap, AnyMeasure, check_map
from ..measure import AbstractDomain, Measure, check_any_measure
from ..measure.inside import check_inside
from .attack import AbstractAttackMethod, Attack
from .canonical import Canonical, at_least_single, canonical
from .comparison import Comparison
from .distances import distances
from .ending import ending, stalled
from .objective import AbstractObjective, OutputDisplacement, check_objective
from .peeled import PeeledImage, parents, peeled, peeled_image
from .room import norms
from .settings import checked_count, checked_exponent, checked_positive
from .starts import local_start, pulls


class MassPeeling(AbstractAttackMethod):
    r"""Take a fraction of the mass of one token and move it to the point of the domain that makes
    the ratio largest,

    $$\nu = \mu + \varphi a_i (\delta_z - \delta_{x_i}), \qquad
    \max_{z} \frac{W_p(F(\mu), F(\nu))}{W_p(\mu, \nu)}.$$

    One copy among k in a text that repeats a token k times is the fraction 1/k. Fractions are tried
    from the largest to the smallest, each from where the one before ended: from random starts alone
    a search for a small fraction sees a plateau.

    Args:
      fractions: one, or several, in (0, 1]; results keep their order.
      domain: what holds the point z; it must contain mu. Required: without it ratios are unbounded.
      p: 1, 2 or jnp.inf.
      atom: the flat index of the token, in `mu.atoms`; the worst of the local tangent by default.
      max_displacement: the longest move |z - x_i|; no limit by default.
      objective: `OutputDisplacement()` by default. It and `TargetDirection` are made large over the
        distance moved, as in the formula; a `TaskLoss`, which rest does not make zero, by itself.
      starts: random starts, besides those made from the tangent, the atoms and the scores.
      steps: for the largest fraction; the others, which start near, take half as many.

    Raises:
      ValueError: settings out of range.
    """

    fractions: tuple[float, ...]
    domain: AbstractDomain
    p: float
    atom: int | None
    max_displacement: float | None
    objective: AbstractObjective
    starts: int
    steps: int

    def __init__(
        self,
        fractions: float | Sequence[float],
        domain: AbstractDomain,
        p: float | int = 2,
        atom: int | None = None,
        max_displacement: float | int | None = None,
        objective: AbstractObjective = OutputDisplacement(),
        starts: int = 4,
        steps: int = 120,
    ):
        listed = [fractions] if isinstance(fractions, int | float) else list(fractions)
        if not listed or not all(0 < fraction <= 1 for fraction in listed):
            raise ValueError(f"`fractions` must lie in (0, 1], one at least; got {fractions}.")
        self.fractions = tuple(float(fraction) for fraction in listed)
        if not isinstance(domain, AbstractDomain):
            raise ValueError(
                "`domain` must be given, such as mf.Ball(mu.radius): mass that may go anywhere "
                f"moves the output without limit; got {domain!r}."
            )
        self.domain, self.p, self.atom = domain, checked_exponent(p), atom
        self.max_displacement = None
        if max_displacement is not None:
            self.max_displacement = checked_positive("max_displacement", max_displacement)
        self.objective = check_objective(objective)
        self.starts, self.steps = checked_count("starts", starts), checked_count("steps", steps)

    def search(self, f: AbstractInContextMap, mu: AnyMeasure, key: PRNGKeyArray) -> Attack:
        check_map(f)
        check_any_measure(mu=mu)
        f, mu = at_least_single(f), at_least_single(mu)
        plain = canonical(mu, merge=True)
        check_inside(plain.measure, self.domain)
        local_key, start_key = jr.split(key)
        local = local_start(f, plain.measure, splitting=True, key=local_key)
        index = _named_atom(self.atom, mu, plain, local.shares)
        task = _Peel(self, f, plain.measure, jnp.asarray(index))
        curve, targets = [], _targets(self, local, task, start_key)
        for fraction in sorted(set(self.fractions), reverse=True):
            steps = self.steps if not curve else max(self.steps // 2, 1)
            climb = task.climbed(targets, fraction, steps)
            curve.append(_Point(task, fraction, climb, float(local.value)))
            targets = climb.targets
        by_fraction = {point.fraction: point for point in curve}
        return _curve([by_fraction[each] for each in self.fractions], plain, local.value)


class _Peel:
    """One token to peel: the measure, and the compiled searches."""

    def __init__(self, method: MassPeeling, f, mu: AnyMeasure, index: Int[Array, ""]):
        self.method, self.f, self.mu, self.index = method, f, mu, index
        self.image = peeled_image(f, mu, index)

    def climbed(self, targets: Array, fraction: float, steps: int) -> "_Climb":
        log_fraction = jnp.asarray(math.log(fraction), targets.dtype)
        method = self.method
        far = method.max_displacement
        longest = jnp.asarray(jnp.inf if far is None else far, targets.dtype)
        room = _Room(method.domain, longest, self.mu.atoms.points[self.index])
        along = np.arange(steps) / max(steps - 1, 1)
        rates = np.zeros(method.steps)  # of one length, so that one program serves all fractions
        rates[:steps] = 0.1 * (0.02 + 0.98 * (1 + np.cos(np.pi * along)) / 2)
        schedule = jnp.asarray(rates, targets.dtype), jnp.asarray(steps)
        return _climb(self.image, room, method.objective, targets, log_fraction, schedule, method.p)


class _Room(eqx.Module):
    """Where the peeled mass may go."""

    domain: AbstractDomain
    longest: Float[Array, ""]
    origin: Float[Array, " d"]

    def project(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        move = z - self.origin
        far = norms(move)
        cut = self.origin + move * jnp.minimum(1.0, self.longest / jnp.where(far > 0, far, 1.0))
        near = jnp.where(jnp.isfinite(self.longest), cut, z)
        return self.domain.project(near).astype(z.dtype)  # domains may be float64


class _Climb(eqx.Module):
    """The best target of each start and its history; the best of all, the objective there, and what
    the coupling that keeps each part with its atom costs."""

    targets: Float[Array, "starts d"]
    history: Float[Array, "starts steps"]
    best: Int[Array, ""]
    objective: Float[Array, ""]
    coupling: Float[Array, ""]


@eqx.filter_jit
def _climb(image: PeeledImage, room, objective, targets, log_fraction, schedule, p) -> _Climb:
    """Normalised gradient ascent with momentum from each target, over the distance moved if the
    objective vanishes at rest. The schedule: rates, and how many of them are steps."""
    rates, steps = schedule
    mass = jnp.exp(log_fraction) * image.mass
    unit = mass ** (0.0 if math.isinf(p) else 1 / p)

    def compared(z):
        return Comparison(image.before, *image.after(z, log_fraction), p)

    def value(z):
        found = objective(compared(z))
        apart = norms(z - room.origin)
        apart = jnp.where(apart > 0, unit * apart, jnp.inf)
        return found / apart if objective.vanishes_at_rest else found

    def ascend(start):
        def step(k, state):
            z, velocity, best, best_value, history = state
            here, gradient = jax.value_and_grad(value)(z)
            better = here > best_value
            best, best_value = jnp.where(better, z, best), jnp.where(better, here, best_value)
            size = norms(gradient)
            direction = jnp.where(jnp.isfinite(size) & (size > 0), gradient / size, 0.0)
            velocity = 0.8 * velocity + 0.2 * direction
            z = room.project(z + rates[k] * radius * velocity)
            return z, velocity, best, best_value, history.at[k].set(best_value)

        start, radius = room.project(start), room.domain.radius.astype(start.dtype)
        least = jnp.asarray(-jnp.inf, start.dtype)
        state = (start, jnp.zeros_like(start), start, least, jnp.zeros_like(rates))
        _, _, z, best, history = jax.lax.fori_loop(0, steps, step, state)
        return z, best, jnp.where(jnp.arange(rates.size) < steps, history, best)

    targets, values, history = jax.vmap(ascend)(targets)
    best = jnp.argmax(values)
    images = compared(targets[best])
    return _Climb(targets, history, best, objective(images), images.distance)


class _Point:
    """One fraction: the best target, the measure, the exact distances."""

    def __init__(self, task: _Peel, fraction: float, climb: _Climb, local: float):
        method, best = task.method, int(climb.best)
        self.fraction, self.target = fraction, climb.targets[best]
        self.history, self.index = climb.history[best], int(task.index)
        self.measure = peeled(task.mu, task.index, jnp.asarray(fraction), self.target)
        found = distances(task.f, task.mu, self.measure, parents(task.mu, self.index), method.p)
        self.distance_in, self.distance_out = found.before, found.after
        self.displacement = found.displacement
        self.objective = float(climb.objective)
        moved = (fraction * float(task.image.mass)) ** (1 / method.p) * self.displacement
        self.coupling_ratio = float(climb.coupling) / moved if moved > 0 else math.nan
        self.stalled = stalled(
            method.objective,
            task.image.before,
            self.objective,
            np.asarray(climb.history),
            ratio=self.ratio,
            local=local,
        )

    @property
    def ratio(self) -> float:
        """The exact ratio; NaN where nothing moved."""
        return self.distance_out / self.distance_in if self.distance_in > 0 else math.nan


def _curve(points: list[_Point], plain: Canonical, local: Array) -> Attack:
    """The attack of all fractions; without an axis if there is one."""
    dtype, last = local.dtype, points[-1]

    def column(values):
        return jnp.asarray(values[0] if len(values) == 1 else values, dtype)

    ratios = [point.ratio for point in points]
    stops = tuple(point.stalled for point in points)
    return Attack(
        ratio=column(ratios),
        distance_in=column([point.distance_in for point in points]),
        distance_out=column([point.distance_out for point in points]),
        measure=last.measure,
        origin=_origin(plain, last),
        displacement=column([point.displacement for point in points]),
        radius=column([float(point.measure.radius) for point in points]),
        objective=column([point.objective for point in points]),
        local=local,
        history=column([point.history for point in points]),
        result=ending(any(stops), float(local), *ratios, *(point.objective for point in points)),
        stats={
            "fractions": tuple(point.fraction for point in points),
            "atom": int(plain.origin.reshape(-1)[last.index]),
            "targets": jnp.stack([point.target for point in points]),
            "coupling_ratio": column([point.coupling_ratio for point in points]),
            "stalled": stops,
        },
    )


def _origin(plain: Canonical, point: _Point) -> Int[np.ndarray, "*n"]:
    """Of each atom of the peeled measure, the original atom: the new one comes from the peeled."""
    flat = plain.origin.reshape(-1)
    if isinstance(point.measure, Measure):
        return np.append(flat, flat[point.index])
    column = np.full((len(plain.origin), 1), -1)
    column[point.index // plain.origin.shape[1]] = flat[point.index]
    return np.concatenate([plain.origin, column], axis=1)


def _named_atom(atom: int | None, mu: AnyMeasure, plain: Canonical, shares: Array) -> int:
    """The index, in the canonical order, of the atom to peel."""
    if atom is None:
        return int(jnp.argmax(shares.reshape(-1)))
    flat = mu.atoms
    if not 0 <= atom < flat.size or not float(flat.weights[atom]) > 0:
        raise ValueError(
            f"`atom` must be the flat index of an atom with mass, among {flat.size}; got {atom}."
        )
    if isinstance(mu, Measure):
        here = np.asarray(plain.measure.points) == np.asarray(mu.points[atom])
        return int(np.flatnonzero(np.all(here, axis=-1))[0])
    s = atom // mu.points.shape[1]
    here = np.asarray(plain.measure.points[s]) == np.asarray(flat.points[atom])
    here &= plain.origin[s][:, None] >= 0
    return s * plain.origin.shape[1] + int(np.flatnonzero(np.all(here, axis=-1))[0])


def _targets(method: MassPeeling, local, task: _Peel, key) -> Float[Array, "starts d"]:
    """Points to start from: along the tangent, where scores pull, beyond other atoms, at random."""
    mu, origin = task.mu, task.mu.atoms.points[task.index]
    radius = jnp.asarray(method.domain.radius, origin.dtype)
    tangent = local.tangent.reshape(-1, mu.dim)[task.index]
    tangent = tangent / jnp.maximum(norms(tangent), 1e-30)
    reach = radius if method.max_displacement is None else method.max_displacement
    starts = [origin + 0.3 * reach * tangent, origin - 0.3 * reach * tangent]
    starts += [radius * u for u in pulls(task.f, mu)]
    drawn = jr.normal(key, (method.starts, mu.dim), origin.dtype)
    starts += list(radius * drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True))
    return jnp.stack(starts).astype(origin.dtype)
