"""Shares that are constant nearby have no derivative; a score of -inf is absence."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import assert_close, multihead, random_sequence

import meanfield as mf
from meanfield.attention import topk_magnitude, topk_mask
from meanfield.attention.bias import AbstractScoreBias


CHOICES = [
    mf.Softmax(),
    mf.Softmax(cap=2.0),
    mf.Sigmoid(-0.3),
    mf.Linear(),
    mf.ChiSquare(0.5),
    mf.ChiSquare(0.5, cap=2.0),
    mf.Entmax(),
    mf.Entmax(1.3),
    mf.TopMass(0.5),
]
POWERS = [4 / 3, 1.5, 1.9, 2]
pytestmark = pytest.mark.slow  # every choice compiles

every_choice = pytest.mark.parametrize("choice", CHOICES, ids=repr)

# seen; hidden; a query that sees one atom; a query that sees none
SCORES = jnp.asarray(
    [
        [1.0, -jnp.inf, 0.3, 2.0],
        [0.1, 0.2, -0.5, -jnp.inf],
        [-jnp.inf, 3.0, -jnp.inf, -jnp.inf],
        [-jnp.inf] * 4,
    ]
)
LOG_MASS = jnp.log(jnp.asarray([0.1, 0.2, 0.3, 0.4]))


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("x", [(3, 2.5, 0.5, -1), (3, 3, 0.5, -1), (3, 3 - 1e-7, 0.5, -1)])
def test_a_mask_of_ones_and_zeros_does_not_change(x, p):
    x = jnp.asarray(x)
    mask, slope = jax.value_and_grad(
        lambda x: topk_mask(x, 2, scale=0.1, p=p) @ jnp.asarray([1.0, 2, 3, 4])
    )(x)
    assert mask == 3
    np.testing.assert_array_equal(slope, 0)


def test_tied_entries_that_are_kept_whole_move_one_to_one():
    x = jnp.asarray([3, 3, 0.5, -1])
    slope = jax.jacfwd(lambda x: topk_magnitude(x, 2, scale=0.1))(x)
    np.testing.assert_array_equal(slope, np.diag([1.0, 1, 0, 0]))


@pytest.mark.float64
@pytest.mark.parametrize("p", POWERS)
def test_derivatives_of_masks_agree_with_differences_where_most_are_constant(p, key):
    x, step = jr.normal(key, (200, 8)), 1e-9
    mask = jax.jit(jax.vmap(lambda x: topk_mask(x, 3, scale=0.01, p=p)))
    slopes = jax.jit(jax.vmap(jax.jacfwd(lambda x: topk_mask(x, 3, scale=0.01, p=p))))(x)
    moved = [(mask(x + step * e) - mask(x - step * e)) / (2 * step) for e in np.eye(8)]
    assert (np.abs(slopes).max((1, 2)) == 0).sum() > 100
    np.testing.assert_allclose(slopes, np.stack(moved, -1), atol=1e-3)


@pytest.mark.parametrize("p", [4 / 3, 1.5, 2])
@pytest.mark.parametrize("dtype", [int, bool])
def test_integers_are_taken_as_reals(p, dtype):
    x = jnp.asarray([3, 2, 0, 0]).astype(dtype)
    assert_close(topk_mask(x, 2, scale=0.1, p=p), jnp.asarray([1.0, 1, 0, 0]))
    assert_close(topk_magnitude(x, 2, scale=0.1), x.astype(float))


@pytest.mark.parametrize("operator", [topk_mask, topk_magnitude])
def test_complex_vectors_are_refused(operator):
    with pytest.raises(ValueError, match="`x` must be real; got complex"):
        operator(jnp.ones(3, complex), 2)


@pytest.mark.parametrize("choice", [mf.ChiSquare(0.1, cap=2.0), mf.Softmax(cap=2.0)], ids=repr)
def test_tied_atoms_at_their_cap_answer_to_nothing(choice):
    scores = jnp.asarray([[3.0, 3.0, -60.0, -60.0]])
    shares, response = choice.respond(scores, jnp.log(jnp.full(4, 0.25)))
    assert_close(shares, jnp.asarray([[0.5, 0.5, 0, 0]]))
    assert_close(response, jnp.zeros((1, 4)))


def test_a_constant_under_tied_capped_shares_is_that_of_differences():
    mu = mf.Measure(jnp.asarray([[1.0, 1], [1, -1], [-1, 3], [-1, -3]]))
    f = mf.SelfAttention(jnp.diag(jnp.asarray([3.0, 0])), jnp.eye(2), choice=mf.ChiSquare(0.1, 2.0))
    found = mf.local_lipschitz(f, mu, key=jr.key(0), upper=False)
    assert_close(found.value, jnp.asarray(1.0))
    assert float(found.lower) <= 1


@every_choice
def test_a_score_of_minus_infinity_is_absence(choice):
    seen = SCORES > -jnp.inf
    finite = jnp.where(seen, SCORES, 7.0)

    def outcome(scores, visible):
        def shares(scores, log_mass):
            return choice.weigh(scores, log_mass, visible)

        slopes = jax.jacrev(shares, argnums=(0, 1))(scores, LOG_MASS)
        forward = jax.jacfwd(shares, argnums=(0, 1))(scores, LOG_MASS)
        return (*choice.respond(scores, LOG_MASS, visible), slopes, forward)

    assert_close(outcome(SCORES, None), outcome(finite, seen))


class Behind(AbstractScoreBias):
    """A mask written as a bias: a query does not see what comes after it."""

    def __call__(self, queries, keys):
        hidden = keys[None] > queries[:, None]
        return jnp.where(jnp.stack([hidden] * 4), -jnp.inf, 0.0)

    def head(self, index):
        return self


def test_constants_under_a_mask_written_as_a_bias_are_those_under_the_mask(key):
    f, mu = multihead(key), random_sequence(key)
    biased = mf.local_lipschitz(multihead(key, score_bias=Behind()), mu, key=key)
    masked = mf.local_lipschitz(mf.CausalAttention(f), mu, key=key)
    for name in ("value", "smooth", "split", "lower", "upper"):
        assert_close(getattr(biased, name), getattr(masked, name), rtol=1e-7)
