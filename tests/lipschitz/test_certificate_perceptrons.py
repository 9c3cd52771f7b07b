"""Certificates of perceptrons, whose neurons may bend in opposite ways with opposite weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_maps import mlp

import meanfield as mf
from meanfield.lipschitz import displacement_bound
from meanfield.lipschitz.certificates.head import Atoms
from meanfield.lipschitz.certificates.kinds import local_model
from meanfield.lipschitz.certificates.perceptron import activated
from meanfield.models.activation import quick_gelu


pytestmark = pytest.mark.float64
EXACT_GELU = functools.partial(jax.nn.gelu, approximate=False)
SMOOTH = {
    "tanh": jnp.tanh,
    "gelu": EXACT_GELU,
    "gelu-tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "quick-gelu": quick_gelu,
}
every_smooth_one = pytest.mark.parametrize("phi", SMOOTH.values(), ids=SMOOTH.keys())
GRID = np.linspace(-6, 6, 2001)


def second(phi):
    return jax.vmap(jax.grad(jax.grad(phi)))


def opposite(phi):
    """x -> phi(x + b_1) - phi(x + b_2) with phi'' as large as it gets at b_1, as low at b_2."""
    curves = np.asarray(second(phi)(jnp.asarray(GRID)))
    biases = GRID[[np.argmax(curves), np.argmin(curves)]]
    return mf.MLP(jnp.ones((2, 1)), jnp.asarray(biases), jnp.asarray([[1.0, -1.0]]), None, phi)


def largest_slope(f, radius):
    """The Lipschitz constant on [-radius, radius] from a fine grid."""
    x = jnp.linspace(-radius, radius, 4001)
    slope = jax.vmap(jax.grad(lambda s: f.point(s[None])[0]))(x)
    return float(jnp.max(jnp.abs(slope)))


@every_smooth_one
def test_the_second_derivative_of_an_activation_has_its_sign(phi):
    got = activated(phi, GRID)
    x = jnp.asarray(GRID)
    np.testing.assert_allclose(got[0], phi(x), atol=1e-12)
    np.testing.assert_allclose(got[1], jax.vmap(jax.grad(phi))(x), atol=1e-12)
    np.testing.assert_allclose(got[2], second(phi)(x), atol=1e-11)


@every_smooth_one
def test_the_bend_at_an_atom_is_the_norm_of_the_second_derivative_as_a_matrix(phi, key):
    drawn = mlp(key)
    f = mf.MLP(drawn.weight_in, drawn.bias_in, drawn.weight_out, drawn.bias_out, phi)
    mu = mf.Measure(jax.random.normal(key, (3, f.weight_in.shape[1])))
    bent = local_model(f, Atoms.of(mu)).bent
    hessians = jax.vmap(jax.hessian(f.point))(Atoms.of(mu).points)  # (n, out, d, d)
    dense = [np.linalg.norm(h.reshape(len(h), -1), 2) for h in np.asarray(hessians)]
    np.testing.assert_allclose(bent, dense, rtol=1e-6)


@every_smooth_one
@pytest.mark.parametrize("radius", [1e-4, 1e-2, 0.1])
def test_opposite_neurons_do_not_cancel_in_a_certificate(phi, radius):
    f, mu = opposite(phi), mf.Measure(jnp.zeros((1, 1)))
    truth = largest_slope(f, radius)
    for p in (1, 2, np.inf):
        bound = mf.certify(f, mu, radius, p=p).value
        assert truth <= bound <= truth * (1 + 3 * radius) + 1e-6


def test_the_difference_of_two_hyperbolic_tangents_keeps_its_curvature():
    shift = 0.65848
    f = mf.MLP(
        jnp.ones((2, 1)), jnp.asarray([shift, -shift]), jnp.asarray([[1.0, -1.0]]), None, jnp.tanh
    )
    mu, radius = mf.Measure(jnp.zeros((1, 1))), 1e-4
    truth = 4 * np.tanh(shift) / np.cosh(shift) ** 2 * radius  # |f''(0)| radius: f'(0) = 0
    np.testing.assert_allclose(truth, 1.5396e-4, rtol=1e-4)
    np.testing.assert_allclose(mf.certify(f, mu, radius).value, truth, rtol=1e-3)
    moved = abs(float(f.point(jnp.asarray([radius]))[0] - f.point(jnp.zeros(1))[0]))
    bound = displacement_bound(f, mu, radius).value
    assert moved / radius <= bound <= 1.001 * moved / radius
