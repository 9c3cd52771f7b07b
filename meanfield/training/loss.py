"""Losses of one example, and their mean over a data set: the risk."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from meanfield.measure import Measure

from .resnet import MeanFieldResNet


Loss = Callable[[Any, Any], Float[Array, ""]]
Data = tuple[PyTree, PyTree]


class SquaredError(eqx.Module):
    r"""$\ell(z, y) = \frac12 |z - y|^2$; for a measure of tokens
    $\frac12 \sum_i w_i |z_i - y_i|^2$."""

    def __call__(
        self, prediction: Float[Array, "*d"] | Measure, target: Float[Array, "*d"]
    ) -> Float[Array, ""]:
        if not isinstance(prediction, Measure):
            return jnp.sum(jnp.square(prediction - target)) / 2
        seen = prediction.present[:, None]
        gaps = jnp.where(seen, jnp.where(seen, prediction.points, 0) - target, 0)
        return prediction.weights @ jnp.sum(jnp.square(gaps), axis=-1) / 2


class CrossEntropy(eqx.Module):
    r"""$\ell(z, y) = \log \sum_c e^{z_c} - z_y$ for a class y, and
    $\log \sum_c e^{z_c} - \langle y, z \rangle$ for a vector y of probabilities."""

    def __call__(
        self, prediction: Float[Array, " c"], target: Int[Array, ""] | Float[Array, " c"]
    ) -> Float[Array, ""]:
        whole = jax.nn.logsumexp(prediction)
        if jnp.issubdtype(target.dtype, jnp.integer):
            return whole - prediction[target]
        return whole - target @ prediction


@eqx.filter_jit
def risk(net: MeanFieldResNet, loss: Loss, data: Data) -> Float[Array, ""]:
    r"""The risk $\frac1N \sum_i \ell(\mathrm{net}(x_i), y_i)$.

    Args:
      net: the network.
      loss: a function of one prediction and one target; `SquaredError()`, `CrossEntropy()`, or any.
      data: (x, y), inputs and targets, each an array (or pytree) whose leading axis counts the N
        examples.

    Raises:
      ValueError: x and y do not have the same number of examples.
    """
    x, y = data
    examples = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves((x, y))}
    if len(examples) != 1:
        raise ValueError(
            "`data` must be (x, y) with one leading axis for the examples, of the same length in "
            f"both; got lengths {sorted(examples)}."
        )
    return jnp.mean(jax.vmap(loss)(net.outputs(x), y))
