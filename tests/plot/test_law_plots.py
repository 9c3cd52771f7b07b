"""Figures of conservation laws, without a screen."""

import numpy as np

import meanfield as mf
from meanfield.training import QuadraticLaws


def quadratic_laws():
    return QuadraticLaws(
        matrices=np.zeros((2, 3, 3)),
        vectors=np.zeros((2, 3)),
        rate=0.0,
        independent=2,
        singular_values=np.array([1.0, 0.5, 0.1, 1e-16, 0.0]),
        gap=1e15,
        result=mf.measure.RESULTS.successful,
    )


def test_laws_stand_apart_in_their_spectrum():
    import matplotlib

    matplotlib.use("Agg")
    ax = mf.plot.law_spectrum(quadratic_laws())
    rest, laws = (line.get_ydata() for line in ax.lines)
    assert len(rest) == 3 and len(laws) == 2 and np.all(laws > 0)
    assert "2 laws" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_drift_is_drawn_beside_what_was_predicted():
    import matplotlib

    matplotlib.use("Agg")
    drift = np.geomspace(1e-6, 1e-2, 30)
    drift[0] = 0.0
    ax = mf.plot.law_drift({"descent": drift, "adam": 2 * drift}, {"descent": drift})
    assert ax.get_yscale() == "log" and len(ax.lines) == 4
    np.testing.assert_allclose(ax.lines[0].get_ydata()[1:], drift[1:])
    assert np.isnan(ax.lines[0].get_ydata()[0])
