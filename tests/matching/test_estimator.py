"""The estimator does what `match` does."""

import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import L1, Alternation, CostRegularized, Matcher, match


@pytest.mark.slow
def test_an_estimator_is_a_match(rng):
    x, y = skewed_points(rng, 14, 3), skewed_points(rng, 11, 2)
    problem, solver = CostRegularized(L1(0.05)), Alternation(0.2)
    fitted, sol = Matcher(problem, solver).fit(x, y), match(Measure(x), Measure(y), problem, solver)
    assert_allclose(fitted.transform(x), sol.map(x))
    assert_allclose(fitted.inverse_transform(y), sol.inverse_map(y))
    assert_allclose(fitted.transform_, sol.transform)
    assert 0 <= fitted.score(x[:11], y) <= 1


@pytest.mark.slow
def test_scikit_learn_clones_it():
    base = pytest.importorskip("sklearn.base")
    matcher = Matcher(solver=Alternation(0.2))
    assert base.clone(matcher, safe=False).solver == matcher.solver


def test_an_estimator_that_is_not_fitted_says_so():
    with pytest.raises(ValueError, match="fit"):
        Matcher().transform(np.ones((2, 3)))
    with pytest.raises(ValueError, match="rank"):
        Matcher().set_params(rank=3)
