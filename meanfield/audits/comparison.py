"""Two checkpoints of one architecture as measures: layers are positions, heads are particles.

Each layer is a measure of exchangeable particles in coordinates that no gauge can change, and the
models are conditional measures over their layers (docs/theory/model_distance.md).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from meanfield.measure import Measure
from meanfield.models import Layer, ModelError, Transformer
from meanfield.transport import SparseCoupling, optimal_transport

from .clouds import squared_distances
from .comparison_record import COMPARISON_SCHEMA, LayerComparison, ModelComparison
from .head_particles import Heads
from .identity import hashes_of, name_of
from .model_record import model_record
from .particles import AbstractParticles
from .record import Model
from .same_architecture import check_same_architecture


_DRAWN = 128  # up to so many particles all distances are kept
_ROUNDING = 1e-12


def compare_models(
    model_a: Transformer,
    model_b: Transformer,
    particles: AbstractParticles = Heads(),
    *,
    base: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> ModelComparison:
    r"""The distance $\left(\sum_l \theta_l W_2^2(\mu_l, \nu_l)\right)^{1/2}$ between two models.

    $\mu_l, \nu_l$ are the measures of the particles of layer l, each of mass 1/n, in coordinates
    that neither the order of the particles nor a gauge changes; so equal functions written with
    other weights are at distance zero. Matchings are exact (`optimal_transport`), on the host in
    float64.

    Args:
      model_a, model_b: checkpoints of one architecture, as `mf.models.load` gives them.
      particles: `Heads()` or `Neurons()`.
      base: a weight theta for each layer, 1/L by default; a layer of weight zero is left out.
      progress: called with (layers done, layers in all, what was done).

    Raises:
      ModelError: different architectures (the message says what differs), weights that are not
        finite, or a `base` that is not one nonnegative number for each layer.
    """
    check_same_architecture(model_a, model_b)
    theta = _checked(base, len(model_a.layers))
    found, count = [], int(np.count_nonzero(theta))
    for l in np.flatnonzero(theta).tolist():
        one, two = model_a.layers[l], model_b.layers[l]
        found.append(_compare(l, float(theta[l]), particles, one, two))
        if progress is not None:
            progress(len(found), count, f"layer {l}")
    norm = sum(_total(found, [layer.norms[i] for layer in found]) for i in (0, 1)) / 2
    distance = _total(found, [layer.distance for layer in found])
    return ModelComparison(
        schema=COMPARISON_SCHEMA,
        particles=particles.name,
        models=(_record(model_a), _record(model_b)),
        distance=distance,
        index_distance=_total(found, [layer.index_distance for layer in found]),
        relative=distance / norm if norm else 0.0,
        layers=tuple(found),
    )


def _record(model) -> Model:
    hashes = hashes_of(model)
    return model_record(model, name_of(model, hashes), hashes)


def _checked(base: Any, layers: int) -> Float[np.ndarray, " l"]:
    theta = np.full(layers, 1 / layers) if base is None else np.asarray(base, float)
    if theta.shape != (layers,) or not np.all(np.isfinite(theta)) or np.any(theta < 0):
        raise ModelError(
            f"`base` must be {layers} nonnegative numbers, a weight for each layer; got {base}."
        )
    return theta


def _total(layers: Sequence[LayerComparison], values: Sequence[float]) -> float:
    """(sum_l theta_l d_l^2)^(1/2)."""
    return sum(layer.weight * d**2 for layer, d in zip(layers, values, strict=True)) ** 0.5


def _compare(
    l: int, weight: float, particles: AbstractParticles, one: Layer, two: Layer
) -> LayerComparison:
    a, b = particles.cloud(one), particles.cloud(two)
    squared = squared_distances(a, b)
    norms = tuple(_mean_root(cloud.squared_norms) for cloud in (a, b))
    offset = float(np.linalg.norm(particles.offset(one) - particles.offset(two)))
    if not np.all(np.isfinite([*squared.flat, *norms, offset])):
        raise ModelError(f"the weights of layer {l} must be finite; some are NaN or too large.")
    matching = matched(squared)
    moves, n = squared[np.arange(len(matching)), matching], len(matching)
    distance = _mean_root(moves)
    return LayerComparison(
        layer=l,
        weight=weight,
        distance=distance,
        index_distance=_mean_root(np.diagonal(squared)),
        relative=2 * distance / sum(norms) if any(norms) else 0.0,
        norms=norms,
        offset=offset,
        matching=tuple(matching.tolist()),
        moves=tuple(np.sqrt(moves).tolist()),
        distances=tuple(_rows(np.sqrt(squared))) if n <= _DRAWN else None,
    )


def matched(squared: Float[np.ndarray, "n n"]) -> Int[np.ndarray, " n"]:
    """The permutation of least cost: the optimal coupling of equal atoms is at a vertex, which is
    a permutation (Birkhoff). It is the identity wherever that costs no more."""
    n = len(squared)
    largest = squared.max(initial=0.0) or 1.0
    atoms = Measure(jnp.zeros((n, 1)))
    plan = optimal_transport(atoms, atoms, jnp.asarray(squared / largest)).coupling
    assert isinstance(plan, SparseCoupling)  # what `Exact` returns
    rows, cols, masses = (np.asarray(x) for x in (plan.rows, plan.cols, plan.masses))
    chosen = masses > 0.5 / n
    matching = np.arange(n)
    matching[rows[chosen]] = cols[chosen]
    least, in_order = squared[np.arange(n), matching].sum(), np.trace(squared)
    return np.arange(n) if in_order <= least * (1 + _ROUNDING) else matching


def _mean_root(squares: Float[np.ndarray, " n"]) -> float:
    return float(np.sqrt(np.mean(squares)))


def _rows(matrix: Float[np.ndarray, "n n"]) -> Iterator[tuple[float, ...]]:
    return (tuple(row) for row in matrix.tolist())
