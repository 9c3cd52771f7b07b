"""The estimator does what `match` does."""

import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import L1, Alternation, CostRegularized, Matcher, Rank, match


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
def test_scikit_learn_clones_pipes_and_searches_over_it(rng):
    base = pytest.importorskip("sklearn.base")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    x, matcher = skewed_points(rng, 24, 3), Matcher(solver=Alternation(0.2))
    y = x @ rng.normal(size=(3, 2))
    assert base.clone(matcher).solver == matcher.solver
    piped = Pipeline([("scale", StandardScaler()), ("match", matcher)]).fit(x, y)
    assert_allclose(piped.transform(x), matcher.transform(StandardScaler().fit_transform(x)))
    assert_allclose(piped.score(x, y), matcher.score(StandardScaler().fit_transform(x), y))
    assert piped.inverse_transform(y).shape == x.shape
    grid = {"match__problem": [CostRegularized(), CostRegularized(Rank(1))]}
    found = GridSearchCV(piped, grid, cv=2, error_score=np.nan).fit(x, y)
    assert 0 <= found.best_score_ <= 1 and "match__problem" in found.best_params_


@pytest.mark.slow
def test_weights_of_one_sample_give_their_sum_to_the_other(rng):
    x, y = skewed_points(rng, 12, 3), skewed_points(rng, 9, 2)
    solver = Alternation(0.2)
    ones = Matcher(solver=solver).fit(x, y, sample_weight=np.ones(12))
    assert_allclose(ones.transform_, Matcher(solver=solver).fit(x, y).transform_, rtol=1e-6)
    assert_allclose(ones.match_.nu.mass, 12)


def test_scikit_learn_sees_what_is_fitted():
    validation = pytest.importorskip("sklearn.utils.validation")
    with pytest.raises(ValueError, match="not fitted"):
        validation.check_is_fitted(Matcher())
    assert repr(Matcher()) == "Matcher(CostRegularized, Alternation)"


def test_an_estimator_that_is_not_fitted_says_so():
    with pytest.raises(ValueError, match="fit"):
        Matcher().transform(np.ones((2, 3)))
    with pytest.raises(ValueError, match="rank"):
        Matcher().set_params(rank=3)
