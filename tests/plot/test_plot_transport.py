"""Couplings drawn between clouds of one, two and many dimensions."""

import matplotlib
import numpy as np
import pytest

import meanfield as mf


matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_line_is_drawn_for_each_entry_and_a_dot_for_each_atom_that_has_mass(d):
    rng = np.random.default_rng(0)
    mu, nu = (mf.Measure(rng.normal(size=(6, d))).pad(8) for _ in range(2))
    plan = mf.optimal_transport(mu, nu).coupling
    ax = mf.plot.coupling(plan, mu, nu)
    lines = next(c for c in ax.collections if isinstance(c, LineCollection))
    dots = [c for c in ax.collections if not isinstance(c, LineCollection)]
    assert len(lines.get_segments()) == len(plan.support()[0]) >= 6
    assert [len(c.get_offsets()) for c in dots] == [6, 6]
    ax.figure.canvas.draw()
    assert mf.plot.coupling_matrix(plan).images[0].get_array().shape == (8, 8)
    plt.close("all")
