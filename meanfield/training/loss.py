"""Losses of one example, and their mean over a data set: the risk."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree, Shaped

from meanfield.measure import Measure

from .resnet import MeanFieldResNet


Loss = Callable[[Any, Any], Float[Array, ""]]
Data = tuple[PyTree, PyTree]


class SquaredError(eqx.Module):
    r"""$\ell(z, y) = \frac12 |z - y|^2$; for a measure of tokens
    $\frac12 \sum_i w_i |z_i - y_i|^2$."""

    def __call__(
        self, prediction: Float[Array, "*d"] | Measure, target: Shaped[Array, "..."]
    ) -> Float[Array, ""]:
        points = prediction.points if isinstance(prediction, Measure) else prediction
        target = _alike(points, target)
        if not isinstance(prediction, Measure):
            return jnp.sum(jnp.square(prediction - target)) / 2
        seen = prediction.present[:, None]
        gaps = jnp.where(seen, jnp.where(seen, prediction.points, 0) - target, 0)
        return prediction.weights @ jnp.sum(jnp.square(gaps), axis=-1) / 2


class CrossEntropy(eqx.Module):
    r"""$\ell(z, y) = \log \sum_c e^{z_c} - z_y$ for a class y, and
    $\log \sum_c e^{z_c} - \langle y, z \rangle$ for a vector y of probabilities; NaN for a class
    that is none of those of the prediction."""

    def __call__(
        self, prediction: Float[Array, " c"], target: Shaped[Array, "..."]
    ) -> Float[Array, ""]:
        whole = jax.nn.logsumexp(prediction)
        if is_label(target):
            known = (target >= 0) & (target < prediction.size)
            return jnp.where(known, whole - prediction[jnp.where(known, target, 0)], jnp.nan)
        target = _alike(prediction, target, " or whole numbers of shape ()")
        return whole - jnp.sum(jnp.where(target == 0, 0, target * prediction))


def is_label(target: Array) -> bool:
    """Whether a target is one whole number, a class."""
    return jnp.ndim(target) == 0 and jnp.issubdtype(jnp.result_type(target), jnp.integer)


def _alike(prediction: Array, target: Array, otherwise: str = "") -> Array:
    """The target in the precision of the prediction.

    Raises:
      ValueError: it has another shape, which would be repeated along the missing axes.
    """
    if jnp.shape(target) != prediction.shape:
        raise ValueError(
            f"targets must have the shape {prediction.shape} of the predictions{otherwise}; got "
            f"{jnp.shape(target)}. Reshape the targets, or give `net` a readout of their size."
        )
    return jnp.asarray(target).astype(prediction.dtype)


def risk(net: MeanFieldResNet, loss: Loss, data: Data) -> Float[Array, ""]:
    r"""The risk $\frac1N \sum_i \ell(\mathrm{net}(x_i), y_i)$.

    Args:
      net: the network.
      loss: a function of one prediction and one target; `SquaredError()`, `CrossEntropy()`, or any.
      data: (x, y), inputs and targets, each an array (or pytree) whose leading axis counts the N
        examples.

    Raises:
      ValueError: x and y do not have the same number of examples, targets do not have the shape of
        the predictions, or (checked outside `jax.jit`) labels are not among the classes.
    """
    check_labels(net, loss, data)
    return _risk(net, loss, data)


def check_labels(net: MeanFieldResNet, loss: Loss, data: Data) -> None:
    """Raises ValueError for classes that no prediction has, where their values are known."""
    x, y = data
    labels = isinstance(loss, CrossEntropy) and jnp.ndim(y) == 1 and is_label(y[0])
    if not labels or isinstance(y, Tracer):
        return
    classes = jax.eval_shape(net.outputs, x).shape[-1]
    strange = np.unique(np.asarray(y)[(np.asarray(y) < 0) | (np.asarray(y) >= classes)])
    if len(strange):
        raise ValueError(
            f"`data` must have labels from 0 to {classes - 1}, one less than the size of the "
            f"predictions; got {', '.join(map(str, strange[:5]))}."
        )


@eqx.filter_jit
def _risk(net: MeanFieldResNet, loss: Loss, data: Data) -> Float[Array, ""]:
    x, y = data
    examples = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves((x, y))}
    if len(examples) != 1:
        raise ValueError(
            "`data` must be (x, y) with one leading axis for the examples, of the same length in "
            f"both; got lengths {sorted(examples)}."
        )
    return jnp.mean(jax.vmap(loss)(net.outputs(x), y))
