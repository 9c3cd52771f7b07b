"""Domains: what they contain, their radius, and projections that land inside."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from precision import EPS, assert_close

import meanfield as mf
from meanfield.attention import LayerNorm, RMSNorm


GAMMA, BETA = jnp.array([1.0, -0.5, 2.0, 0.0]), jnp.array([0.3, 0.0, -1.0, 0.7])
DOMAINS = {
    "ball": mf.Ball(1.5),
    "sphere": mf.Sphere(1.5),
    "layer-norm": mf.LayerNormRange(GAMMA, BETA),
    "rms-norm": mf.LayerNormRange(GAMMA, BETA, centred=False),
}
every_domain = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)


@pytest.mark.slow
@every_domain
def test_projections_lie_in_the_domain_and_within_its_radius(domain, key):
    x = domain.project(3 * jr.normal(key, (200, 4)))
    assert bool(jnp.all(domain.contains(x)))
    assert bool(jnp.all(jnp.linalg.norm(x, axis=-1) <= domain.radius * (1 + 8 * EPS)))


@every_domain
def test_projecting_twice_is_projecting_once(domain, key):
    x = domain.project(3 * jr.normal(key, (50, 4)))
    assert_close(domain.project(x), x)


@every_domain
def test_points_far_outside_are_not_contained(domain, key):
    assert not bool(jnp.any(domain.contains(100 + jr.normal(key, (50, 4)))))


def test_ball_projection_is_the_nearest_point():
    assert_close(mf.Ball(2.0).project(jnp.array([[3.0, 4.0], [0.5, 0.0]])), [[1.2, 1.6], [0.5, 0]])


def test_sphere_holds_its_surface_only():
    inside = mf.Sphere(2.0).contains(jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    assert inside.tolist() == [True, False, False]


def test_what_a_layer_norm_puts_out_lies_in_its_range(key):
    out = LayerNorm(GAMMA, BETA).point(jr.normal(key, (200, 4)) * 10)
    assert bool(jnp.all(mf.LayerNormRange(GAMMA, BETA).contains(out)))


def test_what_an_rms_norm_puts_out_lies_in_the_uncentred_range_only(key):
    gamma, zero = jnp.array([1.0, -0.5, 2.0, 0.3]), jnp.zeros(4)
    out = RMSNorm(gamma).point(jr.normal(key, (200, 4)) * 10)
    assert bool(jnp.all(mf.LayerNormRange(gamma, zero, centred=False).contains(out)))
    assert not bool(jnp.any(mf.LayerNormRange(gamma, zero).contains(out)))


def test_layer_norm_radius_is_nearly_attained(key):
    norm = LayerNorm(jnp.array([3.0, 1.0, 1.0]), jnp.array([0.5, 0.0, 0.0]), epsilon=1e-12)
    attained = jnp.max(jnp.linalg.norm(norm.point(jr.normal(key, (5000, 3))), axis=-1))
    radius = mf.LayerNormRange(norm.gamma, norm.beta).radius
    assert 0.75 * radius <= attained <= radius


def test_domains_work_under_jit_and_vmap():
    radii = jnp.array([1.0, 2.0])
    points = jnp.array([[1.5, 0.0]])
    inside = jax.jit(jax.vmap(lambda r: mf.Ball(r).contains(points)))(radii)
    assert inside.tolist() == [[False], [True]]


@pytest.mark.parametrize("domain", [mf.Ball, mf.Sphere])
@pytest.mark.parametrize("radius, got", [(-1.0, "-1.0"), (0.0, "0.0"), (np.nan, "nan")])
def test_a_radius_must_be_positive(domain, radius, got):
    with pytest.raises(ValueError, match=f"`radius` must be positive; got {got}"):
        domain(radius)


def test_a_radius_must_be_one_number():
    with pytest.raises(ValueError, match=r"`radius` must be a number.*\(2,\)"):
        mf.Ball([1.0, 2.0])


@pytest.mark.parametrize("size", [0.0, 1e-35, 1.0, 1e18])
def test_what_is_projected_on_a_sphere_lies_on_it(size):
    sphere = mf.Sphere(3.0)
    x = sphere.project(size * jnp.asarray([[3.0, -4.0], [0.0, 1.0]], jnp.float32))
    assert bool(jnp.all(sphere.contains(x)))
    if size:
        np.testing.assert_allclose(x, 3 * np.array([[0.6, -0.8], [0.0, 1.0]]), rtol=1e-6)
