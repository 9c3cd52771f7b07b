"""Gaussians: the Bures distance, the linear map, barycentres."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.linalg
from transport_problems import assert_close, random_measure, random_pair

import meanfield as mf
from meanfield.measure import RESULTS
from meanfield.transport import (
    Gaussian,
    bures,
    gaussian_barycenter,
    gaussian_map,
    gaussian_wasserstein,
    square_root,
)


def random_covariance(rng, d=4, rank=None):
    factor = rng.normal(size=(d, rank or d))
    return jnp.asarray(factor @ factor.T)


def symmetric(rng, d=4):
    direction = rng.normal(size=(d, d))
    return jnp.asarray(direction + direction.T)


def test_the_distance_agrees_with_pot_and_with_scipy(rng):
    one, other = random_covariance(rng), random_covariance(rng)
    half = scipy.linalg.sqrtm(np.asarray(one))
    squared = np.trace(one + other - 2 * np.real(scipy.linalg.sqrtm(half @ other @ half)))
    assert_close(bures(one, other) ** 2, squared)
    means = rng.normal(size=(2, 4))
    mu, nu = Gaussian(jnp.asarray(means[0]), one), Gaussian(jnp.asarray(means[1]), other)
    arrays = (np.asarray(one), np.asarray(other))
    assert_close(
        gaussian_wasserstein(mu, nu), ot.gaussian.bures_wasserstein_distance(*means, *arrays)
    )


def test_commuting_covariances_differ_by_their_standard_deviations(rng):
    first, second = jnp.array([1.0, 4.0, 9.0, 0.0]), jnp.array([4.0, 0.0, 1.0, 0.0])
    expected = jnp.linalg.norm(jnp.sqrt(first) - jnp.sqrt(second))
    assert_close(bures(jnp.diag(first), jnp.diag(second)), expected)


@pytest.mark.float64
def test_near_covariances_keep_their_digits(rng):
    covariance = random_covariance(rng)
    assert bures(covariance, covariance) == 0
    stretched = (1 + 1e-9) ** 2 * covariance
    # B(A, c^2 A) = |c - 1| sqrt(tr A); the textbook formula loses half of the digits
    assert_close(bures(covariance, stretched), 1e-9 * jnp.trace(covariance) ** 0.5, rtol=1e-5)


@pytest.mark.float64
@pytest.mark.slow
def test_is_the_distance_of_a_measure_to_its_image_under_a_positive_map(rng):
    mu = random_measure(rng, 8, 4)
    matrix, shift = random_covariance(rng), jnp.arange(4.0)
    image = mu.pushforward(lambda x: matrix @ x + shift)
    assert_close(gaussian_wasserstein(mu, image), mf.wasserstein(mu, image))
    heavy = [mf.Measure(m.points, 9 * m.weights) for m in (mu, image)]
    assert_close(gaussian_wasserstein(*heavy), 3 * mf.wasserstein(mu, image))
    found = gaussian_map(mu, image)
    assert_close(found.matrix, matrix, rtol=1e-8)
    assert_close(mu.pushforward(found).points, image.points, rtol=1e-8)


@pytest.mark.slow
def test_is_never_more_than_the_distance_between_measures(rng):
    for _ in range(5):
        mu, nu = random_pair(rng, d=4)
        assert gaussian_wasserstein(mu, nu) < mf.wasserstein(mu, nu)


@pytest.mark.slow
def test_what_stands_at_an_absent_atom_does_not_matter(rng):
    mu, nu = random_pair(rng, d=4, absent=2)
    odd = mf.Measure(mu.points.at[-1].set(jnp.nan), mu.weights)
    assert_close(gaussian_wasserstein(odd, nu), gaussian_wasserstein(mu, nu))
    slopes = jax.grad(gaussian_wasserstein)(odd, nu)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))


@pytest.mark.float64
@pytest.mark.slow
def test_derivatives_of_the_distance_match_finite_differences_twice(rng):
    one, other, direction = random_covariance(rng), random_covariance(rng), symmetric(rng)

    def along(t):
        return bures(one + t * direction, other)

    slope = jax.jit(jax.grad(along))
    assert_close(slope(0.0), (along(1e-6) - along(-1e-6)) / 2e-6, rtol=1e-6)
    curvature = jax.grad(jax.grad(along))(0.0)
    assert_close(curvature, (slope(1e-6) - slope(-1e-6)) / 2e-6, rtol=1e-6)


@pytest.mark.float64
@pytest.mark.slow
def test_slopes_at_singular_covariances_are_finite_and_right_within_their_range(rng):
    factor = jnp.asarray(rng.normal(size=(4, 2)))
    one, other = factor @ factor.T, random_covariance(rng)
    inside = factor @ symmetric(rng, 2) @ factor.T
    slope = jax.grad(lambda a: bures(a, other))(one)
    ends = [bures(one + t * inside, other) for t in (-1e-6, 1e-6)]
    assert jnp.all(jnp.isfinite(slope))
    assert_close(jnp.sum(slope * inside), (ends[1] - ends[0]) / 2e-6, rtol=1e-5)
    zero = jax.grad(lambda a: bures(a, jnp.zeros((4, 4))))(jnp.zeros((4, 4)))
    assert jnp.all(zero == 0)


@pytest.mark.slow
def test_the_square_root_squares_and_differentiates(rng):
    matrix, direction = random_covariance(rng), symmetric(rng)
    root, slope = jax.jvp(square_root, (matrix,), (direction,))
    assert_close(root @ root, matrix)
    assert_close(slope @ root + root @ slope, direction)
    low = random_covariance(rng, rank=2)
    assert_close(square_root(low) @ square_root(low), low)


@pytest.mark.slow
def test_works_under_jit_and_vmap(rng):
    stack = jnp.stack([random_covariance(rng) for _ in range(3)])
    pairs = jax.jit(jax.vmap(bures, in_axes=(None, 0)))(stack[0], stack)
    assert_close(pairs, [bures(stack[0], each) for each in stack])
    slopes = jax.vmap(jax.grad(bures), in_axes=(0, None))(stack[1:], stack[0])
    assert_close(slopes[1], jax.grad(bures)(stack[2], stack[0]))


@pytest.mark.slow
def test_float32_stays_float32_and_agrees(rng):
    one, other = random_covariance(rng), random_covariance(rng)
    single = bures(one.astype("float32"), other.astype("float32"))
    assert single.dtype == jnp.float32
    assert_close(single, bures(one, other), rtol=1e-5)


@pytest.mark.slow
def test_the_map_carries_one_covariance_to_the_other(rng):
    mu = Gaussian(jnp.zeros(4), random_covariance(rng))
    nu = Gaussian(jnp.ones(4), random_covariance(rng))
    found = gaussian_map(mu, nu)
    assert_close(found.matrix @ mu.covariance @ found.matrix, nu.covariance, rtol=1e-8)
    assert_close(found.matrix, found.matrix.T, rtol=1e-8)
    assert_close(found(mu.mean), nu.mean)


@pytest.mark.slow
def test_the_barycentre_agrees_with_pot_and_solves_the_fixed_point_equation(rng):
    covariances = jnp.stack([random_covariance(rng) for _ in range(3)])
    means, weights = jnp.asarray(rng.normal(size=(3, 4))), np.array([0.5, 0.2, 0.3])
    sol = gaussian_barycenter(Gaussian(means, covariances), weights)
    arrays = (np.asarray(means), np.asarray(covariances), weights)
    mean, covariance = ot.gaussian.bures_wasserstein_barycenter(*arrays, num_iter=1000, eps=1e-12)
    assert_close(sol.gaussian.mean, mean)
    assert_close(sol.gaussian.covariance, covariance, rtol=1e-6)
    half = square_root(sol.gaussian.covariance)
    terms = [w * square_root(half @ c @ half) for w, c in zip(weights, covariances, strict=True)]
    assert_close(sum(terms), sol.gaussian.covariance, rtol=1e-6)
    each = [Gaussian(m, c) for m, c in zip(means, covariances, strict=True)]
    distances = jnp.array([gaussian_wasserstein(sol.gaussian, one) for one in each])
    assert_close(sol.value, weights @ distances**2)
    # and it is a minimum: no symmetric change lowers the objective
    for _ in range(3):
        factor = jnp.eye(4) + 1e-2 * symmetric(rng)
        moved = Gaussian(sol.gaussian.mean, factor @ sol.gaussian.covariance @ factor)
        further = jnp.array([gaussian_wasserstein(moved, one) for one in each])
        assert weights @ further**2 > sol.value


@pytest.mark.slow
def test_the_barycentre_of_commuting_covariances_averages_standard_deviations(rng):
    deviations = jnp.array([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    gaussians = Gaussian(jnp.zeros((2, 3)), jax.vmap(jnp.diag)(deviations**2))
    sol = gaussian_barycenter(gaussians, [0.25, 0.75])
    assert_close(sol.gaussian.covariance, jnp.diag(jnp.array([2.5, 0.5, 0.0]) ** 2), atol=1e-7)


@pytest.mark.float64
@pytest.mark.slow
def test_the_value_of_the_barycentre_has_the_slope_of_the_minimum(rng):
    covariances = jnp.stack([random_covariance(rng) for _ in range(2)])
    direction = jnp.stack([symmetric(rng), symmetric(rng)])

    def value(t):
        gaussians = Gaussian(t * jnp.eye(4)[:2], covariances + t * direction)
        return gaussian_barycenter(gaussians, [0.4, 0.6]).value

    assert_close(jax.grad(value)(0.0), (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-6)


@pytest.mark.slow
def test_bad_input_is_refused(rng):
    with pytest.raises(ValueError, match=r"`covariance` must have shape \(3, 3\)"):
        Gaussian(jnp.zeros(3), jnp.eye(2))
    with pytest.raises(ValueError, match="`covariance` must be symmetric"):
        Gaussian(jnp.zeros(2), jnp.array([[1.0, 1.0], [0.0, 1.0]]))
    with pytest.raises(eqx.EquinoxRuntimeError, match="positive semidefinite"):
        bures(jnp.diag(jnp.array([1.0, 1.0, 1.0, -1.0])), jnp.eye(4))
    with pytest.raises(eqx.EquinoxRuntimeError, match="finite"):
        bures(jnp.full((4, 4), jnp.nan), jnp.eye(4))
    with pytest.raises(ValueError, match="`gaussians` must hold K Gaussians"):
        gaussian_barycenter(Gaussian(jnp.zeros(3), jnp.eye(3)))
    several = Gaussian(jnp.zeros((2, 4)), jnp.stack([random_covariance(rng) for _ in range(2)]))
    few = gaussian_barycenter(several, max_steps=1, throw=False)
    assert few.result == RESULTS.barycenter_not_settled
    with pytest.raises(ValueError, match="total mass"):
        gaussian_wasserstein(*[mf.Measure(several.mean, w) for w in ([1.0, 1.0], [1.0, 2.0])])
