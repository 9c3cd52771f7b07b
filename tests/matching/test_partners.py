"""Likeliest partners and mapped points of couplings of every form."""

import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import (
    Alternation,
    ConditionalGradient,
    CostRegularized,
    ExactAlternation,
    GromovWasserstein,
    KnownPairs,
    match,
)


KNOWN = KnownPairs([2, 0], [5, 1])
FORMS = {
    "entropic": (CostRegularized(), Alternation(0.2)),
    "known": (CostRegularized(known=KNOWN), Alternation(0.2)),
    "exact": (GromovWasserstein(), ExactAlternation()),
    "matrix": (GromovWasserstein(), ConditionalGradient()),
}


@pytest.fixture
def measures(rng):
    weights = np.append(rng.dirichlet(np.ones(13)), 0.0)
    return Measure(skewed_points(rng, 14, 3), weights), Measure(skewed_points(rng, 11, 2))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_top_lists_the_largest_entries_of_the_coupling(form, measures):
    problem, solver = FORMS[form]
    sol = match(*measures, problem, solver, throw=False)
    matrix = np.asarray(sol.coupling.matrix, np.float64)[:13]  # the last atom sends nothing
    columns, shares = (np.asarray(leaf)[:13] for leaf in sol.top(3))
    rows = matrix / matrix.sum(axis=1, keepdims=True)
    assert_allclose(shares, -np.sort(-rows, axis=1)[:, :3], atol=1e-9)
    assert_allclose(np.take_along_axis(rows, columns, axis=1), shares, atol=1e-9)
    if form == "known":
        assert 5 in columns[2] and 1 in columns[0]


@pytest.mark.slow
def test_matrices_between_atoms_map_no_points(measures):
    sol = match(*measures, *FORMS["matrix"])
    for use in (sol.map, sol.linear_map):
        with pytest.raises(ValueError, match="maps no new points"):
            use(measures[0].points)


@pytest.mark.slow
def test_without_entropy_a_point_goes_to_an_atom(rng):
    """A cloud and its mirror image of other order: each atom goes to its own image, and back."""
    x = skewed_points(rng, 12, 3)
    order = rng.permutation(12)
    y = (x * [1.0, -1.0, 1.0])[order]
    sol = match(Measure(x), Measure(y), GromovWasserstein(), ExactAlternation())
    assert np.isfinite(sol.map(x + 1e-3)).all()
    assert_allclose(sol.top(1)[0][:, 0], np.argsort(order))
