"""Single cells measured in two ways: the published quality, without supervision.

Skipped where the data are absent (MEANFIELD_DATA names the folder that holds `singlecell`).
"""

import numpy as np
import pytest
from matching_problems import singlecell, snare
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import (
    L1,
    Alternation,
    ColumnGroups,
    CostRegularized,
    foscttm,
    label_transfer_accuracy,
    match,
)


pytestmark = pytest.mark.slow


def quality(sol, x, y, labels):
    mapped = np.asarray(sol.map(x))
    return foscttm(mapped, y), label_transfer_accuracy(mapped, labels, y, labels)


@pytest.mark.parametrize("direction", ["from-chromatin", "from-expression"])
def test_snare_is_matched_by_the_objective_alone(direction):
    x, y, labels = snare()
    if direction == "from-expression":
        x, y = y, x
    sol = match(Measure(x), Measure(y), CostRegularized(L1(0.1)))
    closer, transferred = quality(sol, x, y, labels)
    assert closer <= 0.150 and transferred >= 0.94
    assert np.mean(np.asarray(sol.transform) == 0) >= 0.75
    assert len(np.unique(sol.starts.optimum)) > 1 and sol.starts.gap > 0.005


def test_a_fit_on_half_of_the_cells_maps_all_of_them():
    x, y, labels = snare()
    half = np.random.default_rng(0).permutation(len(x))[:500]
    sol = match(Measure(x[half]), Measure(y[half]), CostRegularized())
    closer, transferred = quality(sol, x, y, labels)
    assert closer <= 0.152 and transferred >= 0.94


@pytest.mark.parametrize(
    ("regularizer", "zeros", "transferred"),
    [
        (L1(1.5, relative=False), 71.35, 0.61),
        (L1(2.0, relative=False), 84.20, 0.63),
        (ColumnGroups(7.5, relative=False), 67.65, 0.62),
    ],
    ids=["l1-1.5", "l1-2", "groups-7.5"],
)
def test_scgem_has_the_published_zeros(regularizer, zeros, transferred):
    x, y = singlecell("scGEM_GeneExpression.txt"), singlecell("scGEM_DNAmethylation.txt")
    labels = singlecell("scGEM_type1.txt")
    solver = Alternation(0.0015, inner=100, hottest=33)
    sol = match(Measure(x), Measure(y), CostRegularized(regularizer), solver)
    assert_allclose(100 * np.mean(np.asarray(sol.transform) == 0), zeros, atol=1)
    assert quality(sol, x, y, labels)[1] >= transferred
