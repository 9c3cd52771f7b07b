"""The local constant where float32 cannot tell scores apart, and in half precision."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from dense_svd import dense_constants_of
from random_maps import multihead, random_measure, self_attention

import meanfield as mf
from meanfield.lipschitz.attained import converted


pytestmark = pytest.mark.slow  # every case compiles in two precisions

MAPS = {"one head": self_attention, "four heads": multihead}
MOVES = {"times 1e4": lambda x: 1e4 * x, "moved by 1e4": lambda x: x + 1e4}
every_map = pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
every_move = pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)


def problem(make, move, key):
    """A map and a measure in float32."""
    mu = random_measure(key)
    return converted((make(key), mu.with_points(move(mu.points))), jnp.float32)


@every_map
@every_move
def test_saturated_scores_are_searched_in_float64(make, move):
    f, mu = problem(make, move, jr.key(0))
    found = mf.local_lipschitz(f, mu, key=jr.key(1), upper=False)
    assert found.value.dtype == found.tangent.dtype == jnp.float32
    with jax.enable_x64(True):
        exact = max(dense_constants_of(*converted((f, mu), jnp.float64)))
    np.testing.assert_allclose(found.value, exact, rtol=1e-6)
    assert float(found.lower) <= exact


@every_move
def test_a_compiled_search_says_that_float32_cannot_tell_scores_apart(move):
    f, mu = problem(self_attention, move, jr.key(0))
    search = jax.jit(lambda mu: mf.local_lipschitz(f, mu, key=jr.key(1), throw=False))
    assert search(mu).result == mf.RESULTS.beyond_precision


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
@every_map
def test_half_precision_is_searched_in_float32(make, dtype):
    half = converted(problem(make, lambda x: x, jr.key(0)), dtype)
    single = converted(half, jnp.float32)
    one, other = (mf.local_lipschitz(*p, key=jr.key(1)) for p in (half, single))
    assert one.value == other.value and one.value.dtype == jnp.float32
