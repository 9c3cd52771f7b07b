"""What attacks say of distances: those of their own moves, whatever the precision of the search."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import ot
import pytest
from attack_problems import BALL, head, tokens
from random_maps import as_installed

import meanfield as mf
from meanfield.attacks import attack


KEY = jr.key(5)
QUICK = {"starts": 1, "steps": 4}
DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
METHODS = {
    "split-inf": mf.MassSplitting(0.01, p=jnp.inf, copies=3, domain=BALL, **QUICK),
    "split-2": mf.MassSplitting(1e-6, p=2, max_displacement=1e-3, **QUICK),
    "split-1": mf.MassSplitting(1e-5, p=1, max_displacement=1e-3, **QUICK),
    "shift-inf": mf.TokenShift(1e-3, p=jnp.inf, **QUICK),
    "shift-2": mf.TokenShift(1e-6, **QUICK),
    "peel-inf": mf.MassPeeling(0.9, BALL, p=jnp.inf, max_displacement=0.3, **QUICK),
    "peel-2": mf.MassPeeling(1e-6, BALL, max_displacement=0.3, **QUICK),
}


def problem(dtype, *, conditional=False):
    f, mu = head(), tokens()
    if conditional:
        mu = mf.ConditionalMeasure(mu.points.reshape(2, 2, 3), jnp.array([[0.4, 0.6], [0.7, 0.3]]))
    return jax.tree.map(lambda x: x.astype(dtype), (f, mu))


def moves(mu, found):
    """How far each part went from its atom, and the mass that did: all mass of an atom goes."""
    masses, origin = np.asarray(mu.masses, float).reshape(-1), found.origin.reshape(-1)
    parts = np.asarray(found.measure.masses, float).reshape(-1)
    points = np.asarray(found.measure.points, float).reshape(len(parts), -1)
    origin, parts, points = origin[parts > 0], parts[parts > 0], points[parts > 0]
    parts *= masses[origin] / np.bincount(origin, parts)[origin]
    before = np.asarray(mu.points, float).reshape(len(masses), -1)[origin]
    return np.linalg.norm(points - before, axis=1), parts


def norm(lengths, masses, p):
    return lengths.max() if math.isinf(p) else (masses @ lengths**p) ** (1 / p)


def exponent(method):
    return getattr(method, "settings", method).p


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("name", METHODS)
def test_a_distance_is_what_near_moves_cost(name, dtype):
    """Moves far below the gaps between atoms are an optimal coupling."""
    f, mu = problem(dtype)
    found = attack(f, mu, METHODS[name], key=KEY)
    lengths, masses = moves(mu, found)
    assert found.distance_in.dtype == dtype
    moved = norm(lengths, masses, exponent(METHODS[name]))
    np.testing.assert_allclose(found.distance_in, moved, rtol=2 * jnp.finfo(dtype).eps)
    np.testing.assert_allclose(found.displacement, lengths.max(), rtol=2 * jnp.finfo(dtype).eps)


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("name", ["split-inf", "split-2", "shift-2", "peel-inf"])
def test_the_same_of_conditional_measures(name, dtype):
    f, mu = problem(dtype, conditional=True)
    found = attack(mf.CausalAttention(f), mu, METHODS[name], key=KEY)
    moved = norm(*moves(mu, found), exponent(METHODS[name]))
    np.testing.assert_allclose(found.distance_in, moved, rtol=2 * jnp.finfo(dtype).eps)


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("kind", ["split", "peel"])
def test_far_moves_cost_at_most_as_much_and_exactly_the_optimum(kind, p, dtype):
    f, mu = problem(dtype)
    method = mf.MassSplitting(0.5, p=p, domain=BALL, **QUICK)
    if kind == "peel":
        method = mf.MassPeeling(0.7, BALL, p=p, **QUICK)
    found = attack(f, mu, method, key=KEY)
    x, y = (np.asarray(m.points, float) for m in (mu, found.measure))
    _, parts = moves(mu, found)
    costs = np.linalg.norm(x[:, None] - y, axis=-1) ** p
    exact = ot.emd2(np.asarray(mu.weights, float), parts, costs) ** (1 / p)
    np.testing.assert_allclose(found.distance_in, exact, rtol=4 * jnp.finfo(dtype).eps)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_budgets_hold_in_both_precisions_at_random(seed):
    rng = np.random.default_rng(seed)
    dtype, p = (jnp.float32, jnp.float64)[seed % 2], float(rng.choice([1, 2, np.inf]))
    budget, copies = 10 ** rng.uniform(-6, -0.5), int(rng.integers(1, 4))
    x = rng.normal(size=(3, 3)) + rng.choice([0.0, 30.0])
    f, mu = problem(dtype)
    mu = mf.Measure(jnp.asarray(x, dtype), jnp.asarray(rng.dirichlet(np.ones(3)), dtype))
    budget = max(budget, 3 * float(jnp.finfo(dtype).eps * mu.radius))
    method = mf.MassSplitting(budget, p=p, copies=copies, max_displacement=1.0, **QUICK)
    found = attack(f, mu, method, key=jr.key(seed))
    assert found.distance_in <= budget * (1 + 4 * jnp.finfo(dtype).eps)
    assert found.distance_in <= norm(*moves(mu, found), p) * (1 + 2 * jnp.finfo(dtype).eps)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_searched_in_float32(dtype):
    half = problem(dtype)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    for method in (mf.TokenShift(0.1, **QUICK), mf.MassPeeling(0.1, BALL, **QUICK)):
        one, other = attack(*half, method, key=KEY), attack(*single, method, key=KEY)
        assert one.ratio == other.ratio and one.measure.points.dtype == jnp.float32


def test_a_budget_below_the_rounding_of_the_points_is_told():
    f, mu = problem(jnp.float32)
    far = mu.pushforward(lambda x: x + 1e4)
    with pytest.raises(ValueError, match="`budget` must be at least 0.002.*Subtract their mean"):
        attack(f, far, mf.TokenShift(1e-4), key=KEY)


@pytest.mark.parametrize("count", [1.5, math.inf, math.nan, True, "2", None, 0])
def test_counts_are_whole_numbers(count):
    for name in ("starts", "steps", "copies"):
        with as_installed(), pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
            mf.MassSplitting(0.1, domain=BALL, **{name: count})


def test_counts_of_numpy_are_counts():
    with as_installed():
        assert mf.TokenShift(0.1, steps=np.int64(3)).settings.steps == 3  # pyright: ignore
