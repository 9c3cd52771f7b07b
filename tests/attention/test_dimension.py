"""A map and a measure of different dimensions: an error that names both, for every kind of map."""

import jax.numpy as jnp
import pytest
from random_maps import DIM, KINDS, UNORDERED, as_installed

import meanfield as mf
from meanfield.attention import input_dim


def wrong_measure(kind):
    points = jnp.ones((3, DIM - 1))
    return mf.Measure(points) if kind in UNORDERED else mf.ConditionalMeasure.from_sequence(points)


@pytest.mark.parametrize("kind", KINDS)
def test_a_measure_of_another_dimension_is_refused(kind, key):
    f = KINDS[kind](key)
    message = f"`mu` must have points of dimension {DIM} .*; got dimension {DIM - 1}"
    assert input_dim(f) == DIM
    with as_installed():
        with pytest.raises(ValueError, match=message):
            f(wrong_measure(kind))
        with pytest.raises(ValueError, match=message):
            mf.local_lipschitz(f, wrong_measure(kind), key=key)


def test_a_map_that_says_nothing_takes_any_dimension():
    class Doubling(mf.attention.AbstractPointMap):
        def point(self, x):
            return 2 * x

    assert input_dim(Doubling()) is None
    assert Doubling()(mf.Measure(jnp.ones((2, 7)))).dim == 7
