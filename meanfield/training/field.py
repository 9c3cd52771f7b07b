r"""The gradient of the risk for the conditional transport distance (barboni2024).

The flow of a measure down the risk moves each particle against g(k, theta_kj), the derivative of
the first variation; for a network this is the gradient of its parameters divided by their mass.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .ends import act
from .loss import Data, Loss, check_labels, risk
from .resnet import MeanFieldResNet


def gradient_field(net: MeanFieldResNet, loss: Loss, data: Data) -> Float[Array, "L M p"]:
    r"""$g(k, \theta_{kj}) = \frac{1}{h_k a_{kj}} \partial_{\theta_{kj}} \mathrm{risk}$, the
    gradient at each particle; zero at particles without mass.

    With L layers and M particles of equal mass this is L M times the gradient of the parameters.
    Equal to $\frac1N \sum_i D_\theta \psi(\theta_{kj}, x^i_k)^T p^i_{k+1}$ with the adjoint states
    p (`adjoint_field`); it does not change when a particle is split.

    Args:
      net, loss, data: as in `risk`.

    Raises:
      ValueError: the risk is not finite (checked outside `jax.jit`).
    """
    check_labels(net, loss, data)
    value, gradient = _value_and_gradient(net, loss, data)
    check_finite(value)
    return per_mass(gradient, net.params.masses)


def per_mass(gradient: Float[Array, "L M p"], masses: Float[Array, "L M"]) -> Array:
    """The gradient of the parameters divided by the mass of each particle, zero without mass."""
    present = masses > 0
    return jnp.where(present[..., None], gradient / jnp.where(present, masses, 1)[..., None], 0)


def squared_slope(net: MeanFieldResNet, field: Float[Array, "L M p"]) -> Float[Array, ""]:
    r"""$|\partial \mathrm{risk}|^2 = \sum_{kj} h_k a_{kj} |g(k, \theta_{kj})|^2$, the rate at which
    the gradient flow lowers the risk."""
    masses = net.params.masses
    return jnp.sum(jnp.where(masses > 0, masses * jnp.sum(jnp.square(field), axis=-1), 0))


@eqx.filter_jit
def adjoint_field(net: MeanFieldResNet, loss: Loss, data: Data) -> Float[Array, "L M p"]:
    r"""The same field as `gradient_field`, by the recursion of the adjoint states,
    $p_k = p_{k+1} + h_k D F_k(x_k)^T p_{k+1}$, one example at a time."""
    fields = jax.vmap(lambda x, y: _field_of_example(net, loss, x, y))(*data)
    return per_mass(net.params.masses[..., None] * jnp.mean(fields, axis=0), net.params.masses)


@eqx.filter_jit
def first_variation(
    net: MeanFieldResNet, loss: Loss, data: Data, particles: Float[Array, "L K p"]
) -> Float[Array, "L K"]:
    r"""$\frac{\delta\, \mathrm{risk}}{\delta \mu}(k, \theta) = \frac1N \sum_i \langle p^i_{k+1},
    \psi(\theta, x^i_k) \rangle$: how fast the risk grows with mass put into layer k at theta.

    Its gradient in theta is the gradient field, at any theta.

    Args:
      net, loss, data: as in `risk`.
      particles: K of them for each layer, not necessarily those of the network.
    """

    def of_example(x, y):
        before, moves = _along_layers(net, loss, x, y)

        def of_layer(thetas, state, p):
            return jax.vmap(lambda theta: jnp.vdot(p, net.residual.psi(theta, state)))(thetas)

        return jax.vmap(of_layer)(particles, before, moves)

    return jnp.mean(jax.vmap(of_example)(*data), axis=0)


def adjoint_states(net: MeanFieldResNet, loss: Loss, x: Any, y: Any) -> tuple[Any, Any]:
    """The states x_0, ..., x_L of an example, and the gradients p_0, ..., p_L of its loss with
    respect to each of them, stacked along the first axis."""
    states = net.hidden(x)
    last = jax.tree.map(lambda a: a[-1], states)
    p = jax.grad(lambda z: loss(act(net.readout, z), y))(last)

    def back(p, layer):
        state, particles = layer
        _, pull = jax.vjp(lambda z: net.layer(z, particles), state)
        return pull(p)[0], p

    before = jax.tree.map(lambda a: a[:-1], states)
    first, later = jax.lax.scan(back, p, (before, net.layers), reverse=True)
    return states, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)


def check_finite(value: Float[Array, ""]) -> None:
    """Raises ValueError for a risk that is not finite, where its value is known."""
    if not isinstance(value, Tracer) and not np.isfinite(value):
        raise ValueError(
            f"the risk must be finite; got {value}. Look for NaN or infinity in `data` and in the "
            "particles; after a training run, take smaller steps."
        )


@eqx.filter_jit
def _value_and_gradient(net: MeanFieldResNet, loss: Loss, data: Data):
    def of_points(points):
        return risk(net.with_points(points), loss, data)

    return jax.value_and_grad(of_points)(net.params.points)


def _field_of_example(net: MeanFieldResNet, loss: Loss, x: Any, y: Any) -> Float[Array, "L M p"]:
    before, moves = _along_layers(net, loss, x, y)

    def of_layer(particles, state, p):
        return jax.vmap(lambda theta: jax.vjp(net.residual.psi, theta, state)[1](p)[0])(particles)

    return jax.vmap(of_layer)(net.params.points, before, moves)


def _along_layers(net: MeanFieldResNet, loss: Loss, x: Any, y: Any) -> tuple[Any, Array]:
    """What enters each layer, and the gradient with respect to the points that leave it."""
    states, adjoint = adjoint_states(net, loss, x, y)
    moves = getattr(adjoint, "points", adjoint)
    return jax.tree.map(lambda a: a[:-1], states), moves[1:]
