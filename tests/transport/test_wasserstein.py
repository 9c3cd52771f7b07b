"""The Wasserstein distance: values against other people's code and closed forms, and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from precision import EPS
from transport_problems import (
    assert_close,
    cases,
    dimensions,
    pot_distance,
    random_measure,
    random_pair,
)

import meanfield as mf
from meanfield.transport import PowerCost


@cases
def test_agrees_with_pot(rng, p, d):
    mu, nu = random_pair(rng, n=11, m=8, d=d, absent=2)
    assert_close(mf.wasserstein(mu, nu, p), pot_distance(mu, nu, p))


@pytest.mark.slow
@pytest.mark.parametrize("p, d", [(1, 32), (2, 32), (2, 2)])
def test_agrees_with_pot_on_large_measures(rng, p, d):
    mu, nu = random_pair(rng, n=200, m=150, d=d, absent=20)
    assert_close(mf.wasserstein(mu, nu, p), pot_distance(mu, nu, p))


@pytest.mark.slow
def test_agrees_with_ott_and_scipy_on_large_uniform_measures(rng):
    from ott.geometry import pointcloud
    from ott.tools import unreg

    x, y = rng.normal(size=(2, 200, 32))
    value = mf.wasserstein(mf.Measure(x), mf.Measure(y))
    cost, _ = unreg.hungarian(pointcloud.PointCloud(x, y))
    assert_close(value**2, cost, rtol=1e-6)  # OTT pairs exactly and sums in float32
    costs = np.sum((x[:, None] - y) ** 2, axis=-1)
    assert_close(value**2, costs[scipy.optimize.linear_sum_assignment(costs)].mean())


@pytest.mark.slow
def test_agrees_with_a_linear_program(rng):
    mu, nu = random_pair(rng, n=30, m=30, d=8, absent=4)
    costs = np.asarray(PowerCost(1.5).matrix(mu.points, nu.points))
    sums = np.concatenate([np.kron(np.eye(30), np.ones(30)), np.kron(np.ones(30), np.eye(30))])
    weights = np.concatenate([mu.weights, nu.weights])
    best = scipy.optimize.linprog(costs.ravel(), A_eq=sums[:-1], b_eq=weights[:-1]).fun
    assert_close(mf.wasserstein(mu, nu, 1.5) ** 1.5, best, rtol=1e-9)


def test_agrees_with_scipy_on_the_line(rng):
    mu, nu = random_pair(rng, n=40, m=31, d=1, absent=3)
    expected = scipy.stats.wasserstein_distance(
        np.ravel(mu.points), np.ravel(nu.points), mu.weights, nu.weights
    )
    assert_close(mf.wasserstein(mu, nu, p=1), expected)


@cases
def test_uniform_measures_of_one_size_are_matched_by_the_best_permutation(rng, p, d):
    x, y = rng.normal(size=(2, 12, d))
    costs = np.linalg.norm(x[:, None] - y[None], axis=-1) ** p
    best = costs[scipy.optimize.linear_sum_assignment(costs)].mean() ** (1 / p)
    assert_close(mf.wasserstein(mf.Measure(x), mf.Measure(y), p), best)


@pytest.mark.parametrize("p", [1, 2, 7.5])
def test_between_diracs_it_is_the_distance(p):
    mu, nu = mf.Measure([[1.0, 2.0]]), mf.Measure([[4.0, 6.0]])
    assert_close(mf.wasserstein(mu, nu, p), 5.0)


@cases
def test_to_a_dirac_it_is_the_norm_of_the_distance(rng, p, d):
    mu = random_measure(rng, 8, d)
    dirac = mf.Measure(jnp.full((8, d), 0.5), jnp.zeros(8).at[3].set(1.0))
    distances = jnp.linalg.norm(mu.points - 0.5, axis=1)
    assert_close(mf.wasserstein(mu, dirac, p), (mu.weights @ distances**p) ** (1 / p))


@cases
def test_translation_moves_it_by_its_length(rng, p, d):
    mu = random_measure(rng, 8, d)
    shift = jnp.array([3.0, 0.0, 4.0])[:d]
    length = jnp.linalg.norm(shift)
    assert_close(mf.wasserstein(mu, mu.pushforward(lambda x: x + shift), p), length)


@cases
def test_is_zero_on_equal_measures_written_differently(rng, p, d):
    mu = random_measure(rng, 8, d, absent=2)
    order = rng.permutation(8)
    assert mf.wasserstein(mu, mf.Measure(mu.points[order], mu.weights[order]), p) == 0


def test_gaussian_quantiles_reach_the_gaussian_closed_form():
    levels = (np.arange(4000) + 0.5) / 4000
    x = scipy.stats.norm.ppf(levels)[:, None]
    mu, nu = mf.Measure(x), mf.Measure(2 * x + 1)
    # W_2(N(0, 1), N(1, 4))^2 = 1 + (2 - 1)^2; midpoint quantiles miss part of the variance, O(1/n)
    assert_close(mf.wasserstein(mu, nu) ** 2, 2.0, rtol=1e-3)


@cases
def test_padding_permuting_and_splitting_change_nothing(rng, p, d):
    mu, nu = random_pair(rng, d=d)
    written = mu.split(3, jnp.array([0.2, 0.5, 0.3])).split(2).pad(23)
    order = rng.permutation(written.size)
    same = mf.Measure(written.points[order], written.weights[order])
    expected = mf.wasserstein(mu, nu, p)
    assert_close(mf.wasserstein(same, nu, p), expected)
    assert_close(mf.wasserstein(nu, same, p), expected)


@dimensions
def test_what_stands_at_an_absent_atom_does_not_matter(rng, d):
    mu, nu = random_pair(rng, d=d, absent=1)
    expected = mf.wasserstein(mu, nu)
    for junk in (jnp.nan, jnp.inf, 1e300):
        odd = mf.Measure(mu.points.at[-1].set(junk), mu.weights)
        assert mf.wasserstein(odd, nu) == expected
        slopes = jax.grad(mf.wasserstein)(odd, nu)
        assert jnp.all(jnp.isfinite(slopes.points)) and jnp.all(jnp.isfinite(slopes.weights))


@cases
def test_is_a_distance(rng, p, d):
    mu, nu, rho = (random_measure(rng, 8, d) for _ in range(3))
    assert_close(mf.wasserstein(mu, nu, p), mf.wasserstein(nu, mu, p))
    around = mf.wasserstein(mu, rho, p) + mf.wasserstein(rho, nu, p)
    assert mf.wasserstein(mu, nu, p) <= around * (1 + 1e-12)


@cases
def test_scales_with_the_points_and_with_the_mass(rng, p, d):
    mu, nu = random_pair(rng, d=d)
    expected = mf.wasserstein(mu, nu, p)
    larger = [m.pushforward(lambda x: -3.7 * x) for m in (mu, nu)]
    assert_close(mf.wasserstein(*larger, p), 3.7 * expected)
    heavier = [mf.Measure(m.points, 64.0 * m.weights) for m in (mu, nu)]
    assert_close(mf.wasserstein(*heavier, p), 64.0 ** (1 / p) * expected)


def test_grows_with_p_towards_the_largest_displacement(rng):
    mu, nu = random_pair(rng)
    values = jnp.array([mf.wasserstein(mu, nu, p) for p in (1, 2, 200, jnp.inf)])
    assert jnp.all(jnp.diff(values) >= 0)
    assert values[-2] >= 0.95 * values[-1]


@pytest.mark.slow
@pytest.mark.parametrize("p, d", [(200, 3), (5000, 1)])
def test_powers_that_no_number_holds_are_taken_in_the_unit_of_the_longest_move(rng, p, d):
    mu, nu = random_pair(rng, d=d, absent=2)
    mu, nu = (mf.Measure(m.points.at[0].set(100.0), m.weights) for m in (mu, nu))
    longest, value = mf.wasserstein(mu, nu, jnp.inf), mf.wasserstein(mu, nu, p)
    least = min(np.min(m.weights[m.present]) for m in (mu, nu))  # less may move, not much less
    assert longest * (1e-6 * least) ** (1 / p) <= value <= longest * (1 + 8 * EPS)
    single = [mf.Measure(m.points.astype("float32"), m.weights) for m in (mu, nu)]
    assert_close(mf.wasserstein(*single, p), value, rtol=1e-5)
    slopes = jax.grad(mf.wasserstein, argnums=(0, 1))(*single, p)
    exact = jax.grad(mf.wasserstein, argnums=(0, 1))(mu, nu, p)
    assert_close(slopes[0].points, exact[0].points, rtol=1e-3, atol=1e-3)
    # a translation of both moves nothing
    assert_close(slopes[0].points.sum(0), -slopes[1].points.sum(0), atol=1e-4)


@pytest.mark.parametrize("power", [-0.4, 0.4])
def test_very_small_and_very_large_points_keep_their_digits(rng, power):
    mu, nu = random_pair(rng)
    scale = float(jnp.finfo(mu.points.dtype).max) ** power  # 1e-123 and 1e123 in float64
    far = [m.pushforward(lambda x: scale * x) for m in (mu, nu)]
    assert_close(mf.wasserstein(*far, 3) / scale, mf.wasserstein(mu, nu, 3))


@pytest.mark.parametrize("mass", [1e-6, 1e-9, 1e-12])
def test_a_light_atom_far_away_is_not_lost(mass):
    mu = mf.Measure([[0.0, 0.0], [1.0, 0.0]], [1 - mass, mass])
    nu = mf.Measure([[0.0, 0.0], [1.0, 7.0]], [1 - mass, mass])
    # The light mass comes from as far as it can save: sqrt(49 m) against sqrt(50 m).
    assert_close(mf.wasserstein(mu, nu), 7 * mass**0.5, rtol=1e-6)


def test_of_empty_measures_is_zero(rng):
    mu, nu = random_pair(rng)
    empty = [mf.Measure(m.points, 0.0 * m.weights) for m in (mu, nu)]
    assert mf.wasserstein(*empty) == 0
    assert mf.wasserstein(*[mf.Measure(m.points[:, :1], m.weights) for m in empty]) == 0


@dimensions
def test_works_under_jit_and_vmap(rng, d):
    pairs = [random_pair(rng, n=n, d=d) for n in (4, 6, 8)]
    mus, nus = (mf.stack(side) for side in zip(*pairs, strict=True))
    one_by_one = jnp.stack([mf.wasserstein(mu, nu) for mu, nu in pairs])
    assert_close(jax.vmap(mf.wasserstein)(mus, nus), one_by_one)
    assert_close(jax.jit(jax.vmap(mf.wasserstein))(mus, nus), one_by_one)
    assert_close(jax.jit(mf.wasserstein)(*pairs[0]), one_by_one[0])


@cases
def test_float32_stays_float32_and_agrees(rng, p, d):
    mu, nu = random_pair(rng, n=50, m=50, d=d, absent=5)
    single = [mf.Measure(m.points.astype("float32"), m.weights) for m in (mu, nu)]
    value = mf.wasserstein(*single, p)
    assert value.dtype == jnp.float32
    assert_close(value, mf.wasserstein(mu, nu, p), rtol=1e-5)
    mixed = mf.wasserstein(single[0], nu, p)
    assert mixed.dtype == jnp.result_type(float)
    assert_close(mixed, value, rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2, 6, 7, 8, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_from_the_origin_it_keeps_its_digits(p, dtype):
    rng = np.random.default_rng(7)
    x, y = np.round(8 * rng.normal(size=(2, 6, 3))) / 8  # exact at the offset in float32 too
    here = mf.wasserstein(mf.Measure(x), mf.Measure(y), p=p)
    clouds = [mf.Measure((z + 1e6).astype(dtype)) for z in (x, y)]
    np.testing.assert_allclose(mf.wasserstein(*clouds, p=p), here, rtol=400 * np.finfo(dtype).eps)


@pytest.mark.parametrize("p", [2, 4, 6, 8])
def test_a_far_common_atom_takes_no_digits_in_single_precision(p):
    x, y = np.array([[0.0], [2.0**20]], np.float32), np.array([[1.0], [2.0**20]], np.float32)
    pairs = [mf.Measure(np.hstack([z, 0 * z]), np.full(2, 0.5, np.float32)) for z in (x, y)]
    np.testing.assert_allclose(mf.wasserstein(*pairs, p=p), 0.5 ** (1 / p), rtol=1e-5)
