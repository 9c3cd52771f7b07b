"""Balanced factors: the same attention, the least sum of squares."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gauge_changes import GAUGED, measure_for, regauged
from random_maps import (
    as_installed,
    l2_attention,
    multihead,
    norms,
    random_measure,
)

import meanfield as mf
from meanfield.training import attention_laws, balance_gauge, balancedness


pytestmark = pytest.mark.float64  # identities up to rounding


KINDS = GAUGED | {
    "no biases": lambda key: multihead(key, biases=False),
    "half turning": lambda key: multihead(key, rotary=mf.Rotary(theta=7.0, dims=2)),
    "turning, normed": lambda key: multihead(key, rotary=mf.Rotary(theta=7.0), **norms(key)),
}


def sum_of_squares(f):
    return sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(eqx.filter(f, eqx.is_inexact_array)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_balanced_factors_make_the_same_attention(kind, key):
    f = KINDS[kind](key)
    g, mu = balance_gauge(f), measure_for(f, key)
    out = f(mu).points
    assert float(jnp.max(jnp.abs(g(mu).points - out))) < 1e-12 * float(jnp.max(jnp.abs(out)))
    assert max(map(np.max, balancedness(g).values())) < 1e-14
    assert min(map(np.max, balancedness(f).values())) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_other_gauge_has_a_smaller_sum_of_squares(kind, key):
    f, rng = KINDS[kind](key), np.random.default_rng(0)
    least = sum_of_squares(balance_gauge(f))
    for other in (f, *(regauged(f, rng) for _ in range(5))):
        assert sum_of_squares(other) > 1.01 * least
        back = balance_gauge(other)
        if f.score_bias is None:
            assert sum_of_squares(back) == pytest.approx(least, rel=1e-9)


def test_every_law_of_balanced_factors_is_zero(key):
    laws = attention_laws(balance_gauge(multihead(key)))
    assert max(float(jnp.max(jnp.abs(law))) for law in laws.values()) < 1e-13


def test_the_sum_of_squares_is_twice_the_nuclear_norm(key):
    f = mf.MultiheadAttention.random(dim=6, heads=2, head_dim=3, key=key)
    g = balance_gauge(f)
    for h in range(2):
        product = np.asarray(f.query_proj[h].T @ f.key_proj[h])
        squares = float(jnp.sum(g.query_proj[h] ** 2) + jnp.sum(g.key_proj[h] ** 2))
        assert squares == pytest.approx(2 * np.linalg.norm(product, "nuc"), rel=1e-12)
        np.testing.assert_allclose(
            g.query_proj[h] @ g.query_proj[h].T, g.key_proj[h] @ g.key_proj[h].T, atol=1e-13
        )


def test_what_is_balanced_stays_as_it_is(key):
    once = balance_gauge(multihead(key))
    for one, two in zip(jax.tree.leaves(once), jax.tree.leaves(balance_gauge(once)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)


def test_heads_wider_than_the_points_and_heads_that_vanish_are_balanced(key):
    wide = mf.MultiheadAttention.random(dim=3, heads=1, head_dim=5, key=key)
    gone = eqx.tree_at(lambda f: f.key_proj, wide, 0 * wide.key_proj)
    mu = random_measure(key, n=5, d=3)
    for f in (wide, gone):
        g = balance_gauge(f)
        np.testing.assert_allclose(g(mu).points, f(mu).points, atol=1e-13)
        assert balancedness(g)["query_key"].max() < 1e-14
    assert float(jnp.max(jnp.abs(balance_gauge(gone).query_proj))) == 0


def test_causal_attention_and_single_precision(key):
    f = multihead(key)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), f)
    g = balance_gauge(mf.CausalAttention(single)).attention
    assert g.query_proj.dtype == jnp.float32 and g.output_bias is not None
    np.testing.assert_allclose(g.query_proj, balance_gauge(f).query_proj, atol=1e-5)


def test_what_has_no_factors_is_refused_by_name(key):
    for f in (mf.SelfAttention(jnp.eye(2), jnp.eye(2)), l2_attention(key)):
        named = f"to have factors .* got {type(f).__name__}"
        with as_installed(), pytest.raises(TypeError, match=named):
            balance_gauge(f)
