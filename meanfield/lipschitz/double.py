"""Functions computed in float64 on the device, whatever the default precision of JAX is.

The scope of `jax.enable_x64` must hold while a function is traced, and again whenever a
transformation takes the trace apart: outside it, float64 would be cut to float32 without an error.
So batching and reverse differentiation, which may come after tracing, have rules that reopen it.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float


def in_double(f: Callable[..., Any], *args: Any) -> Any:
    """f(*args) with every float array of the arguments in float64; the numbers of the result are
    float64s that were rounded upwards to the precision of the arguments.

    Works under `jit`, `vmap` and `grad` (once: no second or forward derivatives).
    """
    arrays, rest = eqx.partition(args, eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    dtype = jnp.result_type(*[x.dtype for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)])

    def plain(*leaves):
        wide = jax.tree.unflatten(tree, [_widened(x) for x in leaves])
        out = f(*eqx.combine(wide, rest))
        return jax.tree.map(lambda x: _upwards(x, dtype), out)

    return _differentiable(plain)(*leaves)


def _differentiable(plain: Callable) -> Callable:
    """`plain` in the scope, with the derivative of `plain` in the scope."""

    def pull(g, *leaves):
        floats = [_is_float(x) for x in leaves]

        def of_floats(*moving):
            rest = iter(moving)
            return plain(
                *[next(rest) if real else x for real, x in zip(floats, leaves, strict=True)]
            )

        moving = [x for real, x in zip(floats, leaves, strict=True) if real]
        return jax.vjp(of_floats, *moving)[1](g)

    @jax.custom_vjp
    def call(*leaves):
        return _scoped(plain)(*leaves)

    def forward(*leaves):
        return call(*leaves), leaves

    def backward(leaves, g):
        found = iter(_scoped(pull)(g, *leaves))
        return tuple(
            next(found) if _is_float(x) else np.zeros(x.shape, jax.dtypes.float0) for x in leaves
        )

    call.defvjp(forward, backward)
    return call


def _scoped(plain: Callable) -> Callable:
    """`plain` traced where float64 exists, and batched there too, however late."""

    def opened(*args):
        with jax.enable_x64(True):
            return plain(*args)

    call = custom_vmap(opened)

    @call.def_vmap
    def _(axis_size, batched, *args):
        axes = tuple(0 if along else None for along in batched)
        out = _scoped(jax.vmap(plain, in_axes=axes, axis_size=axis_size))(*args)
        return out, jax.tree.map(lambda _: True, out)

    return call


def _is_float(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _widened(x: Array) -> Array:
    return x.astype(jnp.float64) if _is_float(x) else x


def _upwards(value: Float[Array, ""], dtype: Any) -> Float[Array, ""]:
    """The value in the dtype, not below itself: three roundings of half an epsilon are made up."""
    if dtype == jnp.float64:
        return value
    value = value.astype(dtype)
    return value + 2 * jnp.finfo(dtype).eps * jnp.abs(value)
