"""Scores against their definitions and against scikit-learn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from meanfield.matching import foscttm, label_transfer_accuracy, support_recovery


def test_foscttm_counts_the_closer_samples(rng):
    x, y = rng.normal(size=(2, 9, 2))
    distances = np.linalg.norm(x[:, None] - y, axis=-1)
    own = np.diag(distances)
    counts = [(distances < own[:, None]).sum() / 8, (distances < own).sum() / 8]
    assert_allclose(foscttm(x, y), np.sum(counts) / 18)
    assert_allclose(foscttm(x, y, block=4), foscttm(x, y))
    assert foscttm(x, x) == 0


def test_ties_count_as_one_half():
    """All at one point: nothing is known, as by chance."""
    assert foscttm(np.zeros((7, 2)), np.zeros((7, 2))) == 0.5


def test_equal_rows_tie_wherever_they_stand_and_however_far_from_zero(rng):
    """Every sample twice: one of n - 1 others ties with the partner, none is closer."""
    y = np.repeat(rng.normal(size=(23, 7)), 2, axis=0)[rng.permutation(46)]
    for offset in (0.0, 1e3):
        assert_allclose(foscttm(y + offset, y + offset), 0.5 / 45, rtol=1e-12)


def test_points_that_are_not_finite_are_refused(rng):
    """NaN is not less than anything, so it would count as a perfect match."""
    x, holed = rng.normal(size=(2, 6, 2))
    holed[3] = np.nan
    for score in (
        lambda: foscttm(holed, x),
        lambda: foscttm(x, holed),
        lambda: label_transfer_accuracy(holed, np.zeros(6), x, np.zeros(6)),
        lambda: support_recovery(holed, x),
    ):
        with pytest.raises(ValueError, match="must be finite"):
            score()
    with pytest.raises(ValueError, match="nonzero entry"):
        support_recovery(x, np.zeros_like(x))


def test_label_transfer_agrees_with_scikit_learn(rng):
    neighbors = pytest.importorskip("sklearn.neighbors")
    target, mapped = rng.normal(size=(60, 2)), rng.normal(size=(40, 2))
    known, labels = rng.integers(0, 4, 60), rng.integers(0, 4, 40)
    theirs = neighbors.KNeighborsClassifier(5).fit(target, known).score(mapped, labels)
    assert label_transfer_accuracy(mapped, labels, target, known) == theirs
    names = np.array(["b", "d", "a", "c"])
    assert label_transfer_accuracy(target, names[known], target, names[known], k=1) == 1.0


def test_support_recovery_counts():
    truth = np.array([[1.0, 0, 2], [0, 0, 0]])
    found = np.array([[1.0, 1, 0], [0, 0, 0]])
    scores = support_recovery(found, truth)
    assert scores["precision"] == 0.5 and scores["recall"] == 0.5
    assert_allclose(scores["error"], np.sqrt(5) / np.sqrt(5))


def test_arrays_of_other_lengths_are_refused(rng):
    x = rng.normal(size=(6, 2))
    with pytest.raises(ValueError, match="same shape"):
        foscttm(x, x[:5])
    with pytest.raises(ValueError, match="`labels` must have one label for each of 6"):
        label_transfer_accuracy(x, np.zeros(5), x, np.zeros(6))
    with pytest.raises(ValueError, match="`target_labels`"):
        label_transfer_accuracy(x, np.zeros(6), x, np.zeros(5))
    with pytest.raises(ValueError, match="same d and at least"):
        label_transfer_accuracy(x, np.zeros(6), x[:, :1], np.zeros(6))
    with pytest.raises(ValueError, match="at least one point"):
        label_transfer_accuracy(x[:0], np.zeros(0), x, np.zeros(6))
    with pytest.raises(ValueError, match="`k`"):
        label_transfer_accuracy(x, np.zeros(6), x, np.zeros(6), k=7)
    with pytest.raises(ValueError, match="shape"):
        support_recovery(x, x.T)
