"""Bounds of point maps and of compositions are above exact Jacobian norms; images hold points."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from dense_constants import blocks_of, constants
from precision import rounded

import meanfield as mf
from meanfield.lipschitz import image


pytestmark = pytest.mark.slow  # the fast lane keeps to plain attention


D, WIDTH = 5, 7
DOMAINS = {
    "ball": mf.Ball(2.0),
    "norm range": mf.LayerNormRange(jnp.array([0.5, -1.0, 0.1, 0.7, 2.0]), 0.3 * jnp.ones(D)),
}
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu-tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def inside(domain, key, count=400):
    """Points of a domain, half of them on its boundary."""
    z = jr.normal(key, (count, D))
    z = z.at[::2].multiply(100.0)
    return domain.project(z)


def perceptron(key, activation, gated):
    keys = jr.split(key, 6)
    shapes = [(WIDTH, D), (WIDTH,), (D, WIDTH), (D,)]
    draw = [jr.normal(k, s) for k, s in zip(keys, shapes, strict=False)]
    gate = (jr.normal(keys[4], (WIDTH, D)), jr.normal(keys[5], (WIDTH,))) if gated else ()
    return mf.MLP(*draw, activation, *gate)


def point_maps(key):
    gamma = jnp.array([0.5, -1.0, 0.1, 0.7, 2.0])
    maps = {
        "affine": mf.Affine(jr.normal(key, (3, D)), jnp.ones(3)),
        "layer norm": mf.LayerNorm(gamma, gamma, 0.1),
        "rms norm": mf.attention.RMSNorm(gamma, 0.1),
    }
    for name, activation in ACTIVATIONS.items():
        maps[name] = perceptron(key, activation, False)
        maps[f"gated {name}"] = perceptron(key, activation, True)
    return maps


def largest_slope(f, x):
    jacobians = jax.jit(jax.vmap(jax.jacfwd(f.point)))(x)
    return np.linalg.norm(np.asarray(jacobians), 2, axis=(1, 2)).max()


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
@pytest.mark.parametrize("name", point_maps(jr.key(0)))
def test_no_point_of_the_domain_has_a_larger_slope(name, domain, key):
    f = point_maps(key)[name]
    slope = largest_slope(f, inside(domain, key))
    for p in (1, 2, math.inf):
        assert mf.lipschitz_bound(f, domain, p=p).value >= slope


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
@pytest.mark.parametrize("name", point_maps(jr.key(0)))
def test_the_image_holds_every_image_point(name, domain, key):
    f = point_maps(key)[name]
    assert jnp.all(image(f, domain).contains(f.point(inside(domain, key)), tol=rounded(1e-9)))


def test_an_affine_map_is_bounded_by_its_norm_exactly(key):
    W = jr.normal(key, (3, D))
    bound = mf.lipschitz_bound(mf.Affine(W, jnp.ones(3)), mf.Ball(1.0))
    assert bound.value == pytest.approx(np.linalg.norm(W, 2), rel=rounded(1e-12))


def test_a_norm_layer_reaches_its_bound_at_a_constant_token():
    gamma = jnp.array([1.0, -3.0, 2.0, 0.5])
    for f, at in [
        (mf.attention.RMSNorm(gamma, 1e-4), jnp.zeros(4)),
        (mf.LayerNorm(jnp.full(4, 3.0), None, 1e-4), jnp.ones(4)),
    ]:
        bound = mf.lipschitz_bound(f, mf.Ball(10.0)).value
        assert bound == pytest.approx(300, rel=rounded(1e-12))
        assert largest_slope(f, at[None]) == pytest.approx(bound, rel=rounded(1e-9))


def test_on_a_sphere_the_rms_norm_is_linear(key):
    f, sphere = mf.attention.RMSNorm(jnp.array([1.0, 2.0, 3.0]), 0.1), mf.Sphere(2.0)
    bound = mf.lipschitz_bound(f, sphere).value
    x, y = (sphere.project(jr.normal(k, (500, 3))) for k in jr.split(key))
    quotients = jnp.linalg.norm(f.point(x) - f.point(y), axis=1) / jnp.linalg.norm(x - y, axis=1)
    assert 0.9 * bound < quotients.max() <= bound


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_slope_of_an_activation_is_its_largest_derivative(name):
    x = jnp.linspace(-8, 8, 160_001)
    largest = jnp.abs(jax.vmap(jax.grad(ACTIVATIONS[name]))(x)).max()
    f = mf.MLP(jnp.eye(1), None, jnp.eye(1), None, ACTIVATIONS[name])
    bound = mf.lipschitz_bound(f, mf.Ball(1.0)).value
    assert largest <= bound <= largest * (1 + 2e-6)
    assert jnp.all(jnp.abs(ACTIVATIONS[name](x)) <= jnp.abs(x))


def test_an_unknown_activation_is_refused():
    f = mf.MLP(jnp.eye(1), None, jnp.eye(1), None, jnp.exp)
    with pytest.raises(ValueError, match="`activation` must be relu"):
        mf.lipschitz_bound(f, mf.Ball(1.0))


def block(key):
    """A pre-norm transformer block."""
    keys = jr.split(key, 3)
    norm = mf.LayerNorm(jnp.linspace(0.2, 0.6, D), 0.1 * jnp.ones(D), 0.5)
    attention = mf.MultiheadAttention.random(dim=D, heads=2, key=keys[0], head_dim=3)
    mlp = perceptron(keys[1], jax.nn.gelu, False)
    return mf.Composition(
        [
            mf.Residual(mf.Composition([norm, attention]), 0.5),
            mf.Residual(mf.Composition([norm, mlp])),
        ]
    )


@pytest.mark.slow
def test_no_bound_of_a_block_is_below_the_exact_constant(key):
    f, keys = block(key), jr.split(key, 100)
    points = jnp.stack([inside(mf.Ball(2.0), k, 4) for k in keys])
    weights = jax.nn.softmax(2 * jr.normal(key, (100, 4)), axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    fs = jax.tree.map(lambda leaf: jnp.stack([leaf] * 100) if jnp.ndim(leaf) else leaf, f)
    B, D_ = blocks_of(fs, mf.Measure(points, weights))
    for p, values in zip((1, 2, math.inf), constants(B, D_, weights).T, strict=True):
        assert mf.lipschitz_bound(f, mf.Ball(2.0), p=p).value >= values.max()


def test_constants_of_a_composition_multiply_and_domains_are_carried(key):
    norm = mf.attention.RMSNorm(jnp.ones(D), 0.1)
    attention = mf.SelfAttention(jr.normal(key, (D, D)), jnp.eye(D))
    both = mf.lipschitz_bound(mf.Composition([norm, attention]), mf.Ball(100.0))
    parts = [
        mf.lipschitz_bound(norm, mf.Ball(100.0)),
        mf.lipschitz_bound(attention, mf.Ball(math.sqrt(D))),
    ]
    assert both.log_value == pytest.approx(sum(part.log_value for part in parts), rel=rounded(1e-9))
    assert both.theorem == "meanfield:composition"


def test_the_identity_path_of_a_residual_adds_one():
    f = mf.Residual(mf.Affine(3 * jnp.eye(2), None), -2.0)
    assert mf.lipschitz_bound(f, mf.Ball(1.0)).value == pytest.approx(7)
    assert mf.lipschitz_bound(mf.Composition([]), mf.Ball(1.0)).value == 1


@pytest.mark.float64
@pytest.mark.slow
def test_the_image_of_attention_holds_its_outputs(key):
    f = mf.MultiheadAttention.random(dim=D, heads=2, key=key, head_dim=3)
    for domain in DOMAINS.values():
        mu = mf.Measure(inside(domain, key, 20))
        reached = image(f, domain)
        assert jnp.all(reached.contains(f(mu).points))
        assert reached.radius < 4 * jnp.linalg.norm(f(mf.Measure(mu.points[:1])).points)
