"""The figures of two models compared: a ring for each particle, a bar for each layer."""

import dataclasses

import matplotlib
import numpy as np
import pytest

import meanfield as mf
from meanfield.audits import compare_models


matplotlib.use("agg")
from matplotlib import pyplot as plt


@pytest.fixture(scope="module")
def comparison():
    model = mf.models.load("shakespeare-gpt")
    found = compare_models(model, model)
    layer = dataclasses.replace(
        found.layers[0], matching=(1, 0, 2, 3), distance=1.0, index_distance=2.0, relative=0.3
    )
    return dataclasses.replace(found, layers=(layer, found.layers[1]))


def test_a_ring_stands_at_each_match(comparison):
    ax = mf.plot.layer_matching(comparison.layers[0])
    (rings,) = ax.lines
    np.testing.assert_array_equal(rings.get_xydata(), [[1, 0], [0, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(ax.images[0].get_array(), comparison.layers[0].distances)
    plt.close("all")


def test_a_bar_stands_for_each_layer_with_the_distance_in_order_above(comparison):
    ax = mf.plot.layer_distances(comparison)
    norm = np.mean(comparison.layers[0].norms)
    assert ax.patches[0].get_height() == pytest.approx(100 / norm)
    (ticks,) = (line for line in ax.lines if line.get_label() == "in order")
    assert ticks.get_ydata()[0] == pytest.approx(200 / norm)
    plt.close("all")


def test_many_particles_are_drawn_as_sorted_moves(comparison):
    layer = dataclasses.replace(comparison.layers[0], distances=None, moves=(1.0, 3.0, 2.0, 0.0))
    ax = mf.plot.layer_matching(layer, "neuron")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3, 2, 1, 0])
    plt.close("all")


@pytest.mark.slow
def test_the_sheet_is_an_image_without_a_display(comparison):
    assert mf.plot.model_comparison_image(comparison).startswith(b"\x89PNG")
    assert b"<svg" in mf.plot.model_comparison_image(comparison, "svg")
    sheet = mf.plot.model_comparison(comparison)
    assert len([ax for ax in sheet.axes if ax.get_xlabel() == "head of B"]) == 2
