"""What is called a law is orthogonal to the gradient of a loss, for every kind of layer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gauge_changes import GAUGED
from random_maps import (
    l2_attention,
    layer_norm,
    mlp,
    multihead,
    norms,
    random_measure,
    random_sequence,
    rms_norm,
)

import meanfield as mf
from meanfield.attention import LinearBias
from meanfield.training import attention_laws, homogeneity, law_terms, layer_laws


pytestmark = pytest.mark.float64  # identities up to rounding


def perceptron(key, activation, gated=False):
    f = mlp(key, gated=True)
    gate = (f.gate, f.gate_bias) if gated else (None, None)
    return mf.MLP(f.weight_in, f.bias_in, f.weight_out, f.bias_out, activation, *gate)


def squared_relu(x):
    return jax.nn.relu(x) ** 2


def identity(x):
    return x


KINDS = GAUGED | {
    "half turning": lambda key: multihead(key, rotary=mf.Rotary(theta=7.0, dims=2)),
    "half turning, normed": lambda key: multihead(
        key, rotary=mf.Rotary(theta=7.0, dims=2), **norms(key)
    ),
    "causal": lambda key: mf.CausalAttention(multihead(key)),
    "l2": l2_attention,
    "relu": lambda key: perceptron(key, jax.nn.relu),
    "squared relu": lambda key: perceptron(key, squared_relu),
    "linear": lambda key: perceptron(key, identity),
    "swiglu": lambda key: mlp(key, gated=True),
    "reglu": lambda key: perceptron(key, jax.nn.relu, gated=True),
    "pre-norm block": lambda key: mf.Residual(mf.Composition([layer_norm(key), multihead(key)])),
    "pre-norm perceptron": lambda key: mf.Composition([rms_norm(key), mlp(key, gated=True)]),
}
ORDERED = ("turning", "half turning", "half turning, normed", "sloped", "causal")


def gradient(f, mu, key):
    """Of a loss that is no square, at a random target."""
    target = jr.normal(key, f(mu).points.shape)
    return eqx.filter_jit(
        eqx.filter_grad(lambda f: jnp.mean(jnp.cosh((f(mu).points - target) / 3)))
    )(f)


def size(tree):
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return float(jnp.sqrt(sum(jnp.sum(x**2) for x in leaves)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_laws_are_orthogonal_to_the_gradient_and_nothing_near_them_is(kind, key):
    f = KINDS[kind](key)
    mu = random_sequence(key, s=3) if kind in ORDERED else random_measure(key, n=5)
    g = gradient(f, mu, key)
    turned, _ = law_terms(layer_laws, f, g)
    assert turned
    for name, rate in turned.items():
        assert float(jnp.max(jnp.abs(rate))) < 1e-14 * size(f) * size(g), name
    weight = next(iter(jax.tree.leaves(eqx.filter(g, lambda x: getattr(x, "ndim", 0) > 1))))
    assert size(weight) > 1e-3 * size(g)  # the gradient does not vanish where the laws look


def test_a_gelu_perceptron_has_no_law_and_a_gate_one_a_unit(key):
    assert layer_laws(mlp(key)) == {}
    assert layer_laws(mlp(key, gated=True))["in_out"].shape == (7,)


def test_degrees_of_activations():
    assert [homogeneity(f) for f in (jax.nn.relu, identity, squared_relu)] == [1.0, 1.0, 2.0]
    assert [homogeneity(f) for f in (jax.nn.gelu, jax.nn.silu, jnp.tanh, jnp.cos)] == [None] * 4
    assert homogeneity(jax.nn.leaky_relu) == 1.0
    assert float(jax.jit(lambda x: x * homogeneity(jax.nn.relu))(2.0)) == 2.0


@pytest.mark.slow
def test_laws_follow_the_order_of_heads(key):
    f, order = multihead(key), {4: jnp.array([2, 3, 0, 1]), 2: jnp.array([1, 0])}
    names = [f"{part}_{kind}" for part in ("query", "key", "value") for kind in ("proj", "bias")]
    names.append("output_proj")

    def reordered(array):
        return array[order[len(array)]]

    g = eqx.tree_at(
        lambda f: [getattr(f, name) for name in names],
        f,
        replace_fn=reordered,
    )
    for name, law in attention_laws(f).items():
        np.testing.assert_allclose(attention_laws(g)[name], reordered(law), atol=1e-14)


def test_the_slopes_of_a_bias_are_no_part_of_a_law(key):
    f = multihead(key, score_bias=LinearBias(jnp.ones(4)))
    assert set(attention_laws(f)) == {"query_key", "value_output", "key_bias"}


@pytest.mark.slow
@pytest.mark.parametrize("name", mf.models.zoo.NAMES)
def test_key_biases_of_shipped_models_have_no_gradient(name):
    model = mf.models.load(name)
    states, loss = real_loss(model)
    layers = double(tuple(layer.block for layer in model.layers))
    g = eqx.filter_jit(eqx.filter_grad(loss))(layers, states)
    attentions = [attention_of(block) for block in g]
    for attention in attentions:
        beside = float(jnp.linalg.norm(attention.query_bias))
        assert beside > 1e-6
        assert float(jnp.max(jnp.abs(attention.key_bias))) < 1e-13 * beside


def double(tree):
    return jax.tree.map(lambda x: x.astype(float) if eqx.is_inexact_array(x) else x, tree)


def attention_of(block):
    attention = block.maps[0].f.maps[1]
    return getattr(attention, "attention", attention)


def real_loss(model):
    """Next characters of a page of Shakespeare; the confidence in the class of real digits."""
    if model.tokenizer is None:
        states = model.embedding(mf.models.zoo.sample_images()[0])
        wrap = mf.Measure
    else:
        ids = model.tokenize(mf.models.zoo.sample_text())[:33]
        states, wrap = model.embedding(ids), mf.ConditionalMeasure.from_sequence

    def loss(layers, states):
        mu = wrap(states)
        for block in layers:
            mu = block(mu)
        points = model.final_norm(mu).points.reshape(states.shape)
        if model.tokenizer is None:
            logits = points[:1] @ model.head.linear.weight.T + model.head.linear.bias
            targets = jnp.array([3])
        else:
            table = jnp.asarray(model.embedding.word.rows(np.arange(model.embedding.word.shape[0])))
            logits, targets = points[:-1] @ table.T, jnp.asarray(ids[1:])
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], 1))

    return jnp.asarray(states, float), loss
