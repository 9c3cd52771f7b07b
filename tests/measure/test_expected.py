"""What is no measure, or no map, is refused by name, with the way to make one of it."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

import meanfield as mf
from meanfield.attention import SelfAttention
from meanfield.measure import ConditionalMeasure, Measure, stack
from meanfield.transport import (
    barycenter,
    conditional_wasserstein,
    gaussian_map,
    gaussian_wasserstein,
    optimal_transport,
    sinkhorn_divergence,
    sliced_wasserstein,
    wasserstein,
)


POINTS: Any = np.arange(6.0).reshape(3, 2)
MU: Any = Measure(POINTS)
ARRAYS: Any = np.stack([POINTS, POINTS])
MEASURES: Any = [MU, MU]


@pytest.fixture(autouse=True)
def without_the_type_checker_of_the_tests():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def sliced(mu, nu):
    return sliced_wasserstein(mu, nu, key=jr.key(0))


BETWEEN = {
    "wasserstein": wasserstein,
    "optimal_transport": optimal_transport,
    "sliced_wasserstein": sliced,
    "sinkhorn_divergence": sinkhorn_divergence,
    "gaussian_wasserstein": gaussian_wasserstein,
    "gaussian_map": gaussian_map,
    "match": mf.match,
}


@pytest.mark.fast
@pytest.mark.parametrize("name", BETWEEN)
def test_arrays_are_told_how_to_become_measures(name):
    for came, word in ((POINTS, "ndarray"), (POINTS.tolist(), "list"), (None, "NoneType")):
        with pytest.raises(TypeError, match=rf"`nu` must be one Measure.*got {word}.*mf.Measure\("):
            BETWEEN[name](MU, came)
    with pytest.raises(TypeError, match=r"`mu` must be one Measure.*of shape \(3, 2\)"):
        BETWEEN[name](jnp.asarray(POINTS), MU)
    with pytest.raises(ValueError, match=r"`mu` must be one Measure.*\(2, 3, 2\).*jax.vmap"):
        BETWEEN[name](stack([MU, MU]), MU)


@pytest.mark.fast
def test_measures_of_the_other_kind_are_told_what_takes_them():
    sequence: Any = ConditionalMeasure.from_sequence(POINTS)
    with pytest.raises(TypeError, match="`mu` must be one Measure.*conditional_wasserstein"):
        wasserstein(sequence, sequence)
    with pytest.raises(TypeError, match="`mu` must be one ConditionalMeasure.*functions of a Mea"):
        conditional_wasserstein(MU, MU)
    with pytest.raises(TypeError, match="`nu` must be one ConditionalMeasure.*from_sequence"):
        conditional_wasserstein(sequence, POINTS)


@pytest.mark.fast
def test_a_barycentre_of_arrays_is_told_to_stack_measures():
    with pytest.raises((TypeError, ValueError), match=r"`measures` must hold K.*ndarray.*stack"):
        barycenter(ARRAYS, key=jr.key(0))
    with pytest.raises((TypeError, ValueError), match=r"`measures` must hold K.*list.*stack"):
        barycenter(MEASURES, key=jr.key(0))


PEELING = mf.MassPeeling(fractions=(0.5,), domain=mf.Ball(9.0))
ABOUT_MAPS = {
    "local_lipschitz": lambda f, mu: mf.local_lipschitz(f, mu, key=jr.key(0)),
    "certify": lambda f, mu: mf.certify(f, mu, 0.1),
    "TokenShift": lambda f, mu: mf.attack(f, mu, mf.TokenShift(budget=0.1), key=jr.key(0)),
    "MassPeeling": lambda f, mu: mf.attack(f, mu, PEELING, key=jr.key(0)),
}
NO_MAPS: Any = (jnp.tanh, SelfAttention)
ATTENTION: Any = SelfAttention(jnp.eye(2), jnp.eye(2))


@pytest.mark.fast
@pytest.mark.parametrize("name", ABOUT_MAPS)
def test_what_is_no_measure_or_no_map_is_told_so(name):
    with pytest.raises(TypeError, match=r"`mu` must be a Measure or.*ndarray of shape \(3, 2\)"):
        ABOUT_MAPS[name](ATTENTION, POINTS)
    for f in NO_MAPS:
        with pytest.raises(TypeError, match="`f` must be an in-context map.*AbstractPointMap"):
            ABOUT_MAPS[name](f, MU)


@pytest.mark.fast
def test_bounds_of_what_is_no_map_say_how_to_wrap_it():
    with pytest.raises(TypeError, match="`f` must be an in-context map.*AbstractPointMap"):
        relu: Any = jax.nn.relu
        mf.lipschitz_bound(relu, mf.Ball(1.0))


@pytest.mark.fast
def test_the_advice_to_wrap_a_function_works():
    class Tanh(mf.attention.AbstractPointMap):
        def point(self, x):
            return jnp.tanh(x)

    image = Tanh()(MU)
    np.testing.assert_allclose(image.points, np.tanh(POINTS), rtol=1e-6)
    assert mf.local_lipschitz(Tanh(), MU, key=jr.key(0), throw=False).value <= 1.0
