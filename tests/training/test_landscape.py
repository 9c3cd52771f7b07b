"""The Polyak-Lojasiewicz ratio lies between its certificates, and a ball of convergence holds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import as_installed, assert_close
from resnet_problems import RESIDUALS, random_data, random_net, random_pair, written_otherwise

from meanfield.attention import Affine
from meanfield.measure import RESULTS, ConditionalMeasure, Measure
from meanfield.training import (
    CrossEntropy,
    DeepLinear,
    Fixed,
    MeanFieldResNet,
    SingleHiddenLayer,
    SquaredError,
    conditional_kernel,
    convergence_ball,
    convergence_radius,
    gradient_field,
    outer_kernel,
    polyak_lojasiewicz,
    risk,
    squared_slope,
)
from meanfield.training.convergence import Centre
from meanfield.training.eigenvalues import enclosed


LOSS = SquaredError()


def wide_net(key, width=12, scale=1.0):
    net = random_net(key, width=width)
    return net.with_points(scale * net.params.points)


@pytest.mark.slow
def test_the_kernel_of_a_hidden_layer_is_its_closed_form(key):
    """K = K_u x I + K_w, K_w = sum_j a_j (<x, x'> + 1) s'(x) s'(x') u u^T."""
    net, (x, _) = random_net(key, depth=1), random_data(key)
    (theta,), (a,) = net.params.points, net.params.weights
    u, w, b = theta[:, :2], theta[:, 2:4], theta[:, 4]
    z = x @ w.T + b
    sigma, slope = jnp.tanh(z), 1 - jnp.tanh(z) ** 2
    K_u = jnp.einsum("j,ij,lj->il", a, sigma, sigma)
    K_w = jnp.einsum("j,ij,lj,jc,je->icle", a, slope, slope, u, u)
    K = jnp.einsum("il,ce->icle", K_u, jnp.eye(2)) + (x @ x.T + 1)[:, None, :, None] * K_w
    assert_close(outer_kernel(net, x, 0), K_u)
    assert_close(conditional_kernel(net, x, 0), K.reshape(10, 10))


@pytest.mark.slow
@pytest.mark.parametrize("kind", RESIDUALS)
def test_the_whole_kernel_is_at_least_the_outer_one(kind, key):
    net, (x, _) = random_pair(kind, key)
    whole, outer = conditional_kernel(net, x, 1), outer_kernel(net, x, 1)
    rest = np.linalg.eigvalsh(whole - np.kron(outer, np.eye(2)))
    assert rest[0] > -1e-12 * rest[-1] - 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("kind", RESIDUALS)
def test_the_ratio_lies_between_its_certificates(kind, key):
    net, data = random_pair(kind, key)
    found = polyak_lojasiewicz(net, LOSS, data)
    slope = squared_slope(net, gradient_field(net, LOSS, data))
    assert_close(found.ratio, slope / risk(net, LOSS, data))
    assert 0 <= found.certified_outer <= found.certified * (1 + 1e-6) <= found.ratio
    assert found.ratio <= found.certified_above


@pytest.mark.slow
def test_a_hundred_random_networks_are_never_below_their_certificate():
    for i, scale in enumerate(np.geomspace(0.3, 2.3, 100)):
        net = wide_net(jr.key(i), width=24, scale=scale)
        found = polyak_lojasiewicz(net, LOSS, random_data(jr.key(1000 + i), n=8))
        assert 0 < found.certified <= found.ratio <= found.certified_above


@pytest.mark.slow
def test_the_certificate_is_an_equality_where_the_kernel_is_a_multiple_of_the_identity(key):
    """One deep linear layer and one example: K = |x|^2 I, and both sides meet."""
    net = MeanFieldResNet.random(dim=2, depth=1, width=3, key=key, residual=DeepLinear(outer=1.0))
    x, y = random_data(key, n=1)
    found = polyak_lojasiewicz(net, LOSS, (x, y))
    expected = 2 * jnp.sum(x**2)
    for value in (found.certified, found.ratio, found.certified_above, found.certified_outer):
        assert_close(value, expected)
    assert found.certified <= found.ratio <= found.certified_above


@pytest.mark.slow
def test_with_fewer_particles_than_examples_the_outer_certificate_is_exactly_zero(key):
    net = random_net(key, width=4)
    found = polyak_lojasiewicz(net, LOSS, random_data(key, n=5))
    assert found.certified_outer == 0 < found.certified < found.ratio  # K_w has rank up to 20
    start = net.with_points(net.params.points.at[..., :2].set(0))  # K_w = 0 where u = 0
    found = polyak_lojasiewicz(start, LOSS, random_data(key, n=5))
    assert found.certified == found.certified_outer == 0 < found.ratio
    assert found.result == RESULTS.certificate_is_zero
    assert "at least as many particles" in RESULTS[found.result]


def test_particles_written_twice_do_not_help_a_certificate(key):
    net, data = random_net(key, width=4), random_data(key, n=5)
    found = polyak_lojasiewicz(net.with_params(net.params.split(3)), LOSS, data, whole=False)
    assert found.certified_outer == 0 and np.isnan(found.certified)


def test_equal_examples_make_the_certificate_zero(key):
    x, y = random_data(key)
    found = polyak_lojasiewicz(wide_net(key), LOSS, (x.at[1].set(x[0]), y))
    assert found.certified == 0 and found.certified_above >= found.ratio


@pytest.mark.slow
def test_certificates_do_not_depend_on_how_the_measure_is_written(key):
    net, data = wide_net(key), random_data(key)
    expected = polyak_lojasiewicz(net, LOSS, data)
    other = net.with_params(written_otherwise(net.params))
    found = polyak_lojasiewicz(other, LOSS, data)
    assert_close(found.ratio, expected.ratio)
    assert_close(found.certified, expected.certified, rtol=1e-8)
    assert_close(found.certified_above, expected.certified_above)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_certificates_are_those_of_float64_whatever_the_precision_of_jax():
    rng = np.random.default_rng(0)
    points, x = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 12, 5), (5, 2)))
    points[..., :2] /= 64
    y = x + np.float32(1e-4)
    masses = np.full((3, 12), 1 / 16, np.float32), np.full(3, 0.25, np.float32)

    def certified():
        net = MeanFieldResNet(SingleHiddenLayer(), ConditionalMeasure(points, *masses))
        found, ball = polyak_lojasiewicz(net, LOSS, (x, y)), convergence_ball(net, LOSS, (x, y))
        return [found.ratio, found.certified, found.certified_above, ball.radius, ball.constant]

    with jax.enable_x64(False):
        single = certified()
    with jax.enable_x64(True):
        points, x, y = (a.astype(np.float64) for a in (points, x, y))
        assert certified() == single


@pytest.mark.slow
def test_absent_tokens_change_no_certificate(key):
    net, (mu, y) = random_net(key, "heads", width=9, depth=1), random_data(key, "heads", n=2)
    expected = polyak_lojasiewicz(net, LOSS, (mu, y))
    wide = Measure(
        jnp.pad(mu.points, ((0, 0), (0, 1), (0, 0))), jnp.pad(mu.weights, ((0, 0), (0, 1)))
    )
    found = polyak_lojasiewicz(net, LOSS, (wide, jnp.pad(y, ((0, 0), (0, 1), (0, 0)))))
    assert expected.certified > 0
    assert_close(found.certified, expected.certified, rtol=1e-6)
    assert_close(found.certified_above, expected.certified_above)


@pytest.mark.slow
def test_a_readout_and_cross_entropy_are_certified_too(key):
    net = wide_net(key)
    net = MeanFieldResNet(net.residual, net.params, readout=Affine(jr.normal(key, (3, 2))))
    found = polyak_lojasiewicz(net, CrossEntropy(), (random_data(key)[0], jnp.arange(5) % 3))
    assert 0 < found.certified <= found.ratio <= found.certified_above


@pytest.mark.parametrize("shape", [(3, 3), (6, 9), (30, 40)])
def test_eigenvalues_are_enclosed_tightly(shape):
    F = np.random.default_rng(0).standard_normal(shape)
    values = np.linalg.svd(F, compute_uv=False) ** 2
    lower, upper = enclosed(F @ F.T, shape[1])
    assert lower <= values[-1] and values[0] <= upper
    assert values[-1] - lower < 1e-10 * values[0] and upper - values[0] < 1e-10 * values[0]


def test_a_singular_gram_matrix_has_the_lower_bound_zero():
    for seed in range(50):
        F = np.random.default_rng(seed).standard_normal((6, 5)) * 10.0 ** (seed % 7)
        assert enclosed(F @ F.T, 5)[0] == 0.0


# the theorem


def small_problem(gap=3e-4):
    net = MeanFieldResNet.random(dim=2, depth=4, width=32, key=jr.key(0))
    x = jr.normal(jr.key(1), (3, 2))
    return net, (x, x + gap * jr.normal(jr.key(2), (3, 2)))


@pytest.mark.slow
def test_where_convergence_is_proved_the_flow_stays_in_the_ball_and_falls_at_the_rate():
    net, data = small_problem()
    ball = convergence_ball(net, LOSS, data)
    assert ball.proved and ball.needed == convergence_radius(ball.constant, ball.risk)
    assert ball.risk < ball.risk_allowed

    @eqx.filter_jit
    def step(net, tau=0.1):
        field = gradient_field(net, LOSS, data)
        speed = jnp.sqrt(squared_slope(net, field))
        return net.with_points(net.params.points - tau * field), tau * speed

    length, start = 0.0, net
    for _ in range(300):
        net, more = step(net)
        length += float(more)
    assert risk(net, LOSS, data) <= ball.risk * np.exp(-ball.constant * 30.0)
    assert length <= ball.needed
    moved = net.params.points - start.params.points
    assert squared_slope(start, moved) <= ball.radius**2


@pytest.mark.slow
@pytest.mark.parametrize("outer", [0.0, 0.04])
def test_no_measure_of_the_ball_is_flatter_than_its_constant(outer):
    net, data = small_problem()
    start = net.with_points(net.params.points.at[..., :2].set(outer))
    ball = convergence_ball(start, LOSS, data)
    assert ball.constant > 0
    found = polyak_lojasiewicz(start, LOSS, data, whole=False)
    centre = Centre.of(start, data[0], found, (1.0, 1.0))
    hidden = eqx.filter_jit(lambda net: jax.vmap(net.hidden)(data[0]))
    for seed in range(40):
        way = jr.normal(jr.key(seed), net.params.points.shape)
        if seed % 2:  # all of the radius in one layer
            way = way * (jnp.arange(4) == seed % 4)[:, None, None]
        way = way * ball.radius / jnp.sqrt(squared_slope(start, way))
        there = start.with_points(start.params.points + way)
        slope = squared_slope(there, gradient_field(there, LOSS, data))
        ratio = slope / risk(there, LOSS, data)
        assert ratio >= ball.constant
        moved = jnp.linalg.norm(hidden(there) - hidden(start), axis=-1)
        assert jnp.max(moved) <= centre.moved(ball.radius)


@pytest.mark.slow
def test_a_large_risk_is_not_proved_to_be_fitted():
    ball = convergence_ball(*small_problem(gap=1.0)[:1], LOSS, small_problem(gap=1.0)[1])
    assert not ball.proved and "nothing is proved" in repr(ball)
    assert convergence_radius(0.0, 1.0) == np.inf


@pytest.mark.slow
def test_bad_inputs_are_named(key):
    net, data = small_problem()
    relu = MeanFieldResNet(SingleHiddenLayer(jax.nn.relu), net.params)
    free = MeanFieldResNet(net.residual, net.params, embedding=Affine(jnp.eye(2)))
    fixed = MeanFieldResNet(net.residual, net.params, embedding=Fixed(Affine(jnp.eye(2))))
    with as_installed():
        with pytest.raises(ValueError, match="`activation_bounds` must be"):
            convergence_ball(relu, LOSS, data)
        with pytest.raises(ValueError, match="embedding that is not trained"):
            convergence_ball(free, LOSS, data)
        with pytest.raises(ValueError, match="`loss` must be SquaredError"):
            convergence_ball(net, CrossEntropy(), data)  # pyright: ignore
        with pytest.raises(ValueError, match="SingleHiddenLayer residuals"):
            convergence_ball(random_net(key, "deep-linear"), LOSS, data)
        with pytest.raises(ValueError, match="at most 4096 rows; got 6000"):
            polyak_lojasiewicz(net, LOSS, (jnp.ones((3000, 2)), jnp.ones((3000, 2))))
        with pytest.raises(ValueError, match="the risk must be finite"):
            polyak_lojasiewicz(net, LOSS, (data[0] * jnp.inf, data[1]))
    assert convergence_ball(fixed, LOSS, data).proved
