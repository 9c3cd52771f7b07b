"""The unit of the points changes units and nothing else, or is refused where float32 ends."""

import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import (
    Alternation,
    CostRegularized,
    GromovWasserstein,
    SquaredDistance,
    UnbalancedGromovWasserstein,
    match,
)


SOLVER = Alternation(0.2, axes=2, max_steps=100)
PROBLEMS = {
    "products": (GromovWasserstein(), 4, 1e8),
    "distances": (GromovWasserstein(SquaredDistance()), 4, 1e7),
    "learnt": (CostRegularized(), 4, 1e8),
}


def scaled(points, scale):
    return Measure((points * scale).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_large_points_in_float32_have_the_coupling_of_small_ones(name, rng):
    (problem, power, scale), (x, y) = PROBLEMS[name], (skewed_points(rng, n, 2) for n in (10, 9))
    small, large = (match(scaled(x, s), scaled(y, s), problem, SOLVER) for s in (1.0, scale))
    assert_allclose(large.coupling.matrix, small.coupling.matrix, atol=2e-4)
    assert_allclose(float(large.value) / scale**power, float(small.value), rtol=2e-3)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize(
    "problem",
    [
        GromovWasserstein(),
        CostRegularized(),
        CostRegularized(cost=SquaredDistance()),
        UnbalancedGromovWasserstein(1.0),
    ],
)
def test_points_beyond_float32_are_refused_by_name(scale, problem, rng):
    mu, nu = (scaled(skewed_points(rng, n, 2), scale) for n in (6, 5))
    with pytest.raises(ValueError, match="costs float32 can hold.*Multiply both by one number"):
        match(mu, nu, problem)
