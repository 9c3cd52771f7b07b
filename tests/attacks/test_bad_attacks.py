"""Attacks say what does not fit, before they search."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from attack_problems import BALL, head, tokens
from random_maps import as_installed

import meanfield as mf
from meanfield.attacks import attack


KEY = jr.key(5)


@pytest.mark.parametrize("budget", [0, -1.0, math.nan, math.inf, "a", None])
def test_a_budget_is_a_positive_number(budget):
    with pytest.raises(ValueError, match="`budget` must be a positive number"):
        with as_installed():
            mf.TokenShift(budget)  # pyright: ignore


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`p` must be 1, 2 or"):
        mf.TokenShift(0.1, p=3)
    with pytest.raises(ValueError, match="`copies` must be a whole number"):
        mf.MassSplitting(0.1, copies=0, domain=BALL)
    with pytest.raises(ValueError, match="`domain` or `max_displacement` must be given"):
        mf.MassSplitting(0.1)


@pytest.mark.slow
def test_what_does_not_fit_is_refused_before_any_search():
    f, mu = head(), tokens()
    with pytest.raises(ValueError, match="`domain` must contain the measure; 4 of its atoms"):
        attack(f, mu, mf.TokenShift(0.1, domain=mf.Ball(0.1)), key=KEY)
    with pytest.raises(ValueError, match="`budget` must be at most 8"):
        attack(f, mu, mf.TokenShift(9.0, domain=BALL), key=KEY)
    with as_installed(), pytest.raises(TypeError, match="`method` must be an attack method"):
        attack(f, mu, "shift", key=KEY)  # pyright: ignore
    with as_installed(), pytest.raises(TypeError, match="`f` must be an in-context map"):
        attack(jnp.tanh, mu, mf.TokenShift(0.1), key=KEY)
    with pytest.raises(ValueError, match="must have finite points"):
        attack(f, mf.Measure(mu.points.at[0, 0].set(jnp.nan)), mf.TokenShift(0.1), key=KEY)
    with pytest.raises(ValueError, match="`mu` must have mass"):
        attack(f, mf.Measure(mu.points, jnp.zeros(4)), mf.TokenShift(0.1), key=KEY)


@pytest.mark.slow
def test_objectives_and_domains_that_do_not_fit_are_told():
    f, mu = head(), tokens()
    with as_installed(), pytest.raises(TypeError, match="`objective` must be mf.OutputDisplace"):
        mf.MassPeeling(0.1, BALL, objective=mf.OutputDisplacement)  # pyright: ignore
    with as_installed(), pytest.raises(TypeError, match="`loss` must be a function"):
        mf.TaskLoss("loss")  # pyright: ignore
    with pytest.raises(ValueError, match="`direction` must be a vector"):
        mf.TargetDirection(jnp.ones((2, 3)))
    push = mf.TokenShift(0.1, objective=mf.TargetDirection(jnp.ones(4)))
    with pytest.raises(ValueError, match="dimension of the outputs, 3; got 4"):
        attack(f, mu, push, key=KEY)
    domain = mf.LayerNormRange(jnp.ones(4), jnp.zeros(4))
    with pytest.raises(ValueError, match="in the 3 dimensions of the measure"):
        attack(f, mu, mf.TokenShift(0.1, domain=domain), key=KEY)


@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
def test_an_attack_cannot_be_traced_and_says_so(transform):
    def ratio(x):
        return attack(head(), mf.Measure(x), mf.TokenShift(0.1), key=KEY).ratio

    with pytest.raises(TypeError, match="cannot be traced. Call it outside"):
        transform(ratio)(tokens().points)


@pytest.mark.parametrize("fractions", [0.0, 1.5, -0.1, math.nan, (), (0.1, 0.0)])
def test_fractions_lie_between_zero_and_one(fractions):
    with pytest.raises(ValueError, match="`fractions` must lie in"):
        mf.MassPeeling(fractions, BALL)


@pytest.mark.slow
def test_peeling_wants_a_domain_that_holds_the_measure_and_an_atom_with_mass():
    f, mu = head(), tokens()
    with as_installed(), pytest.raises(ValueError, match="`domain` must be given"):
        mf.MassPeeling(0.1, None)  # pyright: ignore
    with pytest.raises(ValueError, match="`domain` must contain the measure"):
        attack(f, mu, mf.MassPeeling(0.1, mf.Ball(0.1)), key=KEY)
    with pytest.raises(ValueError, match="`max_displacement` must be a positive number"):
        mf.MassPeeling(0.1, BALL, max_displacement=0)
