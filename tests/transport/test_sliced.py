"""The sliced distance: known answers, laws, and the coverage of its interval."""

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from transport_problems import assert_close, random_measure, random_pair

import meanfield as mf
from meanfield.transport import Sliced, sliced_wasserstein


pytestmark = pytest.mark.slow


def test_of_a_translation_is_its_length_over_the_root_of_the_dimension(key, rng):
    # W_2^2 on the line is <theta, shift>^2, whose mean is |shift|^2 / d
    mu = random_measure(rng, 8, 3)
    shift = jnp.array([3.0, 0.0, 4.0])
    sol = sliced_wasserstein(mu, mu.pushforward(lambda x: x + shift), key=key)
    assert sol.lower <= 5 / np.sqrt(3) <= sol.upper
    assert sol.lower < sol.value < sol.upper
    assert_close(sol.value, jnp.mean(sol.powers) ** 0.5)


def test_each_direction_agrees_with_pot(key, rng):
    mu, nu = random_pair(rng, n=9, m=8, absent=2)
    for p in (1, 2):
        method = Sliced(directions=20, p=p)
        sol = sliced_wasserstein(mu, nu, method, key=key)
        normals = jax.random.normal(key, (20, 3))
        lines = np.asarray(normals / jnp.linalg.norm(normals, axis=1, keepdims=True)).T
        arrays = [np.asarray(x) for x in (mu.points, nu.points, mu.weights, nu.weights)]
        expected = ot.sliced_wasserstein_distance(*arrays, p=p, projections=lines)
        assert_close(sol.value, expected)


def test_the_interval_covers_the_truth_as_often_as_it_says(key, rng):
    # truth: <theta, shift>^2 for unit theta in dimension 3 has mean |shift|^2 / 3
    mu = mf.Measure(jnp.zeros((1, 3)))
    nu = mf.Measure(jnp.ones((1, 3)))
    method = Sliced(directions=100, confidence=0.8)
    sols = jax.vmap(lambda each: sliced_wasserstein(mu, nu, method, key=each))(
        jax.random.split(key, 1000)
    )
    covered = jnp.mean((sols.lower <= 1.0) & (sols.upper >= 1.0))
    # 0.8 within four standard deviations of a binomial share, sqrt(0.8 * 0.2 / 1000) = 0.0126
    assert abs(covered - 0.8) <= 0.05
    # the standard error is that of the values
    assert_close(jnp.mean(sols.standard_error), jnp.std(sols.value), rtol=0.1)


def test_on_the_line_it_is_the_distance_itself(key, rng):
    mu, nu = random_pair(rng, d=1, absent=2)
    sol = sliced_wasserstein(mu, nu, key=key)
    assert_close(sol.value, mf.wasserstein(mu, nu))
    assert_close(sol.upper, sol.lower)


def test_is_never_more_than_the_distance(key, rng):
    mu, nu = random_pair(rng)
    assert jnp.max(sliced_wasserstein(mu, nu, key=key).powers) <= mf.wasserstein(mu, nu) ** 2


def test_padding_permuting_and_splitting_change_nothing(key, rng):
    mu, nu = random_pair(rng)
    written = mu.split(3, jnp.array([0.2, 0.5, 0.3])).pad(14)
    order = rng.permutation(14)
    junk = jnp.where(written.present[:, None], written.points, jnp.nan)
    same = mf.Measure(junk[order], written.weights[order])
    sol, expected = (sliced_wasserstein(m, nu, key=key) for m in (same, mu))
    assert_close(sol.value, expected.value)
    assert_close(sol.lower, expected.lower)


@pytest.mark.float64
def test_gradients_match_finite_differences_and_are_finite_at_absent_atoms(key, rng):
    mu, nu = random_pair(rng, absent=2)
    broken = mf.Measure(mu.points.at[-1].set(jnp.nan), mu.weights)

    def value(one):
        return sliced_wasserstein(one, nu, key=key).value

    slopes = jax.grad(value)(broken)
    assert jnp.all(jnp.isfinite(slopes.points)) and jnp.all(jnp.isfinite(slopes.weights))
    points = rng.normal(size=mu.points.shape)
    weights = jnp.pad(rng.normal(size=6), (0, 2))
    weights = weights.at[:6].add(-jnp.mean(weights[:6]))
    ends = [
        value(mf.Measure(mu.points + t * points, mu.weights + t * weights)) for t in (-1e-6, 1e-6)
    ]
    along = jnp.vdot(slopes.points, points) + jnp.vdot(slopes.weights, weights)
    assert_close(along, (ends[1] - ends[0]) / 2e-6, rtol=1e-6)


def test_works_under_jit_and_vmap_and_is_zero_with_zero_slope_at_equal_measures(key, rng):
    mus, nus = (mf.stack([random_measure(rng, 8, 3) for _ in range(2)]) for _ in range(2))

    def value(one, other):
        return sliced_wasserstein(one, other, key=key).value

    batched = jax.jit(jax.vmap(value))(mus, nus)
    pairs = [[jax.tree.map(lambda leaf, i=i: leaf[i], m) for m in (mus, nus)] for i in range(2)]
    assert_close(batched, jnp.stack([value(*pair) for pair in pairs]))
    nothing, slopes = jax.value_and_grad(value)(pairs[0][0], pairs[0][0])
    assert nothing == 0
    assert jnp.all(slopes.points == 0)


def test_float32_stays_float32_and_agrees(key, rng):
    shift = jnp.array([3.0, 0.0, 4.0], jnp.float32)
    mu = mf.Measure(rng.normal(size=(8, 3)).astype("float32"))
    sol = sliced_wasserstein(mu, mu.pushforward(lambda x: x + shift), key=key)
    assert sol.value.dtype == sol.upper.dtype == jnp.float32
    assert sol.lower <= 5 / np.sqrt(3) <= sol.upper


def test_bad_settings_are_refused(key, rng):
    with pytest.raises(ValueError, match="`directions` must be at least 2"):
        Sliced(directions=1)
    with pytest.raises(ValueError, match="`confidence` must be between 0 and 1; got 95"):
        Sliced(confidence=95)
    with pytest.raises(ValueError, match="`p` must be a number"):
        Sliced(p=0.5)
    mu, nu = random_pair(rng)
    with pytest.raises(ValueError, match="total mass"):
        sliced_wasserstein(mu, mf.Measure(nu.points, 2 * nu.weights), key=key)
