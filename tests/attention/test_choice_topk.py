"""The soft top-k operators: the published values, laws, other people's solvers, derivatives."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize
from precision import EPS
from random_maps import as_installed, assert_close

from meanfield.attention import topk_magnitude, topk_mask


pytestmark = pytest.mark.slow  # every operator compiles

# k, scale of the operators that are tried
SETTINGS = [(2, 1.0), (3, 0.1), (5, 4.0)]
settings = pytest.mark.parametrize("k, scale", SETTINGS)


def vectors(key):
    return jr.normal(key, (4, 12))


def isotonic_mask(x, k, scale):
    """The mask by isotonic regression of the sorted vector, as the authors do."""
    order = np.argsort(-x)
    w = (np.arange(x.size) < k).astype(float)
    v = scipy.optimize.isotonic_regression(x[order] - scale * w, increasing=False).x
    y = np.empty_like(x)
    y[order] = (x[order] - v) / scale
    return y


def isotonic_magnitude(x, k, scale):
    """Weighted isotonic regression of the sorted magnitudes."""
    size = np.abs(x)
    order = np.argsort(-size)
    u = 1 + scale * (np.arange(x.size) < k)
    v = scipy.optimize.isotonic_regression(size[order] / u, weights=u, increasing=False).x
    y = np.empty_like(x)
    y[order] = (1 + scale) * (size[order] - v) / scale
    return np.sign(x) * y


@settings
def test_the_mask_is_that_of_isotonic_regression(k, scale, key):
    x = vectors(key)
    expected = np.stack([isotonic_mask(row, k, scale) for row in np.asarray(x)])
    assert_close(topk_mask(x, k, scale=scale), expected, rtol=0, atol=1e-13)


@settings
def test_the_magnitude_is_that_of_isotonic_regression(k, scale, key):
    x = vectors(key)
    expected = np.stack([isotonic_magnitude(row, k, scale) for row in np.asarray(x)])
    assert_close(topk_magnitude(x, k, scale=scale), expected, rtol=0, atol=1e-13)


def test_published_values():
    x = jnp.array([-5.0, -2.0, 3.0, 1.0])
    assert_close(topk_mask(x, 2, scale=0.01), [0, 0, 1, 1])
    assert_close(topk_magnitude(x, 2, scale=0.01), [-5, 0, 3, 0], atol=1e-12)
    path = jnp.array([[3.0, 1.0, -1 + s, s] for s in (0.0, 0.5, 1.0, 1.5, 2.0)])
    both = topk_mask(path, 2)[:, 1:3].sum(axis=1)
    assert_close(both, [1, 0.75, 0.5, 0.25, 0], atol=1e-12)
    smoother = topk_mask(path, 2, p=4 / 3)[:, 1:3].sum(axis=1)
    np.testing.assert_allclose(smoother[1:4], [0.8993, 0.5, 0.1007], atol=5e-5)


@pytest.mark.parametrize("p", [2, 1.5, 4 / 3])
def test_the_mask_is_feasible_and_optimal(p, key):
    x, k, scale = vectors(key), 3, 0.5
    y = topk_mask(x, k, scale=scale, p=p)
    assert_close(y.sum(axis=-1), np.full(4, k))
    assert float(y.min()) >= 0 and float(y.max()) <= 1

    def value(y):
        return np.sum(x * y - scale / p * y**p, axis=-1)

    for other in (topk_mask(x, k, scale=scale + 0.1, p=p), jnp.full_like(x, k / 12)):
        blend = 0.999 * y + 0.001 * other
        assert np.all(value(y) >= value(blend) - 1e3 * EPS)
        assert np.all(value(y) > value(other))


@settings
def test_a_small_scale_keeps_k_entries(k, scale, key):
    x = vectors(key)
    hard = jnp.sort(jnp.abs(x), axis=-1)[:, -k][:, None] <= jnp.abs(x)
    y = topk_magnitude(x, k, scale=1e-6)
    assert_close(y, jnp.where(hard, x, 0), atol=1e-4)
    assert np.all(np.count_nonzero(y, axis=-1) == k)


def test_fewer_entries_than_k_are_all_kept():
    x = jnp.array([0.0, 2.0, 0.0, -1.0])
    assert_close(topk_magnitude(x, 3), x)
    assert_close(topk_magnitude(x, 4), x)
    assert_close(topk_mask(x, 4), np.ones(4))
    gradient = jax.grad(lambda x: jnp.sum(topk_magnitude(x, 3)))(x)
    assert bool(jnp.all(jnp.isfinite(gradient)))


def test_the_derivative_of_the_mask_is_its_formula(key):
    x = vectors(key)[0]
    y = topk_mask(x, 3, scale=2.0)
    u = ((y > 0) & (y < 1)).astype(float)
    assert float(u.sum()) >= 2
    expected = (jnp.diag(u) - jnp.outer(u, u) / u.sum()) / 2.0
    assert_close(jax.jacrev(lambda x: topk_mask(x, 3, scale=2.0))(x), expected)


@pytest.mark.float64
@pytest.mark.slow
@pytest.mark.parametrize(
    "operator",
    [
        lambda x: topk_mask(x, 3, scale=0.7),
        lambda x: topk_mask(x, 3, scale=0.7, p=1.5),
        lambda x: topk_magnitude(x, 3, scale=0.7),
    ],
    ids=["mask", "mask 3/2", "magnitude"],
)
def test_first_and_second_derivatives_agree_with_differences(operator, key):
    x, v = vectors(key), jr.normal(jr.fold_in(key, 1), (4, 12))
    step = 1e-6

    def slope(x):
        return jax.jvp(operator, (x,), (v,))[1]

    assert_close(
        (operator(x + step * v) - operator(x - step * v)) / (2 * step), slope(x), atol=1e-7
    )
    _, bend = jax.jit(lambda x: jax.jvp(slope, (x,), (v,)))(x)
    assert_close((slope(x + step * v) - slope(x - step * v)) / (2 * step), bend, atol=1e-6)


def test_float32_agrees_with_float64(key):
    x = vectors(key)
    for operator in (topk_mask, topk_magnitude):
        for scale in (1.0, 1e-6):  # the second is eight units in the last place
            single = operator(x.astype(jnp.float32), 3, scale=scale)
            assert single.dtype == jnp.float32
            assert_close(single, operator(x, 3, scale=scale), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "k, scale, p, words",
    [
        (0, 1.0, 2, "`k` must be larger than 0"),
        (13, 1.0, 2, "`k` must be at most 12"),
        (3, 0.0, 2, "`scale` must be larger than 0"),
        (3, 1.0, 1, "`p` must lie in"),
    ],
)
def test_arguments_out_of_range_are_refused(k, scale, p, words):
    with as_installed(), pytest.raises(ValueError, match=words):
        topk_mask(jnp.ones(12), k, scale=scale, p=p)
