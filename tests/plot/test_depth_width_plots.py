"""The limits in depth and width, drawn."""

import matplotlib
import numpy as np

import meanfield as mf


matplotlib.use("agg")
from matplotlib import pyplot as plt


def lines_of(ax):
    return [np.stack(line.get_data(), axis=1) for line in ax.lines]


def test_each_error_has_a_line_and_the_guide_has_its_slope():
    errors = {"outputs": [4e-2, 2e-2, 1e-2], "field": [8.0, 4.0, 2.0]}
    ax = mf.plot.depth_errors((16, 32, 64), errors)
    outputs, _, guide = lines_of(ax)
    assert np.array_equal(outputs, [[16, 4e-2], [32, 2e-2], [64, 1e-2]])
    assert np.isclose(np.diff(np.log(guide[:, 1])) / np.diff(np.log(guide[:, 0])), -1)
    plt.close("all")


def test_the_guide_of_exact_errors_goes_through_them():
    counts = {"independent": np.array([4, 16]), "tied": np.array([16, 64, 256])}
    errors = {name: 3.0 / np.sqrt(count) for name, count in counts.items()}
    guide = lines_of(mf.plot.width_errors(counts, errors))[-1]
    assert np.allclose(guide[:, 1], 3.0 / np.sqrt(guide[:, 0]))
    plt.close("all")
