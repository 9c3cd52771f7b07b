"""The core of a measure: the half of its mass next to its median, where starts ignore outliers."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .features import Features
from .moments import Moments
from .relaxed import Relaxed


class Core(NamedTuple):
    """A problem between the cores of both measures.

    Attributes:
      task: the problem, with no mass outside of the cores.
      moments: the second moments of both cores about their means.
      kept: the shares of the masses that the cores hold.
    """

    task: Relaxed
    moments: Moments
    kept: tuple[float, float]


def core_of(task: Relaxed) -> Core:
    """The problem between the cores."""
    (x, y), weights = (
        task.features,
        (np.asarray(task.a, np.float64), np.asarray(task.b, np.float64)),
    )
    first, second = _core(x, weights[0]), _core(y, weights[1])
    shares = tuple(jnp.asarray(w / w.sum(), task.a.dtype) for w in (first, second))
    cores = eqx.tree_at(lambda t: (t.a, t.b), task, shares)
    kept = first.sum() / weights[0].sum(), second.sum() / weights[1].sum()
    return Core(cores, Moments(_moment(x, first), _moment(y, second)), kept)


def _core(features: Features, weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    points = _points(features)
    median = np.array([_median(column, weights) for column in points.T])
    distance = np.sum((points - median) ** 2, axis=1)
    return np.where(distance <= _median(distance, weights), weights, 0.0)


def _median(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulated, cumulated[-1] / 2)])


def _moment(features: Features, weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, "d d"]:
    points, shares = _points(features), weights / weights.sum()
    points = points - shares @ points
    return (points.T * shares) @ points


def _points(features: Features) -> Float[np.ndarray, "n d"]:
    return features.values[:, -features.dim :] / features.scale
