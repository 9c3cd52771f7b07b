"""Certificates on balls: nothing in the ball beats them, and near the measure they are tight."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import (
    DIM,
    mlp,
    multihead,
    random_measure,
    random_sequence,
    relative_bias,
    rms_norm,
    self_attention,
)

import meanfield as mf


KEY = jr.key(4)
COPIES = 2
KINDS = {
    "self-attention": self_attention,
    "multihead": multihead,
    "mlp": mlp,
    "gated-mlp": lambda key: mlp(key, gated=True),
    "layer-norm": lambda key: mf.LayerNorm(jr.normal(key, (DIM,)), jr.normal(key, (DIM,))),
    "rms-norm": lambda key: rms_norm(key, DIM),
    "block": lambda key: mf.Composition(
        [
            mf.Residual(multihead(key), 0.5),
            mf.LayerNorm(jnp.ones(DIM)),
            mf.Residual(mlp(key), 0.1),
            rms_norm(key, DIM),
        ]
    ),
    "rotary": lambda key: multihead(key, rotary=mf.Rotary()),
    "relative-bias": lambda key: multihead(key, score_bias=relative_bias(key)),
    "causal": lambda key: mf.CausalAttention(self_attention(key)),
    "causal-rotary": lambda key: mf.CausalAttention(multihead(key, rotary=mf.Rotary()), window=3),
}
ORDERED = ("rotary", "relative-bias", "causal", "causal-rotary")


def drawn(kind, seed=0):
    key = jr.key(seed)
    mu = random_sequence(key) if kind in ORDERED else random_measure(key, n=6)
    return KINDS[kind](key), mu


def jacobians(f, mu):
    """The Jacobians of the map of atoms at many points, (m, N, e, N, d), and the masses."""
    masses = np.asarray(mu.atoms.weights)

    def outputs(points):
        return f(mu.with_points(points)).atoms.points

    batched = jax.jit(jax.vmap(jax.jacfwd(outputs)))

    def at(points):
        J = np.asarray(batched(points))
        return J.reshape(J.shape[0], len(masses), -1, len(masses), DIM)

    return at, masses


def norm(J, masses, p):
    """The operator norm in L^p(mu) for p = 2; a lower bound on it, by blocks, for 1 and inf."""
    ratio = (masses[:, None] / masses)[:, None, :, None]
    n, e, _, d = J.shape
    if p == 2:
        return np.linalg.norm((np.sqrt(ratio) * J).reshape(n * e, n * d), 2)
    if p == 1:  # move one atom along the best direction of the sum of its columns
        columns = np.moveaxis(ratio * J, 2, 0).reshape(n, n * e, d)
        best = np.linalg.svd(columns)[2][:, 0]
        moved = np.einsum("jad,jd->ja", columns, best).reshape(n, n, e)
        return np.linalg.norm(moved, axis=2).sum(1).max()
    best = np.linalg.svd(J.reshape(n, e, n * d))[0][:, :, 0]
    return np.linalg.norm(np.einsum("iejd,ie->ijd", J, best), axis=2).sum(1).max()


def attacked(f, mu, x, at, masses, size, base, steps=6):
    """Gradient ascent on the singular value: for fixed singular vectors its slope is that of
    u^T J v; atoms are moved to where it points, as far as the ball allows."""
    root = np.sqrt(masses)

    def top(J):
        n, e, _, d = J.shape
        scaled = (root[:, None, None, None] / root[:, None] * J).reshape(n * e, n * d)
        u, s, vt = np.linalg.svd(scaled)
        return u[:, 0].reshape(n, e) * root[:, None], vt[0].reshape(n, d) / root[:, None], s[0]

    def outputs(points):
        return f(mu.with_points(points)).atoms.points

    def value(points, u, v):
        tangent = jax.jvp(outputs, (points,), (v.reshape(points.shape),))[1]
        return jnp.sum(u * tangent)

    slope, best = jax.jit(jax.grad(value)), 0.0
    for _ in range(steps):
        u, v, s = top(at(x[None])[0])
        best = max(best, s)
        step = np.array(slope(x, u, v))
        step /= np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1e-300)
        x = jnp.asarray(base + size * step)
    return max(best, top(at(x[None])[0])[2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_the_ball_beats_its_certificate(kind):
    f, mu = drawn(kind)
    split = mu.split(COPIES)
    at, masses = jacobians(f, split)
    base = np.asarray(split.points)
    rng = np.random.default_rng(0)
    for size in (1e-3, 3e-2, 0.3):
        moves = rng.standard_normal((40, *base.shape))
        moves *= size / np.linalg.norm(moves, axis=-1, keepdims=True)
        found = at(jnp.asarray(base + moves))
        for p in (1, 2, jnp.inf):
            bound = mf.certify(f, mu, size, p=p).value
            assert max(norm(J, masses, p) for J in found) <= bound
        worst = attacked(f, split, jnp.asarray(base + moves[0]), at, masses, size, base)
        assert worst <= mf.certify(f, mu, size).value


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_at_radius_zero_the_certificate_is_the_exact_constant(kind):
    f, mu = drawn(kind)
    exact = float(mf.local_lipschitz(f, mu, key=KEY, rtol=1e-6, upper=False).value)
    bound = mf.certify(f, mu, 0.0).value
    assert exact <= bound <= exact * (1 + 1e-3)
