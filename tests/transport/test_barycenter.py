"""Barycentres of measures: geodesics, quantiles, POT, laws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from transport_problems import assert_close, random_measure

import meanfield as mf
from meanfield.measure import RESULTS
from meanfield.transport import barycenter


pytestmark = pytest.mark.slow


def test_of_two_uniform_measures_lies_on_their_geodesic(key, rng):
    mu, nu = mf.Measure(rng.normal(size=(8, 3))), mf.Measure(rng.normal(size=(8, 3)))
    sol = barycenter(mf.stack([mu, nu]), [0.7, 0.3], key=key)
    distance = mf.wasserstein(mu, nu)
    assert_close(mf.wasserstein(mu, sol.measure), 0.3 * distance)
    assert_close(mf.wasserstein(sol.measure, nu), 0.7 * distance)
    assert_close(sol.value, 0.21 * distance**2)


def test_on_the_line_averages_quantiles(key, rng):
    measures = [random_measure(rng, 6, 1, absent=1) for _ in range(3)]
    sol = barycenter(mf.stack(measures), [1, 2, 1], 5, key=key)

    def quantiles(mu):  # their means over [j / 5, (j + 1) / 5], by a fine grid of exact steps
        order = np.argsort(mu.points[:, 0])
        points, levels = np.asarray(mu.points[order, 0]), np.cumsum(mu.weights[order])
        integral = np.concatenate([[0.0], np.cumsum(np.diff(levels, prepend=0.0) * points)])
        return 5 * np.diff(np.interp(np.arange(6) / 5, np.concatenate([[0.0], levels]), integral))

    q = [quantiles(mu) for mu in measures]
    assert_close(jnp.sort(sol.measure.points[:, 0]), (q[0] + 2 * q[1] + q[2]) / 4)


def test_agrees_with_pot_from_the_same_start(key, rng):
    measures = [random_measure(rng, 8, 3) for _ in range(3)]
    start = rng.normal(size=(6, 3))
    weights = np.array([0.5, 0.2, 0.3])
    sol = barycenter(mf.stack(measures), weights, key=key, start=jnp.asarray(start))
    arrays = ([np.asarray(m.points) for m in measures], [np.asarray(m.weights) for m in measures])
    expected = ot.lp.free_support_barycenter(*arrays, start, weights=weights, stopThr=0)
    assert_close(sol.measure.points, expected, rtol=1e-8)
    assert sol.result == RESULTS.successful
    distances = jnp.array([mf.wasserstein(sol.measure, mu) for mu in measures])
    assert_close(sol.value, weights @ distances**2)


def test_each_iteration_lowers_the_objective_until_nothing_moves(key, rng):
    stacked = mf.stack([random_measure(rng, 12, 3) for _ in range(4)])
    start = jnp.asarray(rng.normal(size=(12, 3)))
    values = []
    for steps in (0, 1, 2, 3, 1000):
        sol = barycenter(stacked, key=key, start=start, max_steps=steps, throw=False)
        values.append(sol.value)
    assert jnp.all(jnp.diff(jnp.array(values)) <= 1e-14)
    again = barycenter(stacked, key=key, start=sol.measure.points)
    assert again.steps == 1
    assert_close(again.measure.points, sol.measure.points)


def test_iterations_that_run_out_are_reported(key, rng):
    stacked = mf.stack([random_measure(rng, 12, 3) for _ in range(4)])
    sol = barycenter(stacked, key=key, max_steps=1, throw=False)
    assert sol.result == RESULTS.barycenter_not_settled
    with pytest.raises(eqx.EquinoxRuntimeError, match="Raise `max_steps`"):
        barycenter(stacked, key=key, max_steps=1)


def test_padding_permuting_and_splitting_change_nothing(key, rng):
    measures = [random_measure(rng, 5, 2) for _ in range(2)]
    start = jnp.asarray(rng.normal(size=(4, 2)))
    written = [mu.split(2, jnp.array([0.5, 0.5])).pad(8) for mu in measures]
    order = rng.permutation(8)
    same = [
        mf.Measure(jnp.where(mu.present[:, None], mu.points, jnp.nan)[order], mu.weights[order])
        for mu in written
    ]
    expected = barycenter(mf.stack(measures), key=key, start=start)
    got = barycenter(mf.stack(same), key=key, start=start)
    assert_close(got.measure.points, expected.measure.points)
    assert_close(got.value, expected.value)


def test_the_start_meets_no_absent_atom_and_carries_the_mass(key, rng):
    mu = mf.Measure([[jnp.nan], [1.0], [jnp.nan], [2.0]], [0.0, 1.0, 0.0, 1.0])
    sol = barycenter(mf.stack([mu, mu]), size=4, key=key)
    assert_close(jnp.sort(sol.measure.points[:, 0]), [1.0, 1.0, 2.0, 2.0])
    assert_close(sol.measure.mass, 2.0)
    assert sol.value == 0


@pytest.mark.float64
def test_derivatives_match_finite_differences(key, rng):
    stacked = mf.stack([random_measure(rng, 6, 2) for _ in range(3)])
    start, weights = jnp.asarray(rng.normal(size=(5, 2))), jnp.array([0.5, 0.2, 0.3])
    direction = jnp.asarray(rng.normal(size=stacked.points.shape))

    def solve(t):
        moved = mf.Measure(stacked.points + t * direction, stacked.weights)
        sol = barycenter(moved, weights + t * jnp.array([1, -2, 1]), key=key, start=start)
        return sol.value, sol.measure.points

    slopes = jax.jacfwd(solve)(0.0)
    ends = [solve(t) for t in (-1e-6, 1e-6)]
    for slope, low, high in zip(slopes, *ends, strict=True):
        assert_close(slope, (high - low) / 2e-6, rtol=1e-6, atol=1e-8)


def test_float32_stays_float32_and_agrees(key, rng):
    stacked = mf.stack([random_measure(rng, 6, 2) for _ in range(3)])
    start = jnp.asarray(rng.normal(size=(5, 2)))
    single = jax.tree.map(lambda leaf: leaf.astype("float32"), stacked)
    sol = barycenter(single, key=key, start=start.astype("float32"))
    assert sol.measure.points.dtype == sol.value.dtype == jnp.float32
    assert_close(sol.value, barycenter(stacked, key=key, start=start).value, rtol=1e-5)


def test_bad_input_is_refused(key, rng):
    mu = random_measure(rng, 6, 2)
    with pytest.raises(ValueError, match=r"`measures` must hold K measures.*mf.stack"):
        barycenter(mu, key=key)
    stacked = mf.stack([mu, mu])
    with pytest.raises(ValueError, match=r"`weights` must have shape \(2,\)"):
        barycenter(stacked, [1.0], key=key)
    with pytest.raises(ValueError, match="`weights` must be finite and nonnegative"):
        barycenter(stacked, [1.0, -1.0], key=key)
    with pytest.raises(ValueError, match="`start` must have shape"):
        barycenter(stacked, key=key, start=jnp.zeros((3, 5)))
    heavy = mf.Measure(stacked.points, stacked.weights * jnp.array([[1.0], [2.0]]))
    with pytest.raises(eqx.EquinoxRuntimeError, match="equal total masses"):
        barycenter(heavy, key=key)
