"""Figures: axes in, axes out, and tokens never read as mathematics."""

import warnings

import matplotlib
import numpy as np
import pytest
from audit_specimen import HOSTILE, attacked, specimen


matplotlib.use("agg")
from matplotlib import pyplot as plt

from meanfield import plot
from meanfield.plot.labels import safe_label
from meanfield.plot.palette import heat, ink_on, layer_colors


FIGURES = (plot.layers, plot.heads, plot.growth, plot.worst_tokens, plot.peeling, plot.radii)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.mark.parametrize("draw", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("audit", [specimen(), specimen(HOSTILE), attacked(HOSTILE)])
def test_axes_go_in_and_come_out_and_can_be_drawn(draw, audit, ax):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning
        assert draw(audit, ax) is ax
        ax.figure.canvas.draw()
    assert ax.get_xlabel() and ax.get_ylabel() and not ax.get_title()


@pytest.mark.parametrize("token", HOSTILE)
def test_any_token_can_be_a_label(token, ax):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.worst_tokens(specimen([token, "x"], inputs=1, layers=1), ax)
        ax.figure.canvas.draw()


def test_what_the_font_lacks_is_named():
    assert safe_label("中") == "U+4E2D" and safe_label("é[CLS]") == "é[CLS]"


def test_the_data_are_what_is_drawn(ax):
    plot.growth(specimen(), ax)
    line = next(line for line in ax.lines if line.get_label().startswith("3"))
    assert list(line.get_xdata()) == [16, 32, 64, 128]
    assert max(line.get_ydata()) == max(specimen().growth[3].constants)


def test_searches_that_stalled_and_bounds_that_are_infinite_are_not_drawn(ax):
    plot.peeling(attacked(), ax)
    sizes = {line.get_label(): len(line.get_xdata()) for line in ax.lines}
    assert sizes == {"0": 4, "1": 3, "2": 4, "3": 4, "all": 4}
    ax.clear()
    plot.radii(attacked(), ax)
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [len(line.get_xdata()) for line in dashed] == [3, 2, 3, 3]
    for below, above in zip(ax.lines[::2], ax.lines[1::2], strict=False):
        assert np.all(np.asarray(below.get_ydata()) < np.asarray(above.get_ydata()))


def test_one_figure_is_made_where_no_axes_are_given():
    before = len(plt.get_fignums())
    plot.layers(specimen())
    assert len(plt.get_fignums()) == before + 1
    plt.close()


@pytest.mark.slow
def test_the_overview_is_a_png_and_leaves_no_figure_behind():
    before = plt.get_fignums()
    sizes = []
    for audit in (specimen(HOSTILE), attacked(HOSTILE)):
        png = plot.overview_png(audit)
        assert png.startswith(b"\x89PNG")
        sizes.append(int.from_bytes(png[20:24]))
    assert sizes == [880, 1320]  # two more figures
    assert plt.get_fignums() == before


def test_colours_are_distinct_and_readable():
    assert len(set(layer_colors(12))) == 12
    assert heat(0) != heat(1) and ink_on(1) == "#ffffff" != ink_on(0)
    assert all(len(heat(t / 10)) == 7 for t in range(-5, 20))


def test_labels_of_many_layers_are_thinned_and_can_be_read_on_black():
    import matplotlib.pyplot as plt

    from meanfield.plot import layers

    with plt.style.context("dark_background"):
        ax = layers(specimen(layers=100, heads=1, inputs=1))
    assert len(ax.get_xticks()) <= 16 and ax.xaxis.label.get_color() == "#e8ecf1"
    plt.close(ax.figure)
