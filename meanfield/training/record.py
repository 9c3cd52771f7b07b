"""What a training run writes down from time to time: one row of numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .distance import index_layer_distances, layer_distances
from .loss import Data
from .method import AbstractMethod, apart
from .problem import TrainingProblem
from .steps import FlowState


Row = dict[str, np.ndarray]


class Record(eqx.Module):
    """What is recorded, besides what costs no more than a step.

    Args:
      certificate: whether to compute the certified Polyak-Lojasiewicz constant: the eigenvalues of
        one kernel a layer, of the size of the number of examples.
      distance: whether to compute distances to the start exactly: an assignment of M particles in
        each layer. Otherwise `distance` is NaN, and `index_distance` an upper bound on it.
      particles: whether to keep the particles themselves: L M p numbers a row.
    """

    certificate: bool = eqx.field(default=True, static=True)
    distance: bool = eqx.field(default=True, static=True)
    particles: bool = eqx.field(default=False, static=True)


def row_of(
    problem: TrainingProblem,
    method: AbstractMethod,
    state: FlowState,
    start: PyTree,
    data: Data,
    wanted: Record,
) -> Row:
    """The numbers of one record; the risk and the slope are those on all data."""
    value, slope, index_layers, ends = _measured(problem, state.trained, start, data)
    net, first = problem.net(state.trained), problem.net(start)
    step = np.nan if method.step is None else np.asarray(method.step)
    row = {
        "steps": state.step,
        "times": step * np.asarray(state.step),
        "risk": value,
        "slope": slope,
        "path_length": state.path_length,
        "least_ratio": jnp.minimum(state.least_ratio, slope**2 / value),
        "evaluations": state.evaluations,
        "unsettled": state.unsettled,
        "index_distance": _total(net.params.base, index_layers, ends),
        "distance": np.nan,
        "layer_distance": np.full(net.depth, np.nan),
        "certified": np.nan,
    }
    if wanted.distance:
        layers = layer_distances(net.params, first.params)
        row |= {"distance": _total(net.params.base, layers, ends), "layer_distance": layers}
    if wanted.particles:
        row["particles"] = net.params.points
    return {name: np.asarray(entry) for name, entry in row.items()}


@eqx.filter_jit
def _measured(problem: TrainingProblem, trained: PyTree, start: PyTree, data: Data):
    """The risk, the slope, the distance of each layer by index, and the square of the ends'."""
    value, field = problem.risk_and_field(trained, data)
    layers = index_layer_distances(problem.net(trained).params, problem.net(start).params)
    gone = apart(trained, start)
    still = eqx.tree_at(lambda net: net.params.points, gone, replace_fn=jnp.zeros_like)
    return value, jnp.sqrt(problem.squared_length(field)), layers, problem.squared_length(still)


def _total(base, layers, ends) -> jax.Array:
    r"""$(\sum_k h_k d_k^2 + d_{ends}^2)^{1/2}$."""
    return jnp.sqrt(base @ jnp.square(layers) + ends)
