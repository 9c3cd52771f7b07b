r"""How far networks of one shape are from each other: $d^2 = \sum_k h_k W_2^2(\mu_k, \nu_k)$."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.measure import ConditionalMeasure
from meanfield.transport import Exact, PowerCost, optimal_transport


@eqx.filter_jit
def layer_distances(mu: ConditionalMeasure, nu: ConditionalMeasure) -> Float[Array, " L"]:
    r"""$W_2(\mu_k, \nu_k)$ in each layer k, exactly; zero in layers without mass.

    With the masses h_k of the layers, $\sum_k h_k W_2^2$ is the square of
    `mf.conditional_wasserstein(mu, nu)`.

    Args:
      mu, nu: measures of particles with the same number of layers and the same layer masses.
    """

    def squared(one, other, present):
        kept = [eqx.tree_at(lambda m: m.weights, m, present * m.weights) for m in (one, other)]
        return optimal_transport(kept[0], kept[1], PowerCost(2), Exact()).value

    return jnp.sqrt(jax.vmap(squared)(mu.fibres, nu.fibres, mu.base > 0))


def index_layer_distances(mu: ConditionalMeasure, nu: ConditionalMeasure) -> Float[Array, " L"]:
    r"""$(\sum_j a_{kj} |\theta_{kj} - \theta'_{kj}|^2)^{1/2}$ in each layer k: particle j is paired
    with particle j. Never less than `layer_distances`, cheap, and close to it in training.

    Args:
      mu, nu: measures with the same weights; those of mu are used.
    """
    squares = jnp.sum(jnp.square(mu.points - nu.points), axis=-1)
    return jnp.sqrt(jnp.sum(mu.weights * jnp.where(mu.masses > 0, squares, 0), axis=-1))
