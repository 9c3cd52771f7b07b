"""Attention layers small enough for all their quadratic laws, and losses of random data."""

import jax.numpy as jnp
import jax.random as jr

import meanfield as mf


def zeros(heads, groups, k, d, *, biases=False, **extra):
    """An attention of these shapes; the finder reads the shapes alone."""
    if biases:
        names = {"query_bias": (heads, k), "key_bias": (groups, k), "value_bias": (groups, k)}
        extra |= {name: jnp.zeros(shape) for name, shape in names.items()}
        extra["output_bias"] = jnp.zeros(d)
    shapes = [(heads, k, d), (groups, k, d), (groups, k, d), (heads, d, k)]
    return mf.MultiheadAttention(*map(jnp.zeros, shapes), **extra)


def sequences(n, d):
    """Draws n points and n targets."""

    def draw(key):
        one, other = jr.split(key)
        return jr.normal(one, (n, d)), jr.normal(other, (n, d))

    return draw


def error(f, batch, *, ordered=False):
    """The mean squared error of a map at a batch."""
    x, y = batch
    mu = mf.ConditionalMeasure.from_sequence(x) if ordered else mf.Measure(x)
    return jnp.mean((f(mu).points.reshape(y.shape) - y) ** 2)


def ordered_error(f, batch):
    return error(f, batch, ordered=True)


def skipped_error(f, batch):
    return error(mf.Residual(f), batch)
