"""Random clouds whose coordinates and masses are short binary fractions.

Shifts by whole numbers, halves of masses and scales by powers of two are then exact in both
precisions: what a law compares differs by the rounding of the library alone.
"""

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
from law_subject import Subject

from meanfield.measure import ConditionalMeasure, Measure


@dataclass(frozen=True)
class Cloud:
    """Points (n, d) or (s, n, d), weights and base as float64, exact in float32 too."""

    points: np.ndarray
    weights: np.ndarray
    base: np.ndarray | None = None

    def measure(self, dtype: Any) -> Measure | ConditionalMeasure:
        points, weights = jnp.asarray(self.points, dtype), jnp.asarray(self.weights, dtype)
        if self.base is None:
            return Measure(points, weights)
        return ConditionalMeasure(points, weights, jnp.asarray(self.base, dtype))

    def moved(self, shift: Any = 0.0, scale: float = 1.0) -> "Cloud":
        return Cloud((self.points + shift) * scale, self.weights, self.base)


@dataclass(frozen=True)
class Rewriting:
    """The same measure with other atoms: atom j is `share[j]` of atom `origin[j]`, -1 is absent."""

    origin: np.ndarray
    share: np.ndarray
    fill: float
    size: int

    def of(self, cloud: Cloud) -> Cloud:
        absent = self.origin < 0
        points = np.where(absent[:, None], self.fill, cloud.points[..., self.origin, :])
        weights = np.where(absent, 0.0, cloud.weights[..., self.origin] * self.share)
        return Cloud(points, weights, cloud.base)


def rewritings(n: int, rng: np.random.Generator, splits: bool) -> dict[str, Rewriting]:
    """Permuted, with absent atoms among the others, and with atoms split (of two more atoms)."""
    whole, order = np.ones(n), rng.permutation(n)
    found = {"permuted": Rewriting(order, whole, 0.0, n)}
    places = np.sort(rng.choice(n + 1, 2))
    for fill in (np.nan, np.inf, 1e30):
        origin = np.insert(np.arange(n), places, -1)
        found[f"with absent atoms that hold {fill}"] = Rewriting(
            origin, np.ones(n + 2), float(fill), n
        )
    if splits:
        parts = rng.choice(n, 2, replace=n < 2)
        origin, share = np.concatenate([np.arange(n), parts]), np.ones(n + 2)
        for part in set(parts):
            share[origin == part] = 1 / np.sum(origin == part)
        if len(set(parts)) == 2 or n == 1:
            mix = rng.permutation(n + 2)
            found["split"] = Rewriting(origin[mix], share[mix], 0.0, n)
    return found


def masses(rng: np.random.Generator, shape: tuple[int, ...], light: bool) -> np.ndarray:
    """64ths that sum to one along the last axis; if `light`, the second is 2^-20 only."""
    n = shape[-1]
    counts = 1 + rng.multinomial(64 - n, np.full(n, 1 / n), size=shape[:-1])
    weights = counts / 64.0
    if light and n > 1:
        weights[..., 0] += weights[..., 1] - 2.0**-20
        weights[..., 1] = 2.0**-20
    return weights


def cloud(subject: Subject, n: int, trait: str, rng: np.random.Generator) -> Cloud:
    shape = (subject.positions, n, subject.dim) if subject.positions else (n, subject.dim)
    steps = 1 if trait == "ties" else 1024
    points = np.clip(np.round(rng.normal(size=shape) * steps) / steps, -3, 3)
    if trait == "far":
        points[..., 0, :] = 0.0
        points[..., 0, 0] = 2.0**11
    weights = masses(rng, shape[:-1], trait == "light")
    base = masses(rng, (subject.positions,), False) if subject.positions else None
    return Cloud(points, weights, base)


@dataclass(frozen=True)
class Case:
    """The clouds of one draw, and what is left of its randomness."""

    clouds: tuple[Cloud, ...]
    trait: str
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed + 1)

    def measures(self, dtype: Any) -> tuple:
        return tuple(one.measure(dtype) for one in self.clouds)

    def changed(self, change) -> "Case":
        return Case(tuple(change(one) for one in self.clouds), self.trait, self.seed)


def draw(subject: Subject, trait: str, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    clouds = [cloud(subject, n, trait, rng) for n in subject.sizes]
    if subject.positions:
        clouds = [Cloud(one.points, one.weights, clouds[0].base) for one in clouds]
    if trait == "alike" and len(clouds) == 2:
        n, (first, second) = min(subject.sizes), clouds
        points, weights = second.points.copy(), second.weights
        points[..., :n, :] = first.points[..., :n, :]
        points[..., 0, :] += 2.0**-10
        clouds = [first, Cloud(points, weights, second.base)]
    return Case(tuple(clouds), trait, seed)


def cases(subject: Subject, traits: tuple[str, ...] | None = None) -> st.SearchStrategy[Case]:
    return st.builds(
        lambda trait, seed: draw(subject, trait, seed),
        st.sampled_from(traits or subject.traits),
        st.integers(0, 2**31 - 1),
    )
