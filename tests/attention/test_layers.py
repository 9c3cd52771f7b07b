"""Layers that look at one point at a time, and maps made of maps."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import (
    DIM,
    affine,
    apply,
    assert_close,
    layer_norm,
    mlp,
    multihead,
    random_measure,
    random_sequence,
    rms_norm,
    self_attention,
)

import meanfield as mf


def erf_free_gelu(x):
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the default of jax.nn.gelu."""
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_affine_is_a_product_and_a_shift(key):
    f, mu = affine(key), random_measure(key)
    assert_close(f(mu).points, np.asarray(mu.points) @ np.asarray(f.weight).T + np.asarray(f.bias))
    assert_close(mf.Affine(f.weight)(mu).points, np.asarray(mu.points) @ np.asarray(f.weight).T)


def test_layer_norm_centres_and_scales_each_point(key):
    f, mu = layer_norm(key), random_measure(key)
    x = np.asarray(mu.points)
    z = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    assert_close(f(mu).points, np.asarray(f.gamma) * z + np.asarray(f.beta))
    assert_close(mf.LayerNorm(f.gamma)(mu).points, np.asarray(f.gamma) * z)


def test_rms_norm_scales_each_point_to_its_root_mean_square(key):
    f, mu = rms_norm(key), random_measure(key)
    x = np.asarray(mu.points)
    z = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5)
    assert_close(f(mu).points, np.asarray(f.gamma) * z)


@pytest.mark.parametrize("norm", [mf.LayerNorm, mf.RMSNorm])
def test_norms_are_finite_with_finite_slopes_at_zero(norm):
    f = norm(jnp.ones(3))
    slope = jax.jacfwd(f.point)(jnp.zeros(3))
    assert_close(f.point(jnp.zeros(3)), np.zeros(3))
    assert float(jnp.max(jnp.abs(slope))) <= 1e-5**-0.5


def test_a_norm_forgets_the_scale_of_its_input(key):
    x = jr.normal(key, (3, DIM))
    for f in (mf.LayerNorm(jnp.ones(DIM), epsilon=0.0), mf.RMSNorm(jnp.ones(DIM), epsilon=0.0)):
        assert_close(f.point(1e4 * x), f.point(x))


def test_perceptron_is_two_affine_maps_around_an_activation(key):
    f, mu = mlp(key), random_measure(key)
    hidden = np.asarray(mu.points) @ np.asarray(f.weight_in).T + np.asarray(f.bias_in)
    expected = erf_free_gelu(hidden) @ np.asarray(f.weight_out).T + np.asarray(f.bias_out)
    assert_close(f(mu).points, expected)


def test_gated_perceptron_multiplies_by_the_activated_gate(key):
    f, mu = mlp(key, gated=True), random_measure(key)
    x = np.asarray(mu.points)
    gate = x @ np.asarray(f.gate).T + np.asarray(f.gate_bias)
    hidden = gate / (1 + np.exp(-gate)) * (x @ np.asarray(f.weight_in).T + np.asarray(f.bias_in))
    assert_close(f(mu).points, hidden @ np.asarray(f.weight_out).T + np.asarray(f.bias_out))


def test_residual_adds_a_multiple_of_the_map(key):
    f, mu = self_attention(key), random_measure(key)
    assert_close(mf.Residual(f, 0.5)(mu).points, mu.points + 0.5 * f(mu).points)


def test_composition_maps_the_measure_and_then_the_image(key):
    f, g, mu = self_attention(key), self_attention(jr.fold_in(key, 9)), random_measure(key)
    assert_close(apply(mf.Composition([f, g]), mu), apply(g, apply(f, mu)))


def test_composition_answers_queries_in_the_context_each_map_made(key):
    f, g, mu = self_attention(key), self_attention(jr.fold_in(key, 9)), random_measure(key)
    x = jr.normal(key, (3, DIM))
    assert_close(mf.Composition([f, g]).at(mu, x), g.at(f(mu), f.at(mu, x)))


def test_composition_is_associative_and_its_unit_is_empty(key):
    f, g, h = layer_norm(key), self_attention(key), affine(key)
    mu = random_measure(key)
    left = mf.Composition([mf.Composition([f, g]), h])
    right = mf.Composition([f, mf.Composition([g, mf.Composition([]), h])])
    assert_close(apply(left, mu), apply(right, mu))


@pytest.mark.slow
def test_pushforward_at_the_atoms_is_the_call(key):
    f = mf.Composition([layer_norm(key), mf.Residual(multihead(key))])
    mu = random_sequence(key)
    assert_close(f.at(mu, mu.points), f(mu).points)
