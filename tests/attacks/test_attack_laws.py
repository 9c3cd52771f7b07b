"""An attack sees the measure: neither what absent atoms hold, nor the order, nor whole numbers."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from attack_problems import BALL, head, tokens

import meanfield as mf
from meanfield.attacks import attack


pytestmark = pytest.mark.slow

KEY = jr.key(5)
QUICK = {"starts": 1, "steps": 4}
METHODS = {
    "shift": mf.TokenShift(0.1, **QUICK),
    "split": mf.MassSplitting(0.1, domain=BALL, **QUICK),
    "split-inf": mf.MassSplitting(0.1, p=jnp.inf, **QUICK),
    "peel": mf.MassPeeling((0.3, 0.01), BALL, **QUICK),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", METHODS)
def test_absent_atoms_and_the_order_change_nothing(name, dtype):
    f, mu = jax.tree.map(lambda x: x.astype(dtype), (head(), tokens()))
    rng = np.random.default_rng(0)
    order = rng.permutation(7)
    junk = jnp.asarray([[np.nan] * 3, [np.inf] * 3, [1e30] * 3], dtype)
    points = jnp.concatenate([mu.points, junk])[order]
    weights = jnp.concatenate([mu.weights, jnp.zeros(3, dtype)])[order]
    one = attack(f, mu, METHODS[name], key=KEY)
    other = attack(f, mf.Measure(points, weights), METHODS[name], key=KEY)
    for field in ("ratio", "distance_in", "distance_out", "displacement", "objective"):
        np.testing.assert_array_equal(getattr(other, field), getattr(one, field))
    assert other.result == one.result
    # each part names the atom it came from, as that measure was written
    seen = np.asarray(other.measure.weights) > 0
    assert np.all(np.asarray(weights)[other.origin[seen]] > 0)


@pytest.mark.parametrize("name", METHODS)
def test_whole_points_are_attacked_as_the_same_numbers(name):
    whole = jnp.array([[1, 0, 0], [0, 2, 0], [0, 0, -1]])
    one, other = (
        attack(head(), mf.Measure(points), METHODS[name], key=KEY)
        for points in (whole.astype(head().V.dtype), whole)
    )
    np.testing.assert_array_equal(other.ratio, one.ratio)
