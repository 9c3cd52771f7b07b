"""Lipschitz constants of activation functions: the largest slope, rounded upwards."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp


# gelu: the slope Phi(x) + x phi(x) is largest at sqrt(2), 1.128904...; with the tanh formula
# 1.128993...; silu: 1.099839.... Each of these functions also satisfies |phi(t)| <= |t|.
_GELU, _GELU_TANH, _SILU = 1.128905, 1.128994, 1.09984

_SLOPES: dict[object, float] = {
    jax.nn.relu: 1.0,
    jax.nn.relu6: 1.0,
    jax.nn.gelu: _GELU_TANH,
    jax.nn.silu: _SILU,
    jax.nn.swish: _SILU,
    jax.nn.tanh: 1.0,
    jnp.tanh: 1.0,
}


def activation_slope(activation: Callable) -> float:
    """The Lipschitz constant of an activation that satisfies |phi(t)| <= |t|.

    Raises:
      ValueError: for an activation whose constant is not known here.
    """
    if isinstance(activation, partial) and activation.func is jax.nn.gelu and not activation.args:
        exact = activation.keywords.get("approximate", True) is False
        return _GELU if exact else _GELU_TANH
    try:
        return _SLOPES[activation]
    except (KeyError, TypeError):
        raise ValueError(
            f"`activation` must be relu, gelu, silu or tanh of jax.nn for a proved bound; got "
            f"{activation!r}."
        ) from None


# The largest |phi''| (docs: theory/certificates): 2 phi(0) for gelu, 4 / (3 sqrt 3) for tanh.
_CURVES = {"gelu": 0.797885, "gelu-tanh": 0.798, "silu": 0.5, "tanh": 0.769801}

_NAMES: dict[object, str] = {
    jax.nn.relu: "relu",
    jax.nn.relu6: "relu6",
    jax.nn.gelu: "gelu-tanh",
    jax.nn.silu: "silu",
    jax.nn.swish: "silu",
    jax.nn.tanh: "tanh",
    jnp.tanh: "tanh",
}


def activation_name(activation: Callable) -> str:
    """The name of an activation that `activation_slope` knows; both forms of gelu have their own.

    Raises:
      ValueError: for an activation whose constant is not known here.
    """
    slope = activation_slope(activation)
    if isinstance(activation, partial):
        return "gelu" if slope == _GELU else "gelu-tanh"
    return _NAMES[activation]


def activation_curve(activation: Callable) -> float:
    """The largest |phi''|; inf for an activation that has corners."""
    return _CURVES.get(activation_name(activation), float("inf"))
