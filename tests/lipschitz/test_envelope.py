"""Derivatives of the local constant, against finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import random_measure, random_pair, self_attention

import meanfield as mf


def constants(f, mu, **options):
    """The constant, its smooth part and its split part."""
    options = {"key": jr.key(0), "rtol": 1e-10, "upper": False, "lower": False} | options
    found = mf.local_lipschitz(f, mu, **options)
    return jnp.stack([found.value, found.smooth, found.split])


def constant(f, mu, **options):
    return constants(f, mu, **options)[0]


def along(pair, key):
    """The floats of a map and a measure along a line, each scaled by a random share of itself."""
    floats, rest = eqx.partition(pair, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(floats)
    shares = [
        jr.normal(k, x.shape) for k, x in zip(jr.split(key, len(leaves)), leaves, strict=True)
    ]

    def at(t):
        moved = [x * (1 + t * share) for x, share in zip(leaves, shares, strict=True)]
        return eqx.combine(jax.tree.unflatten(tree, moved), rest)

    return at


@pytest.mark.float64
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multihead", "causal", "composition"])
def test_moves_with_points_masses_and_parameters(kind, key):
    line, step = along(random_pair(kind, key), jr.key(1)), 1e-5
    at = jax.jit(lambda t: constants(*line(t), throw=False))
    value, forward = jax.jvp(at, (0.0,), (1.0,))
    np.testing.assert_allclose(value, at(0.0), rtol=1e-12)
    numeric = (at(step) - at(-step)) / (2 * step)
    np.testing.assert_allclose(forward, numeric, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda t: at(t).sum())(0.0), forward.sum(), rtol=1e-10)


@pytest.mark.slow
def test_an_absent_atom_changes_no_gradient(key):
    f, mu = self_attention(key), random_measure(key)
    points = jnp.concatenate([mu.points, 3 * jnp.ones((1, mu.dim))])
    padded = mf.Measure(points, jnp.append(mu.weights, 0.0))
    short, long = (eqx.filter_grad(lambda nu: constant(f, nu))(nu) for nu in (mu, padded))
    np.testing.assert_allclose(long.points[:-1], short.points, rtol=1e-3, atol=1e-5)
    assert not np.any(long.points[-1])
    assert np.all(np.isfinite(long.weights))


@pytest.mark.slow
def test_only_the_constant_moves(key):
    f, mu = self_attention(key), random_measure(key)

    def upper(points):
        return mf.local_lipschitz(f, mu.with_points(points), key=key).upper

    assert not np.any(jax.grad(upper)(mu.points))


def test_a_second_derivative_is_refused(key):
    f, mu = self_attention(key), random_measure(key)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.hessian(lambda x: constant(f, mu.with_points(x)))(mu.points)
