"""Two unbalanced Diracs: the closed forms, the curve in n, and the large radius limit."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from dense_constants import blocks, constants

import meanfield as mf
from meanfield.lipschitz import hardmax_limit, two_dirac_bound, worst_measure


BALL = mf.Ball(1.0)
TURN = jnp.array([[0.0, 1.0], [-1.0, 0.0]])


def exact(f, mu):
    """The exact constant in W_2 by a dense Jacobian."""
    a = jnp.zeros(mu.dim) if f.a is None else f.a
    B, D = dense(f.A, f.V, a, mu.points, mu.weights)
    return constants(B[None], D[None], mu.weights[None])[0, 1]


@jax.jit
def dense(A, V, a, points, weights):
    return blocks(lambda x, y: stable_head(A, V, a, x, y, weights), points)


def stable_head(A, V, a, x, y, weights):
    """Attention of queries x to weighted atoms y, for large scores."""
    logits = (x @ A.T + a) @ y.T
    likes = weights * jnp.exp(logits - logits.max(axis=1, keepdims=True))
    return likes @ (y @ V.T) / likes.sum(axis=1, keepdims=True)


def attention(A, V=None):
    return mf.SelfAttention(A, jnp.eye(A.shape[0]) if V is None else V)


@pytest.mark.parametrize(
    ("s", "at_the_pair", "upper"),
    [(1, 2.90, 4.84), (3, 40.4, 66.5), (5, 445, 762), (8, 1.34e4, 2.40e4)],
)
def test_repulsive_attention_has_the_closed_form_within_a_factor_two(s, at_the_pair, upper):
    f = attention(-s * jnp.eye(2))
    closed = (1 + s) * math.exp(s) / 2
    lower, above = two_dirac_bound(f, BALL), mf.lipschitz_bound(f, BALL)
    value = exact(f, worst_measure(f, BALL, steps=0).measure)
    assert lower.value == pytest.approx(closed, rel=1e-9)
    assert closed <= value <= above.value <= 1.9 * closed
    assert value == pytest.approx(at_the_pair, rel=2e-3)
    assert above.value == pytest.approx(upper, rel=2e-3)


@pytest.mark.float64  # a mass of 1 - 1e-9
@pytest.mark.parametrize("s", [0.5, 1.0, 3.0])
def test_in_w_1_the_bound_is_sharp_up_to_the_query_part(s):
    f = attention(-s * jnp.eye(1))
    mu = mf.Measure(jnp.array([[1.0], [-1.0]]), jnp.array([1 - 1e-9, 1e-9]))
    B, D = dense(f.A, f.V, jnp.zeros(1), mu.points, mu.weights)
    exact_1 = constants(B[None], D[None], mu.weights[None])[0, 0]
    bound = mf.lipschitz_bound(f, BALL, p=1).value
    assert exact_1 == pytest.approx(math.exp(2 * s) * (1 + 2 * s), rel=1e-5)
    assert exact_1 <= bound <= (exact_1 + s) * (1 + 1e-5)


@pytest.mark.parametrize(("s", "value"), [(16, 11.16), (32, 136.5)])
def test_attractive_attention_has_an_eighth_of_the_exponent(s, value):
    f = attention(s * jnp.eye(2))
    lower = two_dirac_bound(f, BALL).value
    assert lower == pytest.approx((1 + s / 8) * math.exp(s / 8) / 2, rel=1e-9)
    assert exact(f, worst_measure(f, BALL, steps=0).measure) == pytest.approx(value, rel=2e-3)


@pytest.mark.parametrize(("s", "value"), [(8, 175.7), (12, 1864)])
def test_skew_attention_without_real_eigenvalues_is_covered(s, value):
    f = attention(s * TURN)
    assert exact(f, worst_measure(f, BALL, steps=0).measure) == pytest.approx(value, rel=2e-3)


@pytest.mark.parametrize(
    ("n", "recalled"), [(20, 4.16), (100, 7.99), (400, 10.0), (1000, 9.1), (5000, 5.3)]
)
def test_the_curve_in_n_grows_like_its_root_and_saturates(n, recalled):
    s, heavy = 3.0, math.exp(-6)
    share = 1 / (1 + (n - 1) * heavy)
    sharper = math.sqrt(n - 1) * share * (1 + 2 * s * (1 - share))
    f = attention(-s * jnp.eye(2))
    lower = two_dirac_bound(f, BALL, n=n).value
    assert math.sqrt(n - 1) * share == pytest.approx(recalled, rel=6e-3)
    assert sharper * (1 - 1e-9) <= lower <= mf.lipschitz_bound(f, BALL, n=n).value


@pytest.mark.slow
def test_n_equal_atoms_have_the_slope_of_their_formula():
    f = attention(-3 * jnp.eye(2))
    for n in (5, 20):
        mu = worst_measure(f, BALL, n=n, steps=0).measure
        assert mu.size == n and np.ptp(mu.weights) == 0
        lower = two_dirac_bound(f, BALL, n=n).value
        assert lower <= exact(f, mu) <= 1.1 * lower


@pytest.mark.slow
def test_the_lower_bound_is_below_the_constant_of_its_measure(key):
    for k in jr.split(key, 10):
        A, V = 2 * jr.normal(k, (2, 3, 3))
        f = mf.SelfAttention(A, V, a=V[0])
        lower = two_dirac_bound(f, BALL).value
        assert lower <= exact(f, worst_measure(f, BALL, steps=0).measure) * (1 + 1e-9)
        assert lower <= mf.lipschitz_bound(f, BALL).value


@pytest.mark.slow
def test_a_worst_measure_stays_on_its_domain(key):
    f = attention(jr.normal(key, (3, 3)))
    for domain in (
        BALL,
        mf.Sphere(2.0),
        mf.LayerNormRange(jnp.array([1.0, 2.0, 0.5]), jnp.ones(3)),
    ):
        assert jnp.all(domain.contains(worst_measure(f, domain, steps=0).measure.points))


def test_the_lower_bound_survives_where_masses_underflow():
    bound = two_dirac_bound(attention(-800 * jnp.eye(2)), BALL)
    assert bound.kind == "lower" and math.isfinite(bound.value)


def test_worst_measures_want_a_plain_head():
    with pytest.raises(TypeError, match="`f` must be a SelfAttention"):
        worst_measure(mf.SelfAttention(jnp.eye(2), jnp.eye(2), soft_cap=1.0), BALL)


@pytest.mark.slow
def test_a_blown_up_measure_tends_to_the_hardmax_limit(key):
    for k in jr.split(key, 5):
        keys = jr.split(k, 4)
        A, V = jr.normal(keys[0], (2, 3, 3))
        points, weights = jr.normal(keys[1], (6, 3)), 0.1 + jr.uniform(keys[2], (6,))
        f = attention(A, V)
        limit = hardmax_limit(f, mf.Measure(points, weights))
        assert exact(f, mf.Measure(60 * points, weights)) == pytest.approx(limit, rel=1e-5)
