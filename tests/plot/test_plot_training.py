"""Figures of a training run, without a screen."""

import jax.random as jr
import matplotlib
import numpy as np
import pytest


matplotlib.use("agg")
from matplotlib import pyplot as plt

import meanfield as mf
from meanfield.training import Euler, MeanFieldResNet, Optax, Record, SquaredError


KEEP = Record(certificate=False, particles=True)


@pytest.fixture(scope="module")
def problem():
    net_key, x_key, y_key = jr.split(jr.key(7), 3)
    net = MeanFieldResNet.random(dim=2, depth=3, width=6, key=net_key)
    x = jr.normal(x_key, (5, 2))
    return net, (x, x + 0.5 * jr.normal(y_key, (5, 2)))


@pytest.fixture(scope="module")
def run(problem):
    net, data = problem
    return mf.gradient_flow(net, SquaredError(), data, Euler(0.5), 12, record_every=3, record=KEEP)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.mark.slow
def test_axes_go_in_and_come_out_and_can_be_drawn(run):
    for draw in (mf.plot.particle_paths, mf.plot.layer_travel, mf.plot.polyak_lojasiewicz):
        figure, ax = plt.subplots()
        assert draw(run, ax=ax) is ax
        figure.canvas.draw()
        assert ax.get_xlabel() and ax.get_ylabel() and not ax.get_title()
        plt.close(figure)


@pytest.mark.slow
def test_every_particle_of_a_layer_has_its_path(run, ax):
    mf.plot.particle_paths(run, layers=[1], coordinates=(2, 3), ax=ax)
    paths = np.array([line.get_xydata() for line in ax.lines[:6]])
    np.testing.assert_array_equal(paths, np.moveaxis(run.particles[:, 1, :, 2:4], 0, 1))


@pytest.mark.slow
def test_the_ratio_is_drawn_and_a_certificate_that_was_not_asked_for_is_not(run, ax):
    mf.plot.polyak_lojasiewicz(run, ax)
    assert [line.get_label() for line in ax.lines] == ["risk", "squared slope", "ratio"]
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), run.polyak_lojasiewicz)


@pytest.mark.slow
def test_runs_that_left_the_flow_are_dashed(problem, run, ax):
    net, data = problem
    with pytest.warns(RuntimeWarning, match="too large"):
        wild = mf.gradient_flow(net, SquaredError(), data, Euler(50.0), 12, record=KEEP)
    mf.plot.step_sizes({"short": run, "long": wild}, ax)
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]


@pytest.mark.slow
def test_steps_stand_for_time_where_there_is_none(problem, ax):
    import optax

    net, data = problem
    run = mf.gradient_flow(net, SquaredError(), data, Optax(optax.adam(0.01)), 4, record=KEEP)
    assert mf.plot.layer_travel(run, ax).get_xlabel() == "steps"


def test_a_run_without_particles_says_how_to_keep_them(problem, ax):
    net, data = problem
    record = Record(certificate=False, distance=False)
    run = mf.gradient_flow(net, SquaredError(), data, Euler(0.1), 1, record=record)
    with pytest.raises(ValueError, match="particles=True"):
        mf.plot.particle_paths(run, ax=ax)
