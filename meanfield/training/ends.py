"""What stands before the first layer and after the last: embeddings and readouts."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.attention import AbstractInContextMap
from meanfield.attention.map import AbstractPointMap
from meanfield.measure import Measure


class Fixed(eqx.Module):
    """A map whose arrays are not trained: it acts as `module` and passes no gradient to it.

    Args:
      module: a map of points, `(d,) -> (e,)`, or of measures.
    """

    module: Callable[..., Any]


class Pooled(eqx.Module):
    r"""A map from a measure of tokens to one point, $\int f\, d\mu / \mu(1)$: a readout.

    Args:
      module: f, from (d,) to (e,).
    """

    module: Callable[..., Any]


def act(f: Callable[..., Any], x: Float[Array, " d"] | Measure) -> Any:
    """f at a point or at a measure: a map of points acts on a measure by pushforward."""
    if isinstance(f, Fixed):
        return act(_without_gradient(f.module), x)
    if isinstance(f, Pooled):
        if not isinstance(x, Measure):
            raise TypeError(
                "`Pooled` reads a Measure of tokens; got a point. Use its module alone."
            )
        return _pooled(f, x)
    if isinstance(x, Measure):
        return f(x) if isinstance(f, AbstractInContextMap) else x.pushforward(f)
    return f.point(x) if isinstance(f, AbstractPointMap) else f(x)


def _without_gradient(module: Any) -> Any:
    arrays, rest = eqx.partition(module, eqx.is_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def _pooled(f: Pooled, mu: Measure) -> Float[Array, " e"]:
    image = act(f.module, mu)
    seen = jnp.where(image.present[:, None], image.points, 0)
    return mu.normalize().weights @ seen
