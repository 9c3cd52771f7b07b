"""Input that cannot be matched is refused by name, with what to do instead."""

import inspect

import jax
import numpy as np
import pytest
from matching_problems import skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import (
    ConditionalGradient,
    CostRegularized,
    GromovWasserstein,
    KnownPairs,
    SignedDistance,
    SquaredDistance,
    Support,
    match,
)
from meanfield.matching.regularizer import as_regularizer


@pytest.fixture
def measures(rng):
    return Measure(skewed_points(rng, 14, 3)), Measure(skewed_points(rng, 11, 2))


@pytest.mark.parametrize(
    "problem, solver",
    [
        (CostRegularized(), None),
        (GromovWasserstein(SquaredDistance()), None),
        (GromovWasserstein(SignedDistance([1, 1, 1], [1, -1])), None),
        (GromovWasserstein(), ConditionalGradient()),
    ],
)
def test_different_masses_are_refused_and_the_problems_that_take_them_named(
    problem, solver, measures
):
    mu, nu = measures
    settings = () if solver is None else (solver,)
    with pytest.raises(ValueError, match=r"`CostRegularized\(..., rho=1.0\)`"):
        match(mu, Measure(nu.points, 2 * nu.weights), problem, *settings)


def test_what_is_no_measure_is_refused(measures):
    mu, nu = measures
    unchecked = inspect.unwrap(match)  # as users call it, without the type checker of the tests
    with pytest.raises(TypeError, match=r"`mu` must be one Measure .*; got ndarray.*mf.Measure"):
        unchecked(mu.points.__array__(), nu)
    with pytest.raises(ValueError, match="`nu` must be one Measure"):
        unchecked(mu, jax.tree.map(lambda leaf: leaf[None], nu))


def test_a_start_that_is_not_finite_is_refused(measures):
    with pytest.raises(ValueError, match="`start` must be finite"):
        match(*measures, start=np.full((2, 3), np.nan))


def test_a_mask_of_another_shape_is_refused_even_if_it_broadcasts(measures):
    for shape in ((3, 2), (1, 3)):
        with pytest.raises(ValueError, match=r"`mask` must have shape \(2, 3\)"):
            match(*measures, CostRegularized(regularizer=Support(np.ones(shape))))


def test_known_pairs_are_numbers_of_atoms():
    with pytest.raises(ValueError, match="np.nonzero"):
        KnownPairs([True, False], [0, 1])
    with pytest.raises(ValueError, match="`cols` must hold the numbers"):
        KnownPairs([0], [1.5])
    assert KnownPairs([], []).rows.dtype == np.int64


class Inverse:
    """A stranger whose proximal map divides by the step."""

    def __call__(self, v):
        return float(np.sum(v**2)) / 2

    def prox(self, v, tau=1.0):
        return v / tau / (1.0 / tau + 1.0)


def test_a_foreign_regularizer_gets_no_step_of_zero_and_does_not_trace(rng):
    ours, matrix = as_regularizer(Inverse()), rng.normal(size=(2, 3))
    assert_allclose(ours.proximal(matrix, 0.0), matrix)
    assert_allclose(ours.proximal(matrix, 0.5), matrix / 1.5)
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(ours.proximal)(matrix)
