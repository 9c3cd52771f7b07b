"""Figures of a match, without a screen."""

import numpy as np
import pytest

import meanfield as mf


@pytest.fixture(scope="module")
def sol():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(1.0, size=(14, 3)), rng.gamma(1.0, size=(11, 2))
    return mf.match(
        mf.Measure(x), mf.Measure(y), mf.CostRegularized(mf.L1(0.1)), mf.Alternation(0.2)
    )


@pytest.mark.slow
def test_the_figures_show_the_match(sol):
    import matplotlib

    matplotlib.use("Agg")
    ax = mf.plot.transform(sol, x_names=list("abc"), y_names=list("uv"))
    assert ax.images[0].get_array().shape == (2, 3) and "zeros" in ax.get_xlabel()
    shares = (
        mf.plot.coupling_by_label(sol, np.arange(14) % 3, np.arange(11) % 2).images[0].get_array()
    )
    assert shares.shape == (3, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 100, rtol=1e-3)
    ax = mf.plot.joint_embedding(sol, labels=np.arange(14) % 3)
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == 14 + 11
    ax = mf.plot.starts(sol)
    assert len(ax.collections) == len(sol.starts.objective)


@pytest.mark.slow
def test_names_and_labels_of_other_lengths_are_refused(sol):
    import matplotlib

    matplotlib.use("Agg")
    with pytest.raises(ValueError, match="`x_names` must have one entry for each feature of x, 3"):
        mf.plot.transform(sol, x_names=["a"])
    with pytest.raises(ValueError, match="`y_labels` must have one entry for each atom of nu, 11"):
        mf.plot.coupling_by_label(sol, np.zeros(14), np.zeros(5))
    with pytest.raises(ValueError, match="`labels` must have one entry for each atom of mu, 14"):
        mf.plot.joint_embedding(sol, np.zeros(15))


@pytest.mark.slow
def test_a_match_of_matrices_has_a_joint_embedding(sol):
    """It maps no new points, but its atoms have partners."""
    import matplotlib

    matplotlib.use("Agg")
    problem, solver = mf.GromovWasserstein(), mf.matching.ConditionalGradient()
    other = mf.match(sol.mu, sol.nu, problem, solver)
    ax = mf.plot.joint_embedding(other, np.arange(14) % 2)
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == 14 + 11


@pytest.mark.slow
def test_a_path_is_drawn_with_its_objective_and_labels(sol):
    import matplotlib

    matplotlib.use("Agg")
    path = mf.matching.regularization_path(
        sol.mu, sol.nu, mf.CostRegularized(mf.L1()), [0.05, 0.2, 2.0], mf.Alternation(0.2), fresh=1
    )
    ax = mf.plot.regularization_path(path, np.arange(14) % 3, np.arange(11) % 3)
    lines = {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.get_lines()}
    np.testing.assert_allclose(lines["nonzero entries"], 100 * path.nonzeros / 6)
    assert (
        0 <= min(lines["label transfer accuracy"]) <= max(lines["label transfer accuracy"]) <= 100
    )
    right = ax.figure.axes[1].get_lines()[0]
    np.testing.assert_allclose(np.asarray(right.get_ydata()), path.objectives)
    assert "label transfer accuracy" not in [
        line.get_label() for line in mf.plot.regularization_path(path).get_lines()
    ]
