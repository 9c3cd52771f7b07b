"""The gradient field three ways, what it does to the risk, and its limit in depth."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from random_maps import assert_close
from resnet_problems import RESIDUALS, random_data, random_net, random_pair

from meanfield.measure import ConditionalMeasure
from meanfield.training import (
    ContinuousResNet,
    MeanFieldResNet,
    SingleHiddenLayer,
    SquaredError,
    adjoint_field,
    first_variation,
    gradient_field,
    risk,
    squared_slope,
)


every_residual = pytest.mark.parametrize("kind", RESIDUALS)
LOSS = SquaredError()


def test_for_equal_masses_the_field_is_the_gradient_times_depth_times_width(key):
    L, M = 4, 3
    net = MeanFieldResNet.random(
        dim=2, depth=L, width=M, key=key, residual=SingleHiddenLayer(outer=1.0)
    )
    data = random_data(key)
    plain = jax.jit(jax.grad(lambda points: risk(net.with_points(points), LOSS, data)))
    expected = L * M * plain(net.params.points)
    assert_close(gradient_field(net, LOSS, data), expected, rtol=1e-12, atol=1e-12)


@functools.cache
def computed(kind):
    """Everything about one random problem of a kind, from one program: the field twice, the first
    variation and the derivative in the masses, the squared slope and the rate along the field."""
    net, data = random_pair(kind, jr.key(3))
    mu = net.params

    def of_masses(weights):
        return risk(net.with_params(ConditionalMeasure(mu.points, weights, mu.base)), LOSS, data)

    @jax.jit
    def all_of_them():
        field = gradient_field(net, LOSS, data)

        def along(t):
            return risk(net.with_points(mu.points - t * field), LOSS, data)

        return {
            "field": field,
            "adjoint": adjoint_field(net, LOSS, data),
            "variation": first_variation(net, LOSS, data, mu.points),
            "by mass": jax.grad(of_masses)(mu.weights) / mu.base[:, None],
            "slope": squared_slope(net, field),
            "rate": jax.jvp(along, (0.0,), (1.0,))[1],
        }

    return all_of_them()


@pytest.mark.slow
@every_residual
def test_the_field_is_that_of_the_adjoint_recursion(kind):
    found = computed(kind)
    assert_close(found["field"], found["adjoint"], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@every_residual
def test_moving_against_the_field_lowers_the_risk_at_the_rate_of_the_squared_slope(kind):
    found = computed(kind)
    assert_close(found["rate"], -found["slope"], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@every_residual
def test_the_first_variation_is_the_derivative_in_the_mass(kind):
    found = computed(kind)
    assert_close(found["variation"], found["by mass"], rtol=1e-12, atol=1e-12)


@pytest.mark.slow  # differences need float64
def test_a_little_mass_anywhere_changes_the_risk_by_the_first_variation(key):
    net, data = random_net(key), random_data(key)
    mu, omega, epsilon = net.params, jr.normal(key, (3, 1, 5)), 1e-6
    expected = first_variation(net, LOSS, data, omega)[1, 0]

    def with_mass(epsilon):
        points = jnp.concatenate([mu.points, omega], axis=1)
        weights = jnp.pad(mu.weights, ((0, 0), (0, 1))).at[1, -1].set(epsilon / mu.base[1])
        return risk(net.with_params(ConditionalMeasure(points, weights, mu.base)), LOSS, data)

    zero, once, twice = (with_mass(t) for t in (0.0, epsilon, 2 * epsilon))
    assert_close((4 * once - twice - 3 * zero) / (2 * epsilon), expected, rtol=1e-7, atol=1e-8)


def test_the_gradient_of_the_first_variation_is_the_field(key):
    net, data = random_net(key), random_data(key)
    total = jax.grad(lambda omega: jnp.sum(first_variation(net, LOSS, data, omega)))
    assert_close(total(net.params.points), gradient_field(net, LOSS, data), 1e-12, 1e-12)


def test_the_field_can_be_batched_over_networks(key):
    nets = [random_net(k) for k in jr.split(key, 2)]
    both = jax.tree.map(lambda *a: jnp.stack(a) if eqx.is_array(a[0]) else a[0], *nets)
    data = random_data(key)
    arrays, rest = eqx.partition(both, eqx.is_array)
    fields = jax.jit(jax.vmap(lambda a: gradient_field(eqx.combine(a, rest), LOSS, data)))(arrays)
    assert_close(fields[1], gradient_field(nets[1], LOSS, data))


class Waves(eqx.Module):
    """Particles that turn smoothly with depth."""

    first: jax.Array
    second: jax.Array

    def __call__(self, s):
        return self.first * jnp.cos(2 * s) + self.second * jnp.sin(3 * s)


def waving(key):
    waves = Waves(*jr.normal(key, (2, 4, 5)))
    return ContinuousResNet(SingleHiddenLayer(), waves, jnp.full(4, 0.25), 1e-9)


@pytest.mark.slow
def test_outputs_and_field_approach_the_continuous_network_at_the_rate_of_one_over_depth(key):
    continuous, (x, y) = waving(jr.key(0)), random_data(jr.key(1), n=3)
    output = jax.jit(jax.vmap(continuous))(x)
    middle = eqx.filter_jit(continuous.gradient_field)(LOSS, (x, y), jnp.array([0.5]))[0]

    def errors(L):
        net = continuous.discretize(L)
        field = gradient_field(net, LOSS, (x, y))[L // 2]
        return jnp.array(
            [jnp.linalg.norm(net.outputs(x) - output), jnp.linalg.norm(field - middle)]
        )

    found = [errors(L) for L in (128, 256, 512)]
    for coarse, fine in zip(found, found[1:], strict=False):
        assert_close(coarse / fine, jnp.array([2.0, 2.0]), rtol=0.01)


@pytest.mark.slow
def test_the_continuous_field_lowers_the_continuous_risk(key):
    """Its adjoint equation against differences of the risk as particles move at every depth."""
    continuous, data = waving(key), random_data(key, n=2)
    depths, epsilon = (jnp.arange(64) + 0.5) / 64, 1e-4
    field = eqx.filter_jit(continuous.gradient_field)(LOSS, data, depths)
    rate = jnp.mean(jnp.sum(0.25 * field * jnp.ones((4, 5)), axis=(1, 2)))

    @jax.jit
    def shifted(t):
        def particles(s):
            return continuous.particles(s) + t

        moved = ContinuousResNet(continuous.residual, particles, continuous.weights, 1e-9)
        return jnp.mean(jax.vmap(lambda x, y: LOSS(moved(x), y))(*data))

    difference = (shifted(epsilon) - shifted(-epsilon)) / (2 * epsilon)
    assert_close(rate, difference, rtol=2e-3)  # the midpoint rule over depth
