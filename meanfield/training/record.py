"""What a training run writes down from time to time: one row of numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .distance import index_layer_distances, layer_distances
from .ends import act
from .landscape import polyak_lojasiewicz
from .loss import Data
from .method import AbstractMethod, apart
from .problem import TrainingProblem
from .resnet import MeanFieldResNet
from .steps import FlowState, ratio_of


Row = dict[str, np.ndarray]

_SMALL = 256  # rows of a kernel whose eigenvalues take milliseconds


class Record(eqx.Module):
    """What is recorded, besides what costs no more than a step.

    Args:
      certificate: whether to compute the certified lower bound on the ratio (see
        `polyak_lojasiewicz`): by default where its kernels have at most 256 rows, one for each
        coordinate of each example; with True always.
      distance: whether to compute distances to the start exactly: an assignment of M particles in
        each layer. Otherwise `distance` is NaN, and `index_distance` an upper bound on it.
      particles: whether to keep the particles themselves: L M p numbers a row.
    """

    certificate: bool | None = eqx.field(default=None, static=True)
    distance: bool = eqx.field(default=True, static=True)
    particles: bool = eqx.field(default=False, static=True)


def row_of(
    problem: TrainingProblem,
    method: AbstractMethod,
    state: FlowState,
    start: PyTree,
    data: Data,
    wanted: Record,
    least_before: float,
) -> Row:
    """The numbers of one record; the risk and the slope are those on all data.

    Args:
      least_before: the least ratio of the records before.
    """
    value, slope, index_layers, ends = _measured(problem, state.trained, start, data)
    net, first = problem.net(state.trained), problem.net(start)
    step = np.nan if method.duration is None else np.asarray(method.duration)
    row = {
        "steps": state.step,
        "times": step * np.asarray(state.step),
        "risk": value,
        "slope": slope,
        "path_length": state.path_length,
        "least_ratio": jnp.minimum(
            jnp.minimum(state.least_ratio, least_before), ratio_of(slope**2, value)
        ),
        "evaluations": state.evaluations,
        "unsettled": state.unsettled,
        "index_distance": _total(net.params.base, index_layers, ends),
        "distance": np.nan,
        "layer_distance": np.full(net.depth, np.nan),
        "certified": np.nan,
    }
    finite = bool(np.isfinite(value) & np.isfinite(row["index_distance"]))
    certified = _certifiable(net, data) if wanted.certificate is None else wanted.certificate
    if finite and certified:
        found = polyak_lojasiewicz(net, problem.loss, data)
        row["certified"] = np.fmax(found.certified, found.certified_outer)
    if finite and wanted.distance:
        layers = layer_distances(net.params, first.params)
        row |= {"distance": _total(net.params.base, layers, ends), "layer_distance": layers}
    if wanted.particles:
        row["particles"] = net.params.points
    return {name: np.asarray(entry) for name, entry in row.items()}


def _certifiable(net: MeanFieldResNet, data: Data) -> bool:
    """Whether the kernels of the certificate are small: they have a row for each number of x_0."""
    first = jax.eval_shape(jax.vmap(lambda x: act(net.embedding, x)), data[0])
    return jax.tree.leaves(first)[0].size <= _SMALL


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
