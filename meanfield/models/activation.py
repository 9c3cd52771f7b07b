"""The activations of pretrained models by the names that config.json gives them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""$x\, \Phi(x)$ with the exact normal distribution function."""
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""The approximation of `gelu` by a hyperbolic tangent."""
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""$x / (1 + e^{-1.702 x})$."""
    return x * jax.nn.sigmoid(1.702 * x)


def silu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""$x / (1 + e^{-x})$."""
    return jax.nn.silu(x)


def relu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""$\max(x, 0)$."""
    return jax.nn.relu(x)


def tanh(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""$\tanh x$."""
    return jnp.tanh(x)


# plain module-level functions: equal layers are equal programs and compile once, and they pickle
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": tanh,
}
