"""Any optax transformation trains, those that ask for the risk or search along lines too."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from random_maps import as_installed

import meanfield as mf
from meanfield.measure import ConditionalMeasure
from meanfield.training import Euler, MeanFieldResNet, Optax, Record, SquaredError, risk


QUICK = Record(certificate=False, distance=False)
X64 = jax.config.jax_enable_x64
SEARCHES = {
    "zoom": optax.lbfgs(),
    "backtracking": optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(10)),
}


@pytest.fixture(scope="module")
def problem():
    net = MeanFieldResNet.random(dim=2, depth=3, width=6, key=jr.key(0))
    x = jr.normal(jr.key(1), (8, 2))
    return net, (x, x + 0.5)


def trained(net, data, transformation, steps, **settings):
    settings = {"record": QUICK} | settings
    return mf.gradient_flow(net, SquaredError(), data, Optax(transformation), steps, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_lbfgs_on_equal_masses_is_that_of_optax(problem, name):
    """In the unit of one mass for all, which only scales the first step."""
    net, data = problem
    steps, root = 4, net.params.masses[0, 0] ** 0.5

    def value(u):
        return risk(net.with_points(u / root), SquaredError(), data)

    u, search = net.params.points * root, SEARCHES[name]
    state = jax.tree.map(jnp.asarray, search.init(u))
    for _ in range(steps):
        here, gradient = jax.value_and_grad(value)(u)
        update, state = search.update(gradient, state, u, value=here, grad=gradient, value_fn=value)
        u = u + update
    run = trained(net, data, search, steps)
    atol = 1e-9 if X64 else 1e-3
    np.testing.assert_allclose(run.net.params.points, u / root, rtol=0, atol=atol)
    assert run.risk[-1] < 0.2 * run.risk[0]


@pytest.mark.slow
def test_lbfgs_sees_the_measure_and_not_how_it_is_written(problem):
    net, data = problem
    mu = net.params
    points, weights = (jnp.repeat(a, 2, axis=1) for a in (mu.points, mu.weights / 2))
    points = jnp.pad(points, ((0, 0), (0, 1), (0, 0)), constant_values=jnp.nan)
    split = net.with_params(ConditionalMeasure(points, jnp.pad(weights, ((0, 0), (0, 1))), mu.base))
    runs = [trained(each, data, optax.lbfgs(), 4) for each in (net, split)]
    np.testing.assert_allclose(runs[1].risk, runs[0].risk, rtol=1e-8 if X64 else 1e-2)
    np.testing.assert_allclose(runs[1].path_length, runs[0].path_length, rtol=1e-8 if X64 else 1e-2)


@pytest.mark.slow
def test_a_plateau_lowers_the_rate(problem):
    net, data = problem
    plateau = optax.contrib.reduce_on_plateau(factor=1e-30, patience=1, rtol=0.99)  # never content
    run = trained(net, data, optax.chain(optax.sgd(0.1), plateau), 6, record_every=1)
    assert run.risk[1] < run.risk[0] and run.risk[-1] == run.risk[-2]


@pytest.mark.slow
def test_norms_of_parameters_do_not_see_the_absent(problem):
    net, data = problem
    points = jnp.pad(net.params.points, ((0, 0), (0, 1), (0, 0)), constant_values=jnp.nan)
    weights = jnp.pad(net.params.weights, ((0, 0), (0, 1)))
    padded = net.with_params(ConditionalMeasure(points, weights, net.params.base))
    one, other = (trained(each, data, optax.lamb(1e-2), 3) for each in (net, padded))
    np.testing.assert_allclose(other.risk, one.risk, rtol=1e-12 if X64 else 1e-5)


@pytest.mark.slow
def test_a_line_search_on_mini_batches_is_resumed_to_the_last_bit(problem, tmp_path):
    settings = {"batch_size": 4, "key": jr.key(3), "record_every": 2}
    whole = trained(*problem, optax.lbfgs(), 4, **settings)
    path = tmp_path / "run.npz"
    trained(*problem, optax.lbfgs(), 2, checkpoint=path, **settings)
    parts = trained(*problem, optax.lbfgs(), 4, checkpoint=path, **settings)
    np.testing.assert_array_equal(parts.net.params.points, whole.net.params.points)


def test_a_bare_transformation_is_told_how_to_be_wrapped(problem):
    net, data = problem
    with as_installed(), pytest.raises(TypeError, match=r"Wrap it: mf.training.Optax\("):
        mf.gradient_flow(net, SquaredError(), data, optax.sgd(0.1), 3)  # pyright: ignore
    for wrong in (0.1, Euler, "adam"):
        with as_installed(), pytest.raises(TypeError, match="`method` must be a method"):
            mf.gradient_flow(net, SquaredError(), data, wrong, 3)  # pyright: ignore
    with as_installed(), pytest.raises(TypeError, match="`transformation` must be one of optax"):
        Optax(0.1)  # pyright: ignore
