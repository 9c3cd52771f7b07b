"""The gradient flow of a network: its laws, its order, its identities, against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import meanfield as mf
from meanfield.training import (
    Euler,
    Fixed,
    Heun,
    MeanFieldResNet,
    Optax,
    Proximal,
    Record,
    SquaredError,
)


QUICK = Record(certificate=False, distance=False)
X64 = jax.config.jax_enable_x64


def problem(key, *, depth=4, width=12, examples=5, outer=0.3):
    net_key, x_key, y_key = jr.split(key, 3)
    residual = mf.training.SingleHiddenLayer(outer=outer)
    net = MeanFieldResNet.random(dim=2, depth=depth, width=width, key=net_key, residual=residual)
    x = jr.normal(x_key, (examples, 2))
    return net, (x, x + 0.5 * jr.normal(y_key, (examples, 2)))


def points(run):
    return np.asarray(run.net.params.points)


def close(a, b, exact=1e-12, single=1e-4):
    np.testing.assert_allclose(a, b, rtol=0, atol=exact if X64 else single)


@pytest.fixture(scope="module")
def run():
    """A run of the prototype: no output weights at the start, small steps, many records."""
    net, data = problem(jr.key(3), depth=8, width=24, outer=0.0)
    record = Record(certificate=False)
    return mf.gradient_flow(
        net, SquaredError(), data, Euler(0.1), 1500, record_every=75, record=record
    )


@pytest.mark.slow
def test_euler_is_gradient_descent_with_the_rate_divided_by_the_mass(key):
    net, data = problem(key)
    run = mf.gradient_flow(net, SquaredError(), data, Euler(0.1), 5, record=QUICK)
    theta, rate = net.params.points, 0.1 * 4 * 12
    for _ in range(5):
        gradient = jax.grad(
            lambda theta: mf.training.risk(net.with_points(theta), SquaredError(), data)
        )(theta)
        theta = theta - rate * gradient
    close(points(run), theta)


def test_optax_sgd_is_euler(key):
    net, data = problem(key)
    one = mf.gradient_flow(net, SquaredError(), data, Euler(0.1), 7, record=QUICK)
    other = mf.gradient_flow(net, SquaredError(), data, Optax(optax.sgd(0.1)), 7, record=QUICK)
    close(points(one), points(other))
    assert np.all(np.isnan(other.times)) and one.times[-1] == pytest.approx(0.7)


def test_adam_moves_each_number_by_its_rate_whatever_the_masses(key):
    net, data = problem(key)
    method = Optax(optax.adam(1e-3, eps=0.0))
    after = mf.gradient_flow(net, SquaredError(), data, method, 1, record=QUICK)
    close(np.abs(points(after) - net.params.points), 1e-3, exact=1e-14, single=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Euler(0.2), Heun(0.2), Optax(optax.adam(0.01))])
def test_splitting_a_particle_leaves_the_flow_unchanged(method, key):
    net, data = problem(key)
    whole = mf.gradient_flow(net, SquaredError(), data, method, 20, record=QUICK)
    halves = net.with_params(net.params.split(2))
    split = mf.gradient_flow(halves, SquaredError(), data, method, 20, record=QUICK)
    close(points(split)[:, ::2], points(whole))
    close(points(split)[:, 1::2], points(whole))
    close(split.path_length, whole.path_length)
    close(split.slope, whole.slope)


def test_order_of_particles_and_absent_ones_change_nothing(key):
    net, data = problem(key)
    theta = net.params.points
    padded = jnp.concatenate([theta[:, ::-1], jnp.full_like(theta[:, :3], 9.0)], axis=1)
    weights = jnp.concatenate([net.params.weights, jnp.zeros((4, 3))], axis=1)
    other = net.with_params(mf.ConditionalMeasure(padded, weights, net.params.base))
    one = mf.gradient_flow(net, SquaredError(), data, Heun(0.2), 10, record=QUICK)
    two = mf.gradient_flow(other, SquaredError(), data, Heun(0.2), 10, record=QUICK)
    close(points(two)[:, 11::-1], points(one))
    close(points(two)[:, 12:], 9.0, exact=0)
    close(two.index_distance, one.index_distance)


@pytest.mark.float64  # differences of order 1e-9
@pytest.mark.parametrize(("method", "order"), [(Euler, 1), (Heun, 2)])
def test_the_error_falls_with_the_order_of_the_method(method, order, key):
    net, data = problem(key)

    def at_time_one(step):
        steps = round(1 / step)
        return points(
            mf.gradient_flow(net, SquaredError(), data, method(step), steps, record=QUICK)
        )

    coarse, middle, fine = (at_time_one(step) for step in (0.02, 0.01, 0.005))
    ratio = np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine)
    assert np.log2(ratio) == pytest.approx(order, abs=0.03)


def test_risk_falls_by_the_integral_of_the_squared_slope(key):
    net, data = problem(key)
    run = mf.gradient_flow(net, SquaredError(), data, Heun(0.01), 200, record_every=1, record=QUICK)
    squares = run.slope**2
    dissipated = np.sum((squares[1:] + squares[:-1]) / 2 * np.diff(run.times))
    assert run.risk[0] - run.risk[-1] == pytest.approx(dissipated, rel=0.01**2 if X64 else 1e-3)


@pytest.mark.slow
def test_the_rate_late_in_training_is_the_polyak_lojasiewicz_ratio(run):
    late = slice(len(run.rate) // 2, None)
    means = (run.polyak_lojasiewicz[1:] + run.polyak_lojasiewicz[:-1]) / 2
    np.testing.assert_allclose(run.rate[late], means[late], rtol=0.01)


@pytest.mark.slow
def test_the_certified_ratio_is_never_above_the_measured_one(key):
    net, data = problem(key, outer=0.0)
    run = mf.gradient_flow(net, SquaredError(), data, Euler(0.2), 100, record_every=50)
    assert np.all(run.certified <= run.polyak_lojasiewicz) and np.all(run.certified > 0)


@pytest.mark.slow
def test_distances_and_paths_are_in_order(run):
    assert run.distance[0] == run.path_length[0] == 0
    assert np.all(run.distance <= run.index_distance * (1 + 1e-6))
    assert np.all(run.index_distance <= run.path_length * (1 + 1e-6))
    assert np.all(run.path_length <= run.path_bound * (1 + 1e-6))
    assert run.result == mf.RESULTS.successful


@pytest.mark.slow
def test_distances_are_those_of_conditional_transport(run):
    first, _ = problem(jr.key(3), depth=8, width=24, outer=0.0)
    exact = mf.conditional_wasserstein(run.net.params, first.params)
    assert run.distance[-1] == pytest.approx(float(exact), rel=1e-6)
    assert np.sqrt(np.mean(run.layer_distance[-1] ** 2)) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.slow
def test_the_conclusions_of_the_convergence_theorem_hold_on_a_run(run):
    ball = run.ball()
    assert ball.inside and ball.travelled < ball.radius and ball.excess < 1e-3
    assert ball.constant <= np.min(run.polyak_lojasiewicz)
    wrong = run.ball(constant=100 * ball.constant)
    assert not wrong.inside and wrong.excess > 0


def test_exact_distances_see_through_a_permutation(key):
    net, _ = problem(key)
    mixed = net.params.with_points(net.params.points[:, ::-1])
    assert np.all(mf.training.layer_distances(net.params, mixed) == 0)
    assert np.all(mf.training.index_layer_distances(net.params, mixed) > 0.1)


def test_particles_are_kept_where_asked(key):
    net, data = problem(key)
    record = Record(certificate=False, distance=False, particles=True)
    run = mf.gradient_flow(net, SquaredError(), data, Euler(0.1), 4, record_every=2, record=record)
    assert run.particles is not None and run.particles.shape == (3, *net.params.points.shape)
    np.testing.assert_array_equal(run.particles[0], net.params.points)
    np.testing.assert_array_equal(run.particles[-1], run.net.params.points)


def test_ends_are_trained_unless_they_are_fixed(key):
    net, data = problem(key)
    linear = eqx.nn.Linear(2, 2, key=key)
    ended = MeanFieldResNet(net.residual, net.params, Fixed(linear), linear)
    run = mf.gradient_flow(ended, SquaredError(), data, Euler(0.1), 3, record=QUICK)
    trained, frozen = run.net.readout, run.net.embedding
    assert np.array_equal(frozen.module.weight, linear.weight)
    assert not np.array_equal(trained.weight, linear.weight)
    ends = np.sum((trained.weight - linear.weight) ** 2) + np.sum((trained.bias - linear.bias) ** 2)
    layers = mf.training.index_layer_distances(run.net.params, net.params)
    whole = np.sqrt(np.mean(np.square(layers)) + ends)
    assert run.index_distance[-1] == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.slow
def test_mini_batches_depend_on_the_key_alone_and_an_epoch_sees_each_example_once(key):
    net, (x, y) = problem(key, examples=6)

    def trained(key, size):
        return mf.gradient_flow(
            net, SquaredError(), (x, y), Euler(0.1), 3, batch_size=size, key=key, record=QUICK
        )

    one, same, other = (points(trained(jr.key(k), 2)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    full = mf.gradient_flow(net, SquaredError(), (x, y), Euler(0.1), 3, record=QUICK)
    close(points(trained(jr.key(0), 6)), points(full))
    order = mf.training.steps.Batches(2, jr.key(0)).order(jnp.array(4), 6)
    assert sorted(np.asarray(order)) == list(range(6))


def test_single_precision_stays_single(key):
    net, data = problem(key)
    narrow = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, (net, data))
    run = mf.gradient_flow(narrow[0], SquaredError(), narrow[1], Heun(0.1), 5, record=QUICK)
    wide = mf.gradient_flow(net, SquaredError(), data, Heun(0.1), 5, record=QUICK)
    assert run.net.params.points.dtype == jnp.float32
    np.testing.assert_allclose(points(run), points(wide), atol=1e-5)


@pytest.mark.slow
def test_attention_heads_are_trained_on_measures_of_tokens(key):
    x_key, y_key, net_key = jr.split(key, 3)
    heads = mf.training.AttentionHeads(2, outer=0.5)
    net = MeanFieldResNet.random(dim=2, depth=2, width=3, key=net_key, residual=heads)
    x = mf.Measure(jr.normal(x_key, (4, 5, 2)))
    data = (x, x.points + jr.normal(y_key, (4, 5, 2)))
    run = mf.gradient_flow(net, SquaredError(), data, Euler(0.1), 3, record_every=1)
    field = mf.training.gradient_field(net, SquaredError(), data)
    slope = jnp.sqrt(mf.training.squared_slope(net, field))
    assert run.slope[0] == pytest.approx(float(slope), rel=1e-5)
    assert np.all(np.diff(run.risk) < 0) and np.all(run.certified <= run.polyak_lojasiewicz)
    batch = mf.gradient_flow(
        net, SquaredError(), data, Euler(0.1), 3, batch_size=4, key=key, record=QUICK
    )
    close(points(batch), points(run))


def parabola():
    """One particle W with the risk W^2 / 2: the map x -> (1 + W) x, asked to be the identity."""
    params = mf.ConditionalMeasure(jnp.ones((1, 1, 1)))
    one = jnp.ones((1, 1))
    return MeanFieldResNet(mf.training.DeepLinear(), params), (one, one)


def test_on_a_parabola_the_flow_fills_its_ball_and_its_path_bound():
    net, data = parabola()
    run = mf.gradient_flow(net, SquaredError(), data, Euler(0.5), 20, record=QUICK)
    np.testing.assert_allclose(run.polyak_lojasiewicz, 2.0, rtol=1e-6)
    np.testing.assert_allclose(run.path_length, run.path_bound, rtol=1e-5)
    assert run.ball().radius == pytest.approx(1.0) and run.result == mf.RESULTS.successful


def test_steps_that_overshoot_a_parabola_have_a_path_longer_by_the_predicted_factor():
    net, data = parabola()
    with pytest.warns(RuntimeWarning, match="too large to follow"):
        run = mf.gradient_flow(net, SquaredError(), data, Euler(1.5), 40, record=QUICK)
    assert run.risk[-1] < 1e-6 * run.risk[0]
    assert run.path_length[-1] / run.path_bound[-1] == pytest.approx(1.5 / (2 - 1.5), rel=1e-4)
    assert run.result == mf.RESULTS.step_beyond_stability


@pytest.mark.slow
def test_the_proximal_step_on_a_parabola_divides_by_one_plus_the_step():
    net, data = parabola()
    run = mf.gradient_flow(net, SquaredError(), data, Proximal(3.0), 2, record=QUICK)
    close(points(run), 1 / 16, exact=1e-7, single=1e-4)


def test_a_risk_that_reaches_zero_leaves_the_ratios_that_were_met():
    net, data = parabola()
    run = mf.gradient_flow(net, SquaredError(), data, Euler(1.0), 3, record_every=1, record=QUICK)
    assert list(run.risk[1:]) == [0, 0, 0] and run.least_ratio[-1] == 2
    assert run.result == mf.RESULTS.successful and run.ball().travelled == pytest.approx(1.0)
    assert np.isnan(run.polyak_lojasiewicz[-1]) and np.isnan(run.rate[-1])
