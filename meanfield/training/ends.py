"""What stands before the first layer and after the last: embeddings and readouts."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from meanfield.attention import AbstractInContextMap
from meanfield.attention.map import AbstractPointMap
from meanfield.measure import Measure


class Fixed(eqx.Module):
    """A map whose arrays are not trained: it acts as `module` and passes no gradient to it.

    Args:
      module: a map of points, `(d,) -> (e,)`, or of measures.
    """

    module: Callable[..., Any]

    def __call__(self, x: Shaped[Array, "..."] | Measure) -> Any:
        arrays, rest = eqx.partition(self.module, eqx.is_array)
        return act(eqx.combine(jax.lax.stop_gradient(arrays), rest), x)


class Pooled(eqx.Module):
    r"""A map from a measure of tokens to one point, $\int f\, d\mu / \mu(1)$: a readout.

    Args:
      module: f, from (d,) to (e,).

    Raises:
      TypeError: when it is called on a point.
    """

    module: Callable[..., Any]

    def __call__(self, mu: Measure) -> Float[Array, " e"]:
        image = act(self.module, mu)
        seen = jnp.where(image.present[:, None], image.points, 0)
        return mu.normalize().weights @ seen


def act(f: Callable[..., Any], x: Shaped[Array, "..."] | Measure) -> Any:
    """f at a point or at a measure: a map of points acts on a measure by pushforward."""
    if isinstance(x, Measure):
        of_measures = isinstance(f, AbstractInContextMap | Fixed | Pooled)
        return f(x) if of_measures else x.pushforward(f)
    if isinstance(f, Pooled):
        raise TypeError("`Pooled` reads a Measure of tokens; got a point. Use its module alone.")
    return f.point(x) if isinstance(f, AbstractPointMap) else f(x)
