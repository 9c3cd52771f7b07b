"""The minimising movement: it dissipates at every step size, and is minimal."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import meanfield as mf
from meanfield.training import Euler, MeanFieldResNet, Proximal, Record, SquaredError


X64 = jax.config.jax_enable_x64
KEEP = Record(certificate=False, distance=False, particles=True)


@pytest.fixture(scope="module")
def problem():
    net_key, x_key, y_key = jr.split(jr.key(7), 3)
    net = MeanFieldResNet.random(dim=2, depth=4, width=12, key=net_key)
    x = jr.normal(x_key, (5, 2))
    return net, (x, x + 0.5 * jr.normal(y_key, (5, 2)))


def squared_distance(one, other):
    """d^2 between particles of shape (L, M, p) by an assignment in each layer."""
    total = 0.0
    for theta, eta in zip(one, other, strict=True):
        costs = cdist(theta, eta, "sqeuclidean")
        total += costs[linear_sum_assignment(costs)].mean()
    return total / len(one)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0.1, 1.0, 10.0, 100.0])
def test_each_step_lowers_the_risk_by_the_squared_distance_over_twice_the_step(step, problem):
    net, data = problem
    run = mf.gradient_flow(
        net, SquaredError(), data, Proximal(step), 6, record_every=1, record=KEEP
    )
    moves = [
        squared_distance(a, b) for a, b in zip(run.particles[:-1], run.particles[1:], strict=True)
    ]
    slack = 1e-14 if X64 else 1e-6
    assert np.all(-np.diff(run.risk) >= np.array(moves) / (2 * step) - slack)
    assert np.all(np.diff(run.risk) < 0)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0.1, 10.0])
def test_the_step_is_minimal(step, problem):
    """The gradient field at the new point points back: g(theta+) = -(theta+ - theta) / tau."""
    net, data = problem
    method = Proximal(step, tolerance=1e-10)
    run = mf.gradient_flow(net, SquaredError(), data, method, 1, record=KEEP)
    field = mf.training.gradient_field(run.net, SquaredError(), data)
    back = (run.net.params.points - net.params.points) / step
    scale = float(jnp.sqrt(mf.training.squared_slope(net, back)))
    gap = float(jnp.sqrt(mf.training.squared_slope(net, field + back)))
    assert gap <= (1e-4 if X64 else 1e-2) * scale
    assert run.result == mf.RESULTS.successful


@pytest.mark.slow
def test_small_steps_follow_the_flow(problem):
    net, data = problem
    ends = [
        mf.gradient_flow(net, SquaredError(), data, method(step), round(2 / step), record=KEEP)
        for method, step in ((Euler, 0.001), (Proximal, 0.1), (Proximal, 0.05))
    ]
    exact, coarse, fine = (np.asarray(run.net.params.points) for run in ends)
    far, near = np.linalg.norm(coarse - exact), np.linalg.norm(fine - exact)
    assert near < 0.6 * far < 0.1 * np.linalg.norm(exact)


@pytest.mark.slow
def test_it_is_stable_where_euler_is_not(problem):
    net, data = problem
    record = Record(certificate=False, distance=False)
    with pytest.warns(RuntimeWarning, match="too large to follow"):
        euler = mf.gradient_flow(net, SquaredError(), data, Euler(30.0), 10, record=record)
    proximal = mf.gradient_flow(net, SquaredError(), data, Proximal(30.0), 10, record=record)
    assert euler.risk[-1] > euler.risk[0] and euler.result == mf.RESULTS.step_beyond_stability
    assert proximal.risk[-1] < 0.05 * proximal.risk[0]
    assert proximal.result == mf.RESULTS.successful


@pytest.mark.slow
def test_splitting_and_absent_particles_change_nothing(problem):
    net, data = problem
    record = Record(certificate=False, distance=False)
    whole = mf.gradient_flow(net, SquaredError(), data, Proximal(1.0), 2, record=record)
    split = net.with_params(net.params.split(2))
    halves = mf.gradient_flow(split, SquaredError(), data, Proximal(1.0), 2, record=record)
    atol = 1e-9 if X64 else 1e-3
    np.testing.assert_allclose(
        halves.net.params.points[:, ::2], whole.net.params.points, rtol=0, atol=atol
    )
    np.testing.assert_allclose(halves.path_length, whole.path_length, rtol=0, atol=atol)


@pytest.mark.slow
def test_a_search_that_is_cut_short_says_so_and_dissipates_all_the_same(problem):
    net, data = problem
    with pytest.warns(RuntimeWarning, match="inner search"):
        run = mf.gradient_flow(
            net, SquaredError(), data, Proximal(10.0, max_steps=3), 3, record_every=1, record=KEEP
        )
    assert run.result == mf.RESULTS.inner_steps_exhausted and run.unsettled[-1] == 3
    moves = np.diff(run.path_length) ** 2
    assert np.all(-np.diff(run.risk) >= moves / 20 - 1e-7)
