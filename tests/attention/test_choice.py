"""Choices: who gets how much, against independent solvers; laws of measures; derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize
from precision import EPS
from random_maps import (
    DIM,
    apply,
    as_installed,
    assert_close,
    multihead,
    random_measure,
    random_sequence,
    relative_bias,
    self_attention,
)

import meanfield as mf
from meanfield.attention import attending
from meanfield.lipschitz import LinearisedMap, jacobian


CHOICES = {
    "capped-softmax": mf.Softmax(cap=2.0),
    "chi-square": mf.ChiSquare(2.0),
    "capped-chi-square": mf.ChiSquare(0.5, cap=2.0),
    "entmax-3/2": mf.Entmax(1.5, 2.0),
    "entmax-1.3": mf.Entmax(1.3),
    "top-mass": mf.TopMass(0.4),
    "sigmoid": mf.Sigmoid(-0.3),
    "linear": mf.Linear(),
    "doubly-stochastic": mf.DoublyStochastic(),
}
every_choice = pytest.mark.parametrize("choice", CHOICES)
NORMALISED = [name for name in CHOICES if name not in ("sigmoid", "linear")]
# one of each kind of threshold
SOME = ["capped-softmax", "capped-chi-square", "entmax-1.3", "doubly-stochastic"]


def chosen(choice, key, e=4):
    return eqx.tree_at(lambda f: f.choice, self_attention(key, e), CHOICES[choice])


def scores_and_masses(key, m=6, n=9):
    scores, weights = jr.normal(key, (m, n)) * 2, jnp.exp(jr.normal(key, (n,)))
    return scores, jnp.log(weights), np.asarray(weights / weights.sum())


def density(choice, key):
    scores, log_mass, masses = scores_and_masses(key)
    shares = CHOICES[choice].weigh(scores, log_mass)
    return np.asarray(scores), np.asarray(shares) / masses, masses


def level_of(density, scores, masses):
    """Root of int h(s - tau) = 1 by bracketing: an independent way to the threshold."""
    return scipy.optimize.brentq(
        lambda tau: masses @ density(scores - tau) - 1, scores.min() - 50, scores.max() + 50,
        xtol=1e-14,
    )  # fmt: skip


DENSITIES = {
    "capped-softmax": lambda s: np.minimum(2.0, np.exp(s)),
    "chi-square": lambda s: np.maximum(s, 0) / 2.0,
    "capped-chi-square": lambda s: np.clip(s / 0.5, 0, 2.0),
    "entmax-3/2": lambda s: np.maximum(0.5 * s / 2.0, 0) ** 2,
    "entmax-1.3": lambda s: np.maximum(0.3 * s, 0) ** (1 / 0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("choice", DENSITIES)
def test_the_threshold_is_the_root_of_its_equation(choice, key):
    scores, found, masses = density(choice, key)
    for row, h in zip(scores, found, strict=True):
        level = level_of(DENSITIES[choice], row, masses)
        assert_close(h, DENSITIES[choice](row - level), atol=1e-12)


@pytest.mark.slow
def test_top_mass_maximises_the_mean_score_under_its_cap(key):
    scores, found, masses = density("top-mass", key)
    for row, h in zip(scores, found, strict=True):
        best = scipy.optimize.linprog(
            -row * masses, A_eq=masses[None], b_eq=[1], bounds=(0, 1 / 0.4)
        )
        assert_close(h @ (masses * row), -best.fun)
        assert_close(h @ masses, 1)


@pytest.mark.float64  # other draws in float32
@pytest.mark.slow
def test_sparse_choices_leave_atoms_out(key):
    for choice in ("chi-square", "capped-chi-square", "entmax-3/2", "top-mass"):
        _, found, _ = density(choice, key)
        assert 0.1 < np.mean(found == 0) < 0.9


@pytest.mark.slow
def test_sparsemax_is_chi_square_at_a_scale_that_counts_tokens(key):
    scores = jr.normal(key, (3, 6))
    shares = mf.ChiSquare(1 / 6).weigh(scores, jnp.full(6, -jnp.log(6)))
    for s, p in zip(np.asarray(scores), np.asarray(shares), strict=True):
        # projection on the simplex: p = max(s - tau, 0)
        support = np.sort(s)[::-1]
        sums = (np.cumsum(support) - 1) / np.arange(1, 7)
        assert_close(p, np.maximum(s - sums[support > sums][-1], 0))


@pytest.mark.slow
def test_a_cap_out_of_reach_is_none(key):
    scores, log_mass, _ = scores_and_masses(key)
    for free, capped in [
        (mf.Softmax(), mf.Softmax(cap=1e9)),
        (mf.ChiSquare(1.0), mf.ChiSquare(1.0, cap=1e9)),
        (mf.ChiSquare(1.5), mf.Entmax(2.0, 1.5)),
    ]:
        assert_close(free.weigh(scores, log_mass), capped.weigh(scores, log_mass))


def test_a_small_scale_keeps_the_top_of_the_mass(key):
    scores, log_mass, _ = scores_and_masses(key)
    soft = mf.ChiSquare(1e-3, cap=2.5).weigh(scores, log_mass)
    # scores round by a few units in the last place, and their differences are divided by the scale
    hard = mf.TopMass(0.4).weigh(scores, log_mass)
    assert_close(soft, hard, rtol=0, atol=64 * EPS / 1e-3)


@pytest.mark.slow
def test_tied_atoms_share_what_is_left():
    shares = mf.TopMass(0.5).weigh(jnp.array([[1.0, 0.0, 0.0, -1.0]]), jnp.log(jnp.full(4, 0.25)))
    assert_close(shares, [[0.5, 0.25, 0.25, 0]])


@pytest.mark.slow
def test_a_piece_without_slope_has_no_derivative():
    # two equal atoms of four carry the cap exactly: moving scores a little changes nothing
    choice, log_mass = mf.ChiSquare(1e-3, cap=2.0), jnp.log(jnp.full(4, 0.25))
    scores = jnp.array([[3.0, 2.0, 1.0, 0.0]])
    assert_close(choice.weigh(scores, log_mass), [[0.5, 0.5, 0, 0]], atol=1e-12)
    slope = jax.jacfwd(lambda s: choice.weigh(s, log_mass))(scores)
    assert_close(slope, jnp.zeros((1, 4, 1, 4)), atol=1e-9)


@eqx.filter_jit
def images(f, mu, order):
    """f(mu), and what the laws compare with it."""
    far = jnp.concatenate([mu.points, jnp.full((2, DIM), jnp.nan)])
    absent = mf.Measure(far, jnp.concatenate([mu.weights, jnp.zeros(2)]))
    shuffled = mf.Measure(mu.points[order], mu.weights[order])
    heavier = mf.Measure(mu.points, 7 * mu.weights)
    return (
        f(mu).points,
        f(mu.split(2)).points,
        f(absent).points[: mu.size],
        f(shuffled).points,
        f(heavier).points,
    )


@pytest.mark.slow
@every_choice
def test_splitting_absence_order_and_total_mass_change_nothing(choice, key):
    f, mu = chosen(choice, key), random_measure(key)
    order = jr.permutation(key, mu.size)
    image, split, absent, shuffled, heavier = images(f, mu, order)
    assert_close(split, jnp.repeat(image, 2, axis=0))
    assert_close(absent, image)
    assert_close(shuffled, image[order])
    assert_close(heavier, image)


@pytest.mark.slow
@pytest.mark.parametrize("choice", NORMALISED)
def test_shares_sum_to_one_and_columns_too_where_they_must(choice, key):
    f, mu = chosen(choice, key), random_measure(key)
    shares = eqx.filter_jit(lambda f, mu: f.weights(mu))(f, mu)[0]
    assert_close(shares.sum(axis=1), np.ones(8))
    assert float(shares.min()) >= 0
    masses = mu.weights / mu.mass
    assert (choice == "doubly-stochastic") == np.allclose(masses @ shares, masses)


@pytest.mark.slow
@pytest.mark.parametrize("choice", SOME)
def test_float32_agrees_with_float64(choice, key):
    f, mu = chosen(choice, key), random_measure(key)
    single = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_array(x) else x, (f, mu))
    points, exact = apply(*single).points, apply(f, mu).points
    assert points.dtype == jnp.float32
    assert_close(points, exact, rtol=0, atol=2e-5 * float(jnp.max(jnp.abs(exact))))


@eqx.filter_jit
def products(f, mu, v, w):
    """J v, D v, J^T w, D^T w in closed form and by automatic differentiation."""
    return [
        (d.smooth(v), d.split(v), d.smooth_transpose(w), d.split_transpose(w))
        for d in (jacobian(f, mu), LinearisedMap(f, mu))
    ]


@pytest.mark.slow
@every_choice
def test_the_derivative_in_closed_form_is_the_automatic_one(choice, key):
    f, mu = multihead(key, soft_cap=1.5, e=4, choice=CHOICES[choice]), random_measure(key)
    v, w = jr.normal(key, (8, DIM)), jr.normal(key, (8, 4))
    assert_close(*products(f, mu, v, w))


@pytest.mark.float64
@pytest.mark.slow
@pytest.mark.parametrize("choice", [*SOME, "top-mass"])
def test_derivatives_in_points_and_masses_agree_with_differences(choice, key):
    f, mu = chosen(choice, key), random_measure(key)

    @jax.jit
    def energy(mu):
        return jnp.sum(f(mu).points ** 2)

    direction = jax.tree.map(lambda leaf: jr.normal(jr.fold_in(key, 2), leaf.shape), mu)
    step = 1e-6
    ahead = jax.tree.map(lambda x, v: x + step * v, mu, direction)
    behind = jax.tree.map(lambda x, v: x - step * v, mu, direction)
    gradient = jax.jit(jax.grad(energy))(mu)
    slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
    assert_close((energy(ahead) - energy(behind)) / (2 * step), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["capped-chi-square", "doubly-stochastic", "sigmoid"])
def test_blocks_give_the_same_image_and_derivative(choice, key, monkeypatch):
    f = multihead(key, soft_cap=1.5, e=4, choice=CHOICES[choice])
    mu = random_measure(key, n=40)
    v, w = jr.normal(key, (40, DIM)), jr.normal(key, (40, 4))
    run = eqx.filter_jit(lambda f, mu: (f(mu).points, products.__wrapped__(f, mu, v, w)[0]))
    whole = run(f, mu)
    monkeypatch.setattr(attending, "_WHOLE", 100)
    monkeypatch.setattr(attending, "_BLOCK", 1)
    monkeypatch.setattr(attending, "_BATCHED", 0)
    assert_close(eqx.filter_jit(lambda f, mu: run.__wrapped__(f, mu))(f, mu), whole)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["chi-square", "doubly-stochastic"])
def test_memory_grows_in_proportion_to_the_length(choice, key):
    f = mf.MultiheadAttention.random(dim=16, heads=4, key=key)
    f = eqx.tree_at(lambda f: f.choice, f, CHOICES[choice])

    def bytes_at(n):
        x = jax.ShapeDtypeStruct((n, 16), jnp.result_type(float))
        run = jax.jit(lambda x: f(mf.Measure(x)).points)
        return run.lower(x).compile().memory_analysis().temp_size_in_bytes

    assert bytes_at(16384) < 2.2 * bytes_at(8192)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["capped-softmax", "capped-chi-square", "top-mass", "sigmoid"])
def test_a_causal_query_sees_the_measure_of_what_is_behind(choice, key):
    f, mu = chosen(choice, key), random_sequence(key)
    image = apply(mf.CausalAttention(f), mu)
    for s in (1, 3):
        behind = mf.Measure(mu.atoms.points[: 2 * s + 2], mu.atoms.weights[: 2 * s + 2])
        assert_close(image.points[s], eqx.filter_jit(f.at)(behind, mu.points[s]))


@pytest.mark.slow
def test_doubly_stochastic_attention_takes_biases_of_positions_and_refuses_a_mask(key):
    f = multihead(key, score_bias=relative_bias(key), choice=mf.DoublyStochastic())
    mu = random_sequence(key)
    masses = mu.masses.ravel() / mu.masses.sum()
    shares = f.weights(mu)
    assert_close(jnp.einsum("i,hij->hj", masses, shares), jnp.tile(masses, (4, 1)))
    with as_installed(), pytest.raises(ValueError, match="under a mask; got DoublyStochastic"):
        mf.CausalAttention(f)(mu)


@pytest.mark.slow
def test_sinkhorn_that_does_not_converge_says_so(key):
    f = chosen("doubly-stochastic", key)
    f = eqx.tree_at(lambda f: f.choice, f, mf.DoublyStochastic(max_steps=1))
    with pytest.raises(RuntimeError, match="did not reach `rtol` in 1 steps"):
        jax.block_until_ready(f(random_measure(key)).points)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["capped-chi-square", "doubly-stochastic"])
def test_a_batch_of_measures_is_mapped_by_vmap(choice, key):
    f, mu = chosen(choice, key), random_measure(key)
    mus = mf.stack([mu, mu.pad(10)])
    points = eqx.filter_jit(eqx.filter_vmap(lambda mu: f(mu).points))(mus)
    assert_close(points[:, :8], jnp.stack([f(mu).points] * 2))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: mf.Softmax(cap=1.0), "`cap` must be larger than 1"),
        (lambda: mf.ChiSquare(0.0), "`scale` must be larger than 0"),
        (lambda: mf.ChiSquare(1.0, cap=0.5), "`cap` must be larger than 1"),
        (lambda: mf.Entmax(1.0), r"`alpha` must lie in \(1, 2\].*Softmax"),
        (lambda: mf.TopMass(0.0), "`fraction` must be larger than 0"),
        (lambda: mf.TopMass(1.5), "`fraction` must be at most 1"),
        (
            lambda: mf.L2Attention(*[jnp.ones((1, 1, 1))] * 4, choice=mf.Linear()),
            "`choice` must be normalised",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with as_installed(), pytest.raises(ValueError, match=words):
        make()
