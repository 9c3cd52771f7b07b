"""What tests may ask of the precision in use: float64, or float32 where MEANFIELD_TEST_X64=0."""

import jax
import jax.numpy as jnp
import numpy as np


EPS = float(jnp.finfo(jnp.result_type(float)).eps)
# The rounding of sums of a few dozen terms, where JAX's default precision is float32.
_SINGLE = 400 * float(jnp.finfo(jnp.float32).eps)


def rounded(tolerance: float) -> float:
    """A tolerance meant for float64; in float32 not below the rounding of a few dozen terms."""
    return tolerance if jax.config.read("jax_enable_x64") else max(tolerance, _SINGLE)


def assert_close(got, expected, rtol=1e-10, atol=1e-10):
    """Equal leaf by leaf, up to the rounding of sums of a few dozen terms."""
    rtol, atol = rounded(rtol), rounded(atol)
    pairs = [(got, expected)]
    if not hasattr(got, "shape"):
        pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)
