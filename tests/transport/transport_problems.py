"""Random measures for the transport tests: generic weights, some atoms absent."""

import functools

import numpy as np
import ot
import precision
import pytest

import meanfield as mf


# Exponents and dimensions together, the fast lane with one of each: every new shape, exponent and
# derivative is a new program to compile, which takes longer than running it.
cases = pytest.mark.parametrize(
    "p, d",
    [(2, 3), *(pytest.param(*rare, marks=pytest.mark.slow) for rare in [(1, 3), (1.5, 1), (3, 1)])],
)
dimensions = pytest.mark.parametrize("d", [3, pytest.param(1, marks=pytest.mark.slow)])


def random_measure(rng, n, d, absent=0):
    """Gaussian points, generic weights that sum to one, the last `absent` of them zero."""
    weights = rng.uniform(0.2, 1.0, size=n)
    weights[n - absent :] = 0.0
    return mf.Measure(rng.normal(size=(n, d)), weights / weights.sum())


def random_pair(rng, n=8, m=8, d=3, absent=0):
    return random_measure(rng, n, d, absent), random_measure(rng, m, d, absent)


def pot_distance(mu, nu, p):
    """W_p by POT, on the arrays themselves."""
    costs = ot.dist(np.asarray(mu.points), np.asarray(nu.points), "euclidean") ** p
    return ot.emd2(np.asarray(mu.weights), np.asarray(nu.weights), costs) ** (1 / p)


assert_close = functools.partial(precision.assert_close, atol=1e-12)
