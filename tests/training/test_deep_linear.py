"""Sharpness of deep linear networks against dense Hessians, and the longest stable step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meanfield.spectrum import sharpness
from meanfield.training import (
    balanced_minimizer,
    imbalance_of,
    minimizer_sharpness,
    sharpness_bounds,
    sweep_steps,
)


def regression(seed=0, n=30, d=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.linspace(1.5, 0.5, d)
    return x, x @ rng.normal(size=d) + rng.normal(size=n)


def risk(weights, x, y, readout=None):
    out = x
    for matrix in weights:
        out = out @ matrix.T
    return jnp.mean((y - (out[:, 0] if readout is None else out @ readout)) ** 2)


@jax.jit
def _hessian(weights, x, y, readout):
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    return jax.hessian(lambda flat: risk(unravel(flat), x, y, readout))(flat)


def dense_sharpness(weights, x, y, readout=None):
    weights = tuple(jnp.asarray(matrix) for matrix in weights)
    return np.linalg.eigvalsh(_hessian(weights, x, y, readout))[-1]


def random_minimizer(rng, x, y, depth, noise=None, hidden=4):
    """Random matrices but the first, which then computes least squares; or, with `noise`, a
    balanced minimiser with so much added to the matrices but the first."""
    w = np.linalg.lstsq(x, y)[0]
    if noise is None:
        rest = [rng.normal(size=(hidden, hidden)) / 2 for _ in range(depth - 2)]
        rest, first = [*rest, rng.normal(size=(1, hidden))], rng.normal(size=(hidden, len(w)))
    else:
        first, *rest = balanced_minimizer(x, y, depth, width=hidden)
        rest = [matrix + noise * rng.normal(size=matrix.shape) for matrix in rest]
    row = functools.reduce(lambda after, matrix: after @ matrix, rest[::-1])[0]
    first = first + np.outer(row, w - row @ first) / (row @ row)
    return (first, *rest)


@pytest.mark.slow
def test_the_sharpness_of_any_minimiser_is_that_of_the_dense_hessian():
    x, y = regression()
    weights = random_minimizer(np.random.default_rng(1), x, y, depth=3)
    assert np.linalg.norm(jax.grad(risk)(weights, x, y)[0]) < 1e-10
    np.testing.assert_allclose(
        minimizer_sharpness(weights, x), dense_sharpness(weights, x, y), rtol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_balanced_minimisers_have_the_sharpness_of_the_formula(depth, key):
    x, y = regression()
    expected = sharpness_bounds(x, y, depth).balanced
    weights = balanced_minimizer(x, y, depth)
    assert imbalance_of(weights) < 1e-12
    np.testing.assert_allclose(dense_sharpness(weights, x, y), expected, rtol=1e-10)
    readout = np.array([0.6, 0.0, 0.8])
    weights = balanced_minimizer(x, y, depth, readout=readout)
    np.testing.assert_allclose(dense_sharpness(weights, x, y, readout), expected, rtol=1e-10)
    found = sharpness(lambda weights: risk(weights, x, y, readout), weights, key=key, rtol=1e-8)
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [None, 0.0, 1e-3, 0.03, 0.3])
def test_no_minimiser_is_flatter_than_the_lower_bound_or_sharper_than_its_imbalance_allows(noise):
    rng = np.random.default_rng(2)
    for depth in (1, 2, 3, 7):
        x, y = regression(depth)
        for _ in range(20 if depth > 1 else 0):
            weights = random_minimizer(rng, x, y, depth, noise)
            bounds = sharpness_bounds(x, y, depth, imbalance=imbalance_of(weights))
            found = minimizer_sharpness(weights, x)
            assert bounds.lower * (1 - 1e-12) <= found <= bounds.upper * (1 + 1e-12)
            assert bounds.lower <= bounds.balanced <= bounds.upper


def test_depth_one_is_least_squares():
    x, y = regression()
    bounds = sharpness_bounds(x, y, 1)
    top = np.linalg.eigvalsh(x.T @ x / len(x))[-1]
    np.testing.assert_allclose([bounds.balanced, bounds.upper], 2 * top, rtol=1e-12)
    np.testing.assert_allclose(
        balanced_minimizer(x, y, 1)[0][0], np.linalg.lstsq(x, y)[0], rtol=1e-12
    )


@pytest.mark.slow
def test_gradient_flow_keeps_the_imbalance_and_ends_below_the_upper_bound():
    x, y = regression()
    rng = np.random.default_rng(3)
    start = tuple(jnp.asarray(0.2 * rng.normal(size=s)) for s in ((4, 3), (4, 4), (1, 4)))
    bounds = sharpness_bounds(x, y, 3, imbalance=imbalance_of(start))
    slope = jax.grad(risk)

    def step(_, weights):
        return jax.tree.map(lambda W, g: W - 2e-3 * g, weights, slope(weights, x, y))

    end = jax.jit(lambda start: jax.lax.fori_loop(0, 30_000, step, start))(start)
    assert np.linalg.norm(slope(end, x, y)[0]) < 1e-8
    np.testing.assert_allclose(imbalance_of(end), imbalance_of(start), rtol=0.02)
    assert bounds.lower < minimizer_sharpness(end, x) < bounds.upper


@pytest.mark.slow
def test_descent_stops_finding_minimisers_within_five_per_cent_of_the_longest_step(key):
    x, y = regression(d=4, n=40)
    sweep = sweep_steps(x, y, 5, [0.5, 0.95, 1.05], key=key, steps=20_000)
    assert sweep.distances[0] < 1e-20 and sweep.distances[1] < 1e-10
    assert sweep.distances[2] > 1e-3
    assert abs(sweep.threshold() - 1) <= 0.05
    assert 0.95 < sweep.balanced_share < 1
    with pytest.raises(ValueError, match="reach over the threshold"):
        sweep.threshold(np.inf)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.ones((5, 2)), np.ones(5), 2), "full column rank 2.* rank is 1"),
        ((np.eye(3), np.ones(2), 2), r"shapes \(n, d\) and \(n,\); got \(3, 3\) and \(2,\)"),
        ((np.eye(3), np.ones(3), 0), "`depth` must be at least 1; got 0"),
        ((np.eye(3)[:, :2], np.array([0, 0, 1.0]), 2), "must not be orthogonal"),
    ],
)
def test_problems_without_an_answer_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sharpness_bounds(*arguments)


def test_odd_settings_are_refused():
    x, y = regression()
    with pytest.raises(ValueError, match="`imbalance` must be at least 0"):
        sharpness_bounds(x, y, 2, imbalance=-1.0)
    with pytest.raises(ValueError, match="norm one; got shape .* norm 5"):
        balanced_minimizer(x, y, 2, readout=[3.0, 4.0])
    with pytest.raises(ValueError, match="one row; got 3 rows"):
        minimizer_sharpness([np.eye(3)], x)
