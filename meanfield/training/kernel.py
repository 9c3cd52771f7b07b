r"""The tangent kernels of the layers: K_k(x, x') = int D psi(theta, x) D psi(theta, x')^T dmu_k.

The squared slope is the quadratic form of these kernels at the adjoint states (docs:
theory/training), so their smallest eigenvalues say how flat the risk can be.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .residuals.residual import AbstractResidual, absent_at_zero
from .resnet import MeanFieldResNet


BLOCK = 2**22  # numbers of a Jacobian that are held at once


def conditional_kernel(net: MeanFieldResNet, xs: PyTree, layer: int) -> Float[Array, "R R"]:
    r"""$\mathbb{K}_k(x, x') = \sum_j a_{kj} D_\theta\psi(\theta_{kj}, x)\,
    D_\theta\psi(\theta_{kj}, x')^T$ at the states of the examples in one layer.

    Args:
      net: the network.
      xs: the inputs, shape (N, d_in), or a `Measure` of shapes (N, n, d_in).
      layer: k.

    Returns:
      a matrix with R = N d rows (N n d for tokens), examples first, coordinates last.
    """
    states, particles, weights = _of_layer(net, xs, layer)
    return full_gram(net.residual, particles, weights, states)


def outer_kernel(net: MeanFieldResNet, xs: PyTree, layer: int) -> Float[Array, "R R"]:
    r"""$K_u(x, x') = \sum_j a_{kj} \langle f(\theta_{kj}, x), f(\theta_{kj}, x') \rangle$, the part
    of the kernel that comes from the outer weights: $\mathbb{K} \succeq K_u \otimes I_d$.

    For a hidden layer f = sigma(<w, x> + b), and K_u has at most the rank M.

    Args:
      net, xs, layer: as in `conditional_kernel`.

    Returns:
      a matrix with R = N rows (N n for tokens).
    """
    states, particles, weights = _of_layer(net, xs, layer)
    return outer_gram(net.residual, particles, weights, states)


@eqx.filter_jit
def full_gram(
    residual: AbstractResidual,
    particles: Float[Array, "M p"],
    weights: Float[Array, " M"],
    states: PyTree,
) -> Float[Array, "R R"]:
    """The sum of J_j J_j^T over particles, where J_j is the derivative at all states."""

    def rows(theta):
        each = jax.vmap(lambda x: jax.jacrev(residual.psi)(theta, x))(states)
        return each.reshape(-1, theta.size)

    return _gram(rows, particles, weights)


@eqx.filter_jit
def outer_gram(
    residual: AbstractResidual,
    particles: Float[Array, "M p"],
    weights: Float[Array, " M"],
    states: PyTree,
) -> Float[Array, "R R"]:
    """The sum of F_j F_j^T over particles, where F_j are the outer features at all states."""

    def rows(theta):
        each = jax.vmap(lambda x: residual.outer_features(theta, x))(states)
        return each.reshape(-1, each.shape[-1])

    return _gram(rows, particles, weights)


def _gram(rows, particles: Float[Array, "M p"], weights: Float[Array, " M"]) -> Array:
    """The sum of a_j rows(theta_j) rows(theta_j)^T, as few large products as memory allows."""
    particles = absent_at_zero(particles, weights)
    height, width = jax.eval_shape(rows, particles[0]).shape
    block = max(1, min(len(weights), BLOCK // max(height * width, 1)))
    more = -len(weights) % block
    particles = jnp.pad(particles, [(0, more), (0, 0)]).reshape(-1, block, particles.shape[1])
    roots = jnp.sqrt(jnp.pad(weights, (0, more))).reshape(-1, block)

    def add(gram, one):
        thetas, root = one
        side = root[:, None, None] * jax.vmap(rows)(thetas)  # (block, height, width)
        side = jnp.moveaxis(side, 0, 1).reshape(height, -1)
        return gram + side @ side.T, None

    return jax.lax.scan(add, jnp.zeros((height, height), particles.dtype), (particles, roots))[0]


def _of_layer(net: MeanFieldResNet, xs: PyTree, layer: int):
    states = jax.tree.map(lambda a: a[:, layer], jax.vmap(net.hidden)(xs))
    return states, net.params.points[layer], net.params.weights[layer]
