"""Which problems are solved by conditional gradients in moments, and how they are set up."""

from functools import singledispatch
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from ..measure import Measure
from .cost import AbstractCrossCost, InnerProduct, SignedDistance
from .energy import Conjugate, Distortion
from .entrywise import Ridge
from .features import of_distances, of_products
from .gromov import AbstractDistortion
from .moments import Cloud, cloud, equal_masses
from .problem import AbstractMatchingProblem, CostRegularized, Shared, assembled
from .regularizer import Ridged
from .relaxed import Relaxed
from .task import Data, Task
from .unbalanced import UnbalancedGromovWasserstein


class Relaxation(NamedTuple):
    """A problem as it is solved, and as it is told.

    Attributes:
      relaxed: the problem for couplings of mass one.
      task: the same between points, for the coupling and the maps of the match.
      masses: those of the two measures; ones where masses count as shares; None where the coupling
        has mass one and prices are not quadratic.
      carried: what the coupling is then multiplied by.
      unit: how many times the costs of `relaxed` are the units of the temperature.
    """

    relaxed: Relaxed
    task: Task
    masses: tuple[float, float] | None
    carried: float = 1.0
    unit: float = 1.0


@singledispatch
def relaxation(problem: AbstractMatchingProblem, mu: Measure, nu: Measure) -> Relaxation | None:
    """The problem by moments, or None if alternation solves it."""
    return None


@relaxation.register
def _(problem: UnbalancedGromovWasserstein, mu: Measure, nu: Measure) -> Relaxation:
    if np.isinf(problem.rho).all():
        equal_masses(mu, nu)
    return _of_distortion((mu, nu), problem)


@relaxation.register
def _(problem: AbstractDistortion, mu: Measure, nu: Measure) -> Relaxation | None:
    free = not np.isinf(problem.rho).all()
    if not free and not isinstance(problem.cost, SignedDistance):
        return None
    if problem.known is not None:
        words = "a finite `rho`" if free else "SignedDistance(...)"
        raise ValueError(f"`known` pairs are not taken with {words}; leave them out.")
    if free:
        return _of_distortion((mu, nu), problem, problem.shared, problem.alpha)
    equal_masses(mu, nu)
    found = _of_distortion((mu, nu), problem, problem.shared, problem.alpha)
    return found._replace(masses=(1.0, 1.0), carried=float(mu.mass), unit=2.0)


@relaxation.register
def _(problem: CostRegularized, mu: Measure, nu: Measure) -> Relaxation | None:
    if np.isinf(problem.rho).all() or problem.bounded:
        return None
    if problem.known is not None:
        raise ValueError(
            "`known` pairs are not taken with InnerProduct() and a finite `rho`; leave one out."
        )
    task = problem.task(mu.normalize(), nu.normalize())
    clouds = cloud("mu", mu, problem.center), cloud("nu", nu, problem.center)
    relaxed = Relaxed(
        features=(of_products(clouds[0]), of_products(clouds[1])),
        a=task.a,
        b=task.b,
        data=task.data,
        rho=problem.rho,
        energy=Conjugate(task.regularizer, task.weight),
    )
    return Relaxation(relaxed, task, None)


def _of_distortion(
    measures: tuple[Measure, Measure],
    problem: UnbalancedGromovWasserstein | AbstractDistortion,
    shared: Shared | None = None,
    alpha: float = 1.0,
) -> Relaxation:
    center, rho = problem.center, problem.rho
    clouds = cloud("mu", measures[0], center), cloud("nu", measures[1], center)
    features, signs = _features(clouds, problem.cost)
    steepness = 2.0 if signs is None else 8.0
    task = assembled(
        (measures[0].normalize(), measures[1].normalize()),
        clouds,
        Ridged(Ridge(), 1 / (steepness * alpha)),
        squared=False,
        rho=rho,
        known=None,
        shared=shared,
        alpha=alpha,
        norms=0.0 if signs is None else 2 * alpha,
    )
    data = scaled(task.data, 1 / 2)
    task = eqx.tree_at(
        lambda t: (t.data, t.weight, t.signs), task, (data, 1.0, signs), is_leaf=_absent
    )
    relaxed = Relaxed(
        features=features,
        a=task.a,
        b=task.b,
        data=data,
        rho=rho,
        energy=Distortion((features[0].signs, features[1].signs), alpha, steepness),
    )
    return Relaxation(relaxed, task, (float(measures[0].mass), float(measures[1].mass)))


def _features(clouds: tuple[Cloud, Cloud], cost: AbstractCrossCost) -> tuple[Any, Any]:
    """The features of both clouds, and the signs of squared norms if these are part of the cost."""
    if isinstance(cost, InnerProduct):
        return (of_products(clouds[0]), of_products(clouds[1])), None
    dims = [c.points.shape[1] for c in clouds]
    signs = (np.ones(dims[0]), np.ones(dims[1]))
    if isinstance(cost, SignedDistance):
        signs = cost.x, cost.y
        if [len(s) for s in signs] != dims:
            raise ValueError(
                f"`SignedDistance` must have a sign for each coordinate, {dims[0]} and {dims[1]}; "
                f"got {len(signs[0])} and {len(signs[1])}."
            )
    return tuple(of_distances(c, s) for c, s in zip(clouds, signs, strict=True)), signs


def scaled(data: Data, factor: float) -> Data:
    """Data with all costs multiplied."""
    return Data(
        rows=factor * data.rows,
        cols=data.cols,
        alpha=factor * data.alpha,
        beta=factor * data.beta,
        table=None if data.table is None else factor * data.table,
    )


def _absent(leaf: Any) -> bool:
    return leaf is None
