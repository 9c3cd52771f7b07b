"""The two sides of a row: attacks that were found, and certificates that no attack exceeds."""

import math
from typing import Any

import jax.random as jr
import numpy as np

from meanfield.attacks import Attack, MassPeeling, TokenShift, attack
from meanfield.lipschitz import certificate_curve
from meanfield.measure import RESULTS, AbstractDomain, Measure

from .bench import Bench
from .constants import finite
from .domains import holds, norm_range, observed_ball
from .record import GlobalBound, Peeling, PeelPoint, RadiusPoint


# Each part of a row has a key of its own, so that one does not depend on whether another is asked.
_PEELING, _SHIFTING, _CERTIFYING = 101, 102, 103


def peeling(bench: Bench) -> Peeling | None:
    """The ratios that fractions of the worst token's mass reach, anywhere in the domain."""

    def measure() -> Peeling:
        name, domain = _domain(bench)
        method = MassPeeling(
            settings.fractions,
            domain,
            starts=settings.attack_starts,
            steps=settings.attack_steps,
        )
        found = attack(bench.attention, bench.mu, method, key=jr.fold_in(bench.key, _PEELING))
        return _peeling(bench, name, domain, found)

    settings = bench.task.settings
    found = bench.attempt("attack", measure, None)
    stalled = [point.fraction for point in found.points if point.stalled] if found else []
    if stalled:
        shown = ", ".join(f"{fraction:g}" for fraction in stalled)
        bench.warn("stalled", f"the search for peeled mass stalled at the fractions {shown}.")
    return found


def _domain(bench: Bench) -> tuple[str, AbstractDomain]:
    """The domain that was asked for, where it exists and holds the measure; else the ball."""
    task, ball = bench.task, ("ball", observed_ball(bench.radius))
    if task.settings.domain == "ball":
        return ball
    domain = norm_range(bench.model, task.layer, task.settings.dtype)
    if domain is None or not holds(domain, bench.mu):
        why = "no norm comes before it" if domain is None else "its input is not of a norm"
        bench.warn("domain", f"peeled mass may go anywhere in the observed ball: {why}.")
        return ball
    return "layernorm", domain


def _peeling(bench: Bench, name: str, domain: AbstractDomain, found: Attack) -> Peeling:
    index, stats = int(found.stats["atom"]), found.stats
    columns = (
        np.ravel(np.asarray(column))
        for column in (
            *(found.ratio, stats["coupling_ratio"]),
            *(found.distance_in, found.distance_out, found.displacement),
        )
    )
    points = tuple(
        PeelPoint(fraction, *map(finite, numbers), stalled=bool(stalled))
        for fraction, stalled, *numbers in zip(
            stats["fractions"], stats["stalled"], *columns, strict=True
        )
    )
    token = bench.task.window.tokens[index]
    return Peeling(index, token, name, float(np.asarray(domain.radius)), points)


def radius_points(bench: Bench, *, attacked: bool, certified: bool) -> tuple[RadiusPoint, ...]:
    """For each radius the ratio that moving tokens reaches, and the constant that is proved."""
    apart = separation(bench.mu)
    radii, found = bench.task.settings.radii if attacked or certified else (), []
    proved = _certificates(bench, radii) if certified else [None] * len(radii)
    for radius, certificate in zip(radii, proved, strict=True):
        moved = bench.attempt("attack", lambda r=radius: _shifted(bench, r), None)
        stalled = moved is not None and not bool(moved.result == RESULTS.successful)
        if stalled:
            bench.warn("stalled", f"the search stalled at the radius {radius:g}.")
        found.append(
            RadiusPoint(
                radius=radius,
                attack=finite(moved.ratio) if attacked and moved is not None else None,
                stalled=stalled,
                certificate=certificate,
                separated=apart > 2 * radius,
            )
        )
    return tuple(found)


def _shifted(bench: Bench, radius: float) -> Attack | None:
    """Tokens moved by at most the radius, together as much as one token moved by all of it."""
    settings = bench.task.settings
    if "attack" not in settings.metrics:
        return None
    masses = np.asarray(bench.mu.masses)
    method = TokenShift(
        budget=radius * math.sqrt(masses[masses > 0].min()),
        max_displacement=radius,
        starts=1,
        steps=max(settings.attack_steps // 4, 1),
    )
    return attack(bench.attention, bench.mu, method, key=jr.fold_in(bench.key, _SHIFTING))


def _certificates(bench: Bench, radii: tuple[float, ...]) -> list[GlobalBound]:
    def measure() -> list[GlobalBound]:
        key = jr.fold_in(bench.key, _CERTIFYING)
        bounds = certificate_curve(bench.attention, bench.mu, radii, key=key)
        return [GlobalBound(finite(b.log_value / np.log(10)), b.theorem) for b in bounds]

    return bench.attempt("certificate", measure, [GlobalBound(None, None)] * len(radii))


def separation(mu: Any) -> float:
    """The smallest distance between two different atoms of one measure (of one position)."""
    atoms = [mu] if isinstance(mu, Measure) else []
    if not atoms and mu.points.shape[1] == 1:
        return math.inf  # a token at each position: nothing to exchange
    points, masses = np.asarray(mu.points, np.float64), np.asarray(mu.masses)
    each = zip(points[None] if atoms else points, masses[None] if atoms else masses, strict=True)
    return min((_nearest(x[a > 0]) for x, a in each), default=math.inf)


def _nearest(x: np.ndarray) -> float:
    squared = np.sum(x**2, axis=1)
    far = squared[:, None] + squared[None] - 2 * x @ x.T
    # equal atoms are one atom that was split; rounding makes their distance tiny, not zero
    far[far <= 1e-12 * max(squared.max(initial=0.0), 1e-300)] = np.inf
    return math.sqrt(far.min(initial=np.inf))
