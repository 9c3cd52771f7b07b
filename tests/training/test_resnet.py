"""The mean-field ResNet is a function of a measure, and a plain ResNet where masses are equal."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import as_installed, assert_close
from resnet_problems import RESIDUALS, random_data, random_net, random_pair, written_otherwise

from meanfield.attention import Affine, MultiheadAttention
from meanfield.measure import ConditionalMeasure, Measure
from meanfield.training import (
    AttentionHeads,
    CrossEntropy,
    DeepLinear,
    Fixed,
    LinearInFeatures,
    MeanFieldResNet,
    Pooled,
    RandomFeatures,
    SingleHiddenLayer,
    SquaredError,
    gradient_field,
    risk,
)


every_residual = pytest.mark.parametrize("kind", RESIDUALS)


def test_it_is_a_plain_resnet_with_branches_scaled_by_depth_and_width(key):
    L, M, d = 4, 5, 2
    net = MeanFieldResNet.random(
        dim=d, depth=L, width=M, key=key, residual=SingleHiddenLayer(outer=1.0)
    )
    x = np.array([0.3, -1.2])
    state = x.copy()
    for theta in np.asarray(net.params.points):
        u, w, b = theta[:, :d], theta[:, d : 2 * d], theta[:, 2 * d]
        state = state + sum(u[j] * np.tanh(w[j] @ state + b[j]) for j in range(M)) / (L * M)
    assert_close(net(jnp.asarray(x)), state)
    assert_close(net.hidden(jnp.asarray(x))[-1], state)
    assert (net.depth, net.width) == (L, M)


@pytest.mark.slow
@every_residual
def test_the_drift_is_the_sum_of_psi_over_the_particles(kind, key):
    net, (x, _) = random_pair(kind, key)
    x, thetas, masses = jax.tree.map(lambda a: a[0], (x, *net.layers))
    each = jnp.stack([net.residual.psi(theta, x) for theta in thetas])
    assert_close(net.residual.drift(thetas, masses, x), jnp.tensordot(masses, each, 1))


def test_at_the_usual_start_it_is_the_identity(key):
    for residual in (SingleHiddenLayer(), DeepLinear()):
        net = MeanFieldResNet.random(dim=2, depth=3, width=4, key=key, residual=residual)
        x = random_data(key)[0]
        assert_close(net.outputs(x), x)
    net = MeanFieldResNet.random(dim=2, depth=3, width=4, key=key, residual=AttentionHeads(2))
    mu = random_data(key, "heads")[0]
    assert_close(net.outputs(mu).points, mu.points)


def test_tied_layers_begin_with_the_same_particles(key):
    tied = MeanFieldResNet.random(dim=2, depth=3, width=4, key=key, tied=True).params.points
    free = MeanFieldResNet.random(dim=2, depth=3, width=4, key=key).params.points
    inner = slice(2, None)  # outer weights are zero
    assert jnp.all(tied == tied[0]) and not jnp.any(free[1, :, inner] == free[0, :, inner])


def test_deep_linear_layers_multiply(key):
    net = random_net(key, "deep-linear")
    W = jnp.einsum("kj,kjab->kab", net.params.masses, net.params.points.reshape(3, 4, 2, 2))
    product = (jnp.eye(2) + W[2]) @ (jnp.eye(2) + W[1]) @ (jnp.eye(2) + W[0])
    x = jnp.array([1.0, 2.0])
    assert_close(net(x), product @ x)


@pytest.mark.slow
def test_a_layer_of_heads_is_multihead_attention(key):
    net, (mu, _) = random_net(key, "heads", depth=1), random_data(key, "heads", n=1)
    mu = jax.tree.map(lambda a: a[0], mu)
    Q, K, V, O = jax.vmap(lambda theta: net.residual.head(theta, 2))(net.params.points[0])
    attention = MultiheadAttention(Q, K, V, net.params.masses[0][:, None, None] * O)
    assert_close(net(mu).points, mu.points + attention(mu).points)


def test_frozen_neurons_are_linear_in_features(key):
    """The outer weights alone: LinearInFeatures on the features of the neurons is the same net."""
    d, M = 2, 5
    features = RandomFeatures.random(d, M, key=key)
    u = jr.normal(jr.key(1), (M, d))
    neurons = jnp.concatenate([u, features.weight, features.bias[:, None]], axis=1)
    frozen = MeanFieldResNet(
        LinearInFeatures(features), ConditionalMeasure((u.T / jnp.sqrt(M)).reshape(1, 1, -1))
    )
    x = jnp.array([0.3, -1.2])
    assert_close(
        frozen(x), MeanFieldResNet(SingleHiddenLayer(), ConditionalMeasure(neurons[None]))(x)
    )


@pytest.mark.slow
@every_residual
def test_net_and_field_do_not_depend_on_how_the_measure_is_written(kind, key):
    net, data = random_pair(kind, key)
    other = net.with_params(written_otherwise(net.params))
    assert_close(risk(other, SquaredError(), data), risk(net, SquaredError(), data))
    field = gradient_field(other, SquaredError(), data)
    expected = gradient_field(net, SquaredError(), data)
    assert_close(field[:3, :8], jnp.repeat(expected[:, ::-1], 2, axis=1))
    assert jnp.all(field[3:] == 0) and jnp.all(field[:, 8:] == 0)


@pytest.mark.slow
def test_tokens_without_mass_and_split_tokens_change_nothing(key):
    net, (mu, y) = random_pair("heads", key)
    absent = ((0, 0), (0, 2), (0, 0))
    twice = (jnp.repeat(a, 2, axis=1) for a in (mu.points, mu.weights / 2, y))
    points, weights, targets = (jnp.pad(a, absent[: a.ndim]) for a in twice)
    points = points.at[:, 6:].set(jnp.nan)
    found = gradient_field(net, SquaredError(), (Measure(points, weights), targets))
    assert_close(found, gradient_field(net, SquaredError(), (mu, y)))


def test_checkpointing_changes_no_gradient(key):
    net, data = random_pair("hidden-layer", key)
    again = MeanFieldResNet(net.residual, net.params, checkpointed=True)
    assert_close(
        gradient_field(again, SquaredError(), data), gradient_field(net, SquaredError(), data)
    )


def test_float32_agrees_with_float64_to_its_precision(key):
    net, data = random_pair("hidden-layer", key)
    field = gradient_field(net, SquaredError(), data)
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, (net, data))
    low = gradient_field(single[0], SquaredError(), single[1])
    assert low.dtype == jnp.float32
    assert_close(low, field, rtol=1e-5, atol=1e-5)


def gradient_of_ends(net, data):
    return eqx.filter_jit(eqx.filter_grad(lambda n: risk(n, CrossEntropy(), data)))(net)


def test_a_fixed_end_passes_no_gradient_to_its_arrays_but_through_them(key):
    keys = jr.split(key, 3)
    affine = Affine(jr.normal(keys[0], (3, 2)), jnp.zeros(3))
    net = random_net(keys[1], readout=affine, embedding=eqx.nn.Linear(4, 2, key=keys[2]))
    data = jr.normal(key, (5, 4)), jnp.array([0, 2, 1, 0, 0])
    free = gradient_of_ends(net, data)
    fixed = gradient_of_ends(
        MeanFieldResNet(net.residual, net.params, Fixed(net.embedding), Fixed(affine)), data
    )
    assert jnp.any(free.readout.weight != 0) and jnp.any(free.embedding.weight != 0)
    assert jnp.all(fixed.readout.module.weight == 0)
    assert jnp.all(fixed.embedding.module.weight == 0)
    assert_close(fixed.params.points, free.params.points)


def test_a_pooled_readout_is_the_mean_over_the_mass(key):
    affine = Affine(jr.normal(key, (3, 2)))
    net = random_net(key, "heads", readout=Pooled(affine))
    mu = Measure(jr.normal(key, (3, 2)), jnp.array([2.0, 1.0, 0.0]))
    last = net.hidden(mu).points[-1]
    assert_close(net(mu), (2 * last[0] + last[1]) / 3 @ affine.weight.T)


def test_cross_entropy_takes_classes_or_probabilities():
    z = jnp.array([0.2, -1.0, 3.0])
    assert_close(CrossEntropy()(z, jnp.array(2)), -jax.nn.log_softmax(z)[2])
    assert_close(CrossEntropy()(z, jnp.array([0.0, 0.0, 1.0])), -jax.nn.log_softmax(z)[2])


def test_bad_inputs_are_named(key):
    net, (x, y) = random_pair("hidden-layer", key)
    with as_installed():
        with pytest.raises(ValueError, match="same length in both; got lengths"):
            risk(net, SquaredError(), (x, y[:3]))
        with pytest.raises(ValueError, match="the risk must be finite; got nan"):
            gradient_field(net, SquaredError(), (x.at[0, 0].set(jnp.nan), y))
        with pytest.raises(TypeError, match="AttentionHeads moves a Measure of tokens"):
            random_net(key, "heads")(x)
        with pytest.raises(TypeError, match="`Pooled` reads a Measure"):
            random_net(key, readout=Pooled(lambda z: z))(x[0])
        with pytest.raises(ValueError, match="dimension"):
            net(jnp.ones(3))
