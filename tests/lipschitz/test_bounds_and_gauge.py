"""No bound depends on how the products Q^T K and O V are written as factors."""

import jax.numpy as jnp
import numpy as np
import pytest
from gauge_changes import GAUGED, measure_for, regauged
from random_maps import (
    multihead,
    norms,
)

import meanfield as mf
from meanfield.attention.balance import balance_gauge
from meanfield.lipschitz import upper_at
from meanfield.lipschitz.images import image


pytestmark = pytest.mark.float64  # identities up to rounding


KINDS = GAUGED | {
    "turning, normed": lambda key: multihead(key, rotary=mf.Rotary(theta=7.0), **norms(key)),
    "linear": lambda key: multihead(key, choice=mf.Linear()),
}


def pair(kind, key):
    """An attention, the same in another gauge, and a measure for both."""
    f = KINDS[kind](key)
    return f, regauged(f, np.random.default_rng(1)), measure_for(f, key)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_global_bounds_do_not_depend_on_the_gauge(kind, key):
    f, g, mu = pair(kind, key)
    np.testing.assert_allclose(f(mu).points, g(mu).points, rtol=1e-11, atol=1e-12)
    for p in (1, 2, np.inf):
        one, other = (mf.lipschitz_bound(h, mf.Ball(1.0), p=p, n=5).log_value for h in (f, g))
        assert abs(one - other) < 1e-11
    assert abs(image(f, mf.Ball(1.0)).radius / image(g, mf.Ball(1.0)).radius - 1) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "both norms", "key norm", "turning"])
def test_upper_bounds_at_a_measure_do_not_depend_on_the_gauge(kind, key):
    f, g, mu = pair(kind, key)
    # the allowance for rounding grows with the condition of the factors
    assert abs(upper_at(f, mu) / upper_at(g, mu) - 1) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "turning", "sloped"])
def test_certificates_do_not_depend_on_the_gauge(kind, key):
    f, g, mu = pair(kind, key)
    for p in (1, 2, np.inf):
        assert (
            abs(mf.certify(f, mu, 0.01, p=p).value / mf.certify(g, mu, 0.01, p=p).value - 1) < 1e-6
        )


def test_bad_factors_do_not_spoil_a_bound(key):
    f = multihead(key)
    bad = jnp.array([30.0, 1.0, 1 / 30])
    g = mf.MultiheadAttention(
        f.query_proj, f.key_proj, bad[:, None] * f.value_proj, f.output_proj / bad
    )
    bound, best = (mf.lipschitz_bound(h, mf.Ball(1.0)).value for h in (g, balance_gauge(g)))
    assert abs(bound / best - 1) < 1e-9
