"""A coupling that says nothing is never returned quietly."""

import numpy as np
import pytest
from matching_problems import skewed_points

from meanfield import RESULTS, Measure
from meanfield.matching import (
    Alternation,
    CostRegularized,
    ExactAlternation,
    GromovWasserstein,
    InnerProduct,
    MirrorDescent,
    SquaredDistance,
    UnbalancedGromovWasserstein,
    match,
)
from meanfield.matching.collapse import is_collapsed, word_of_collapse


def test_what_counts_as_collapsed():
    assert is_collapsed(1e-4, 0.1, 1.0, bare=True) and not is_collapsed(0.01, 0.1, 1.0, bare=True)
    assert is_collapsed(0.01, 1.0, 1.0, bare=True) and not is_collapsed(0.01, 2.0, 1.0, bare=False)
    assert not is_collapsed(0.1, 2.0, 1.0, bare=True)
    assert is_collapsed(np.nan, 0.1, 1.0, bare=True)
    assert word_of_collapse(False, 2.0, 1.0) == RESULTS.successful
    assert word_of_collapse(True, 2.0, 1.0) == RESULTS.epsilon_above_critical
    assert word_of_collapse(True, 0.1, 1.0) == RESULTS.match_collapsed
    assert word_of_collapse(True, 0.0, 0.0) == RESULTS.match_collapsed  # no entropy at all


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem, solver",
    [
        (CostRegularized(center=False), Alternation(3.0)),
        (CostRegularized(rho=1.0), Alternation(1.3)),
        (GromovWasserstein(SquaredDistance()), Alternation(30.0)),
        (UnbalancedGromovWasserstein(10.0), Alternation(3.0)),
        (GromovWasserstein(InnerProduct()), MirrorDescent(epsilon=1.3)),
    ],
)
def test_every_problem_says_that_the_temperature_is_too_high(problem, solver, rng):
    mu, nu = Measure(skewed_points(rng, 14, 3)), Measure(skewed_points(rng, 11, 2))
    sol = match(mu, nu, problem, solver, throw=False)
    assert sol.collapsed and sol.result == RESULTS.epsilon_above_critical
    assert sol.epsilon > sol.epsilon_critical


@pytest.mark.slow
def test_far_from_the_origin_the_product_is_not_returned_quietly(rng):
    """The share of a critical temperature that the means decide is above that of the spreads."""
    x, y = skewed_points(rng, 14, 3) + 40, skewed_points(rng, 11, 2) + 40
    problem = CostRegularized(center=False)
    sol = match(Measure(x), Measure(y), problem, throw=False)
    assert sol.collapsed and sol.result == RESULTS.match_collapsed
    assert "mean zero" in str(RESULTS[sol.result])
    assert not match(Measure(x), Measure(y)).collapsed
    exact = match(Measure(x), Measure(y), problem, ExactAlternation(), throw=False)
    assert exact.correlation > 0.1 and not exact.collapsed  # a vertex is no product
