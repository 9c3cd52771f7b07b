"""Small attention heads and measures that attacks are tried on."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import meanfield as mf


BALL = mf.Ball(4.0)


def head() -> mf.SelfAttention:
    """A head with generic matrices in three dimensions."""
    A, V = jr.normal(jr.key(3), (2, 3, 3))
    return mf.SelfAttention(A, V)


def tokens() -> mf.Measure:
    """Four atoms of different masses."""
    return mf.Measure(jr.normal(jr.key(2), (4, 3)), jnp.array([0.4, 0.3, 0.2, 0.1]))


def cancelling(delta: float, w2: float, a1: float) -> tuple[mf.SelfAttention, mf.Measure]:
    """Two tokens of which the light one, moved as a whole, cancels its own effect."""
    w = np.array([1.0, w2])
    across = np.array([-w2, 1.0]) / np.linalg.norm(w)
    x1 = w * np.log((1 - a1) / a1) / (w @ w) + 3 * across
    A = np.stack([w / delta, -w2 * x1 / (x1 @ x1)])
    V = np.array([[1.0, 0.0], [0.0, 0.0]])
    points = np.stack([x1, x1 - np.array([delta, 0.0])])
    measure = mf.Measure(jnp.asarray(points), jnp.array([a1, 1 - a1]))
    return mf.SelfAttention(jnp.asarray(A), jnp.asarray(V)), measure


def ratio_of(f, mu, nu, p=2) -> float:
    """The ratio of exact distances, after over before."""
    return float(mf.wasserstein(f(mu), f(nu), p) / mf.wasserstein(mu, nu, p))
