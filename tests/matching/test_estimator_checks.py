"""scikit-learn's own checks of estimators, as far as they speak of an unpaired second sample.

Left out are the checks that cut X and y to the same rows and expect predictions, and those whose y
is constant within a column (a measure of equal atoms, which is refused by name). So are
`check_parameters_default_constructible`, which allows defaults of plain types only (ours are a
problem and a solver, immutable), and `check_do_not_raise_errors_in_init_or_set_param`: settings of
parts are checked where they are set, by the constructors of the parts.
"""

import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield.matching import L1, Alternation, CostRegularized, Matcher


CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
    "check_requires_y_none",
    "check_complex_data",
    "check_estimators_unfitted",
]


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learn_checks_the_estimator(name):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    getattr(checks, name)("Matcher", Matcher())


def test_settings_of_parts_have_names():
    matcher = Matcher(CostRegularized(L1(0.1)))
    matcher.set_params(solver__epsilon=0.3, problem__regularizer__strength=0.2)
    assert matcher.get_params()["solver__epsilon"] == 0.3
    assert matcher.problem.regularizer.strength == 0.2
    assert matcher.problem.ridge == 1.0
    with pytest.raises(ValueError, match="`heat` is no setting of Alternation"):
        matcher.set_params(solver__heat=1.0)
    with pytest.raises(ValueError, match="`epsilon` must be positive"):
        matcher.set_params(solver__epsilon=-1.0)


def test_a_new_part_and_its_settings_may_come_together():
    matcher = Matcher().set_params(
        problem__regularizer__strength=0.4, problem=CostRegularized(L1())
    )
    assert matcher.problem.regularizer.strength == 0.4


def test_what_is_no_table_is_refused_by_name():
    sparse = pytest.importorskip("scipy.sparse")
    x = np.eye(4)
    for wrong, error, words in (
        (None, ValueError, "requires y to be passed"),
        (sparse.csr_matrix(x), TypeError, r"`y.toarray\(\)`"),
        (np.array([["a", "b"]] * 4), ValueError, "`y` must hold numbers"),
        (x + 1j, ValueError, "Complex data not supported"),
        (x[0], ValueError, "Expected 2D array"),
        (np.where(x == 1, np.nan, x), ValueError, "`y` contains NaN"),
        (x[:0], ValueError, r"0 sample\(s\)"),
    ):
        with pytest.raises(error, match=words):
            Matcher().fit(x, wrong)


@pytest.mark.slow
def test_names_of_features_are_kept_and_checked(rng):
    pd = pytest.importorskip("pandas")
    x = pd.DataFrame(skewed_points(rng, 14, 3), columns=list("abc"), index=range(5, 19))
    y = pd.DataFrame(skewed_points(rng, 11, 2), columns=["u", "v"])
    matcher = Matcher(solver=Alternation(0.2)).set_output(transform="pandas").fit(x, y)
    framed = matcher.transform(x)
    assert list(framed.columns) == ["u", "v"] and list(framed.index) == list(x.index)
    assert list(matcher.feature_names_in_) == ["a", "b", "c"]
    plain = matcher.set_output(transform="default").transform(x.to_numpy())
    assert_allclose(plain, framed.to_numpy())
    with pytest.raises(ValueError, match="feature names should match"):
        matcher.transform(x[["b", "a", "c"]])
    with pytest.raises(ValueError, match="X has 2 features, but Matcher is expecting 3"):
        matcher.transform(x.to_numpy()[:, :2])
    integers = np.rint(10 * y.to_numpy()).astype(int)
    matcher.fit(x.to_numpy(), integers)
    assert matcher.get_feature_names_out().tolist() == ["matcher0", "matcher1"]
