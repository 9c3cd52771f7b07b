"""Figures of implicit derivatives and of deep linear networks, without a screen."""

import matplotlib
import numpy as np
import pytest

import meanfield as mf
from meanfield.training import StepSweep


matplotlib.use("Agg")


def test_errors_of_derivatives_are_drawn_beside_lines_of_slope_one_and_two():
    distance = np.array([1e-1, 1e-2, 1e-3])
    ax = mf.plot.derivative_errors(
        {"plain": (distance, distance), "refined": (distance, distance**2)}
    )
    curves = {line.get_label(): line.get_xydata() for line in ax.lines[:2]}
    np.testing.assert_allclose(curves["refined"][:, 1], distance**2)
    first, second = (line.get_xydata() for line in ax.lines[2:])
    np.testing.assert_allclose(first[:, 1], distance)
    np.testing.assert_allclose(second[-1, 1] / second[0, 1], 1e-4)


@pytest.mark.slow
def test_the_threshold_shows_a_line_for_each_depth_and_leaves_divergence_out():
    sweeps = [
        StepSweep(depth, np.array([1.1, 0.9]), np.array([np.inf, 0.0]), 0.1, 0.99)
        for depth in (5, 10)
    ]
    ax = mf.plot.step_threshold(sweeps)
    assert [line.get_label() for line in ax.lines[:2]] == ["depth 5", "depth 10"]
    x, y = ax.lines[0].get_data()
    np.testing.assert_array_equal(x, [0.9, 1.1])
    assert y[0] == 1e-32 and np.isnan(y[1])
    assert len(mf.plot.step_threshold(sweeps[0]).lines) == 2
