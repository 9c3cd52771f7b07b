"""The layers that look at one point at a time: affine maps, norms, multilayer perceptrons."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .map import AbstractPointMap


class Affine(AbstractPointMap):
    """x -> W x + b, with a weight of shape (e, d) and a bias of shape (e,) or None."""

    weight: Float[Array, "e d"]
    bias: Float[Array, " e"] | None = None

    def point(self, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class LayerNorm(AbstractPointMap):
    r"""$x \mapsto \gamma \odot (x - \bar x) / \sqrt{\mathrm{Var}(x) + \epsilon} + \beta$.

    Args:
      gamma, beta: shape (d,), scale and shift (`beta` may be None).
      epsilon: added to the variance.
    """

    gamma: Float[Array, " d"]
    beta: Float[Array, " d"] | None = None
    epsilon: float = eqx.field(default=1e-5, static=True)

    def point(self, x: Float[Array, "*m d"]) -> Float[Array, "*m d"]:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        y = self.gamma * centred * jax.lax.rsqrt(variance + self.epsilon)
        return y if self.beta is None else y + self.beta


class RMSNorm(AbstractPointMap):
    r"""$x \mapsto \gamma \odot x / \sqrt{|x|^2 / d + \epsilon}$, with gamma of shape (d,)."""

    gamma: Float[Array, " d"]
    epsilon: float = eqx.field(default=1e-5, static=True)

    def point(self, x: Float[Array, "*m d"]) -> Float[Array, "*m d"]:
        return self.gamma * x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + self.epsilon)


class MLP(AbstractPointMap):
    r"""$x \mapsto W_2\, \phi(W_1 x + b_1) + b_2$, or, with a gate,
    $W_2\, (\phi(W_g x + b_g) \odot (W_1 x + b_1)) + b_2$.

    Args:
      weight_in, bias_in: shapes (f, d) and (f,).
      weight_out, bias_out: shapes (e, f) and (e,).
      activation: phi, applied to each coordinate.
      gate, gate_bias: shapes (f, d) and (f,); None for a plain perceptron.
    """

    weight_in: Float[Array, "f d"]
    bias_in: Float[Array, " f"] | None
    weight_out: Float[Array, "e f"]
    bias_out: Float[Array, " e"] | None
    activation: Callable[[Array], Array] = eqx.field(default=jax.nn.gelu, static=True)
    gate: Float[Array, "f d"] | None = None
    gate_bias: Float[Array, " f"] | None = None

    def point(self, x: Float[Array, "*m d"]) -> Float[Array, "*m e"]:
        hidden = Affine(self.weight_in, self.bias_in).point(x)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = self.activation(Affine(self.gate, self.gate_bias).point(x)) * hidden
        return Affine(self.weight_out, self.bias_out).point(hidden)
