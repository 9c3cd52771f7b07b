"""Random networks of every kind with masses that differ, and data for them."""

import jax
import jax.numpy as jnp
import jax.random as jr

from meanfield.measure import ConditionalMeasure, Measure
from meanfield.training import (
    AttentionHeads,
    DeepLinear,
    LinearInFeatures,
    MeanFieldResNet,
    RandomFeatures,
    SingleHiddenLayer,
)


DIM = 2
RESIDUALS = {
    "hidden-layer": SingleHiddenLayer(outer=1.0),
    "linear": LinearInFeatures(RandomFeatures.random(DIM, 6, key=jr.key(5)), outer=1.0),
    "deep-linear": DeepLinear(outer=1.0),
    "heads": AttentionHeads(2, value_size=3, outer=1.0),
}


def random_net(key, kind="hidden-layer", depth=3, width=4, **extra):
    """Layers and particles of different masses that do not sum to one."""
    points_key, weights_key, base_key = jr.split(key, 3)
    net = MeanFieldResNet.random(
        dim=DIM, depth=depth, width=width, key=points_key, residual=RESIDUALS[kind], **extra
    )
    weights = jax.nn.softmax(jr.normal(weights_key, (depth, width)), axis=-1)
    base = jnp.exp(jr.normal(base_key, (depth,))) / depth
    return net.with_params(ConditionalMeasure(net.params.points, weights, base))


def random_data(key, kind="hidden-layer", n=5):
    """n points with targets; for heads n measures of three tokens of different masses."""
    x_key, y_key, w_key = jr.split(key, 3)
    shape = (n, 3, DIM) if kind == "heads" else (n, DIM)
    x, y = jr.normal(x_key, shape), jr.normal(y_key, shape)
    return (Measure(x, jax.nn.softmax(jr.normal(w_key, (n, 3)))) if kind == "heads" else x), y


def random_pair(kind, key):
    net_key, data_key = jr.split(key)
    return random_net(net_key, kind), random_data(data_key, kind)


def written_otherwise(mu: ConditionalMeasure) -> ConditionalMeasure:
    """The same measure: particles reversed, each written twice, absent ones and layers added."""
    points, weights = (jnp.repeat(a[:, ::-1], 2, axis=1) for a in (mu.points, mu.weights / 2))
    absent = ((0, 0), (0, 2), (0, 0))
    points = jnp.pad(points, absent, constant_values=jnp.nan)
    return ConditionalMeasure(points, jnp.pad(weights, absent[:2]), mu.base).pad(4)
