"""Lipschitz constants of activation functions and of their slopes, rounded upwards."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp


# The largest slopes. gelu: the slope Phi(x) + x phi(x) is largest at sqrt(2), 1.128904...; with the
# tanh formula 1.128993...; silu: 1.099839..., and quick gelu is silu(c x) / c with c = 1.702. Each
# of these functions also satisfies |phi(t)| <= |t|.
_SLOPES = {
    "relu": 1.0,
    "relu6": 1.0,
    "tanh": 1.0,
    "gelu": 1.128905,
    "gelu-tanh": 1.128994,
    "silu": 1.09984,
    "quick-gelu": 1.09984,
}

# The largest |phi''| (docs: theory/certificates): 2 phi(0) for gelu, 4 / (3 sqrt 3) for tanh.
_CURVES = {"gelu": 0.797885, "gelu-tanh": 0.798, "silu": 0.5, "tanh": 0.769801, "quick-gelu": 0.851}

# The largest |phi'''| (docs: theory/certificates).
_THIRDS = {"gelu": 0.77877, "gelu-tanh": 0.7769, "silu": 0.3083, "tanh": 2.0, "quick-gelu": 0.8931}

_NAMES: dict[object, str] = {
    jax.nn.relu: "relu",
    jax.nn.relu6: "relu6",
    jax.nn.gelu: "gelu-tanh",
    jax.nn.silu: "silu",
    jax.nn.swish: "silu",
    jax.nn.tanh: "tanh",
    jnp.tanh: "tanh",
}


def activation_slope(activation: Callable) -> float:
    """The Lipschitz constant of an activation that satisfies |phi(t)| <= |t|.

    Raises:
      ValueError: for an activation whose constant is not known here.
    """
    return _SLOPES[activation_name(activation)]


def activation_curve(activation: Callable) -> float:
    """The largest |phi''|; inf for an activation that has corners."""
    return _CURVES.get(activation_name(activation), float("inf"))


def activation_third(activation: Callable) -> float:
    """The largest third derivative; inf for an activation that has corners."""
    return _THIRDS.get(activation_name(activation), float("inf"))


def activation_name(activation: Callable) -> str:
    """The name of an activation; both forms of gelu have their own.

    Raises:
      ValueError: for an activation whose constant is not known here.
    """
    if isinstance(activation, partial) and activation.func is jax.nn.gelu and not activation.args:
        exact = activation.keywords.get("approximate", True) is False
        return "gelu" if exact else "gelu-tanh"
    try:
        name = _NAMES.get(activation) or _names_in_models().get(activation)
    except TypeError:
        name = None
    if name is None:
        raise ValueError(
            f"`activation` must be relu, gelu, silu or tanh of jax.nn for a proved bound; got "
            f"{activation!r}."
        )
    return name


def _names_in_models() -> dict[object, str]:
    """The activations of pretrained models, loaded when one is met."""
    from meanfield.models.activation import gelu, gelu_tanh, quick_gelu

    return {gelu: "gelu", gelu_tanh: "gelu-tanh", quick_gelu: "quick-gelu"}
