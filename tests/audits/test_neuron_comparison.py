"""Neurons as particles: which symmetries their activations have, and which they have not."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gauges import everywhere, load, permuted_neurons, with_fields
from scipy.optimize import linear_sum_assignment

from meanfield.attention import MLP
from meanfield.audits import Neurons, compare_models
from meanfield.audits.clouds import squared_distances
from meanfield.audits.neuron_particles import perceptron
from meanfield.models.activation import gelu, relu, silu, tanh


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "dinov2-swiglu"])
def test_permuted_neurons_are_at_distance_zero(family):
    model, rng, orders = load(family), np.random.default_rng(1), []

    def change(f, _):
        orders.append(rng.permutation(len(f.weight_in)))
        return permuted_neurons(f, orders[-1], rng)

    other = everywhere(model, MLP, change)
    x = jnp.asarray(rng.normal(size=(3, model.dim)))
    maps = [perceptron(m.layers[-1])[1] for m in (model, other)]
    np.testing.assert_allclose(maps[0].point(x), maps[1].point(x), rtol=1e-9, atol=1e-11)
    found = compare_models(model, other, Neurons())
    assert found.particles == "neuron" and found.relative < 1e-13 < 0.01 < found.index_distance
    assert [np.argsort(order).tolist() for order in orders] == [
        list(layer.matching) for layer in found.layers
    ]


def a_perceptron(activation, *, gated=False):
    shapes = [(6, 3), (6,), (3, 6), (6, 3), (6,)]
    keys = jr.split(jr.key(0), len(shapes))
    draw = [jr.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    gate = draw[3:] if gated else (None, None)
    return MLP(draw[0], draw[1], draw[2], None, activation, *gate)


def cloud(f):
    """The neurons of a perceptron, put into a layer of a real model."""
    model = everywhere(load("bert"), MLP, lambda *_: f)
    return Neurons().cloud(model.layers[0])


def scaled(f, factor):
    """The ingoing weights times a factor for each neuron, the outgoing ones over it."""
    return with_fields(
        f,
        weight_in=factor[:, None] * f.weight_in,
        bias_in=factor * f.bias_in,
        weight_out=f.weight_out / factor,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "activation, gated, sign, symmetric",
    [
        (relu, False, 1, True),
        (relu, False, -1, False),
        (jax.nn.relu, True, -1, True),
        (gelu, False, 1, False),
        (silu, False, 1, False),
        (tanh, False, 1, False),
        (silu, True, 1, True),
        (silu, True, -1, True),
        (tanh, True, -1, True),
    ],
)
def test_factors_pass_relu_and_the_linear_side_of_a_gate_alone(activation, gated, sign, symmetric):
    f = a_perceptron(activation, gated=gated)
    g = scaled(f, sign * jnp.linspace(0.5, 2.0, 6))
    x = jr.normal(jr.key(9), (4, 3))
    assert np.allclose(f.point(x), g.point(x)) == symmetric
    moved = np.sqrt(np.diagonal(squared_distances(cloud(f), cloud(g))))
    assert np.all(moved < 1e-12) if symmetric else np.any(moved > 0.1)


def test_signs_pass_tanh_alone():
    for activation, symmetric in ((tanh, True), (gelu, False), (relu, False)):
        f = a_perceptron(activation)
        moved = np.diagonal(squared_distances(cloud(f), cloud(scaled(f, -jnp.ones(6)))))
        assert np.all(moved == 0) == symmetric


def test_a_gate_of_tanh_lets_signs_pass_and_one_of_silu_does_not():
    for activation, symmetric in ((tanh, True), (silu, False)):
        f = a_perceptron(activation, gated=True)
        g = with_fields(f, gate=-f.gate, gate_bias=-f.gate_bias, weight_out=-f.weight_out)
        assert np.all(np.diagonal(squared_distances(cloud(f), cloud(g))) == 0) == symmetric


def test_a_gate_of_relu_lets_factors_pass_too():
    f, factor = a_perceptron(relu, gated=True), jnp.linspace(0.5, 2.0, 6)
    g = with_fields(
        f,
        gate=factor[:, None] * f.gate,
        gate_bias=factor * f.gate_bias,
        weight_out=f.weight_out / factor,
    )
    assert np.all(np.diagonal(squared_distances(cloud(f), cloud(g))) < 1e-24)


def test_a_dead_neuron_is_the_particle_zero():
    f = a_perceptron(relu)
    dead = dataclasses.replace(f, weight_out=f.weight_out.at[:, 2].set(0.0))
    assert np.flatnonzero(cloud(dead).squared_norms == 0).tolist() == [2]


def test_distances_between_gelu_neurons_are_those_of_their_weights():
    one, two = load("bert"), load("roberta")
    found = compare_models(one, two, Neurons())
    for layer, a, b in zip(found.layers, one.layers, two.layers, strict=True):
        points = [
            np.concatenate([f.weight_out.T, f.weight_in, f.bias_in[:, None]], axis=1)
            for f in (perceptron(a)[1], perceptron(b)[1])
        ]
        squared = np.sum((points[0][:, None] - points[1]) ** 2, axis=-1)
        rows, cols = linear_sum_assignment(squared)
        assert layer.distance == pytest.approx(np.sqrt(squared[rows, cols].mean()), rel=1e-12)
        assert layer.index_distance == pytest.approx(np.sqrt(np.trace(squared) / len(squared)))
