"""Certificates of chains, whose Jacobians bend no faster than is claimed, and of maps that have a
bound on a domain alone."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from atom_jacobians import jacobians, norm
from random_maps import (
    DIM,
    mlp,
    multihead,
    random_measure,
    rms_norm,
    self_attention,
)

import meanfield as mf
from meanfield.lipschitz import upper_at
from meanfield.lipschitz.certificates.head import Atoms
from meanfield.lipschitz.certificates.kinds import local_model


KEY = jr.key(4)


def pre_norm(key):
    """Norms before attention and perceptron, as in GPT-2, and one at the end."""
    keys = jr.split(key, 2)
    first = mf.Composition([mf.LayerNorm(jnp.ones(DIM)), multihead(keys[0])])
    second = mf.Composition([rms_norm(key, DIM), mlp(keys[1])])
    return mf.Composition([mf.Residual(first), mf.Residual(second), rms_norm(key, DIM)])


def run_of_points(key):
    keys = jr.split(key, 2)
    norm = mf.LayerNorm(jr.normal(key, (DIM,)))
    return mf.Composition([norm, mf.Residual(mlp(keys[0]), -0.7), mlp(keys[1]), norm])


@pytest.mark.slow
@pytest.mark.parametrize(("make", "least"), [(pre_norm, 1e-3), (run_of_points, 0.1)])
def test_the_jacobian_of_a_chain_changes_no_faster_than_its_bend(make, least):
    f, mu = make(KEY), random_measure(KEY, n=4)
    at, masses = jacobians(f, mu)
    x, model = np.asarray(mu.points), local_model(f, Atoms.of(mu))
    for size in (1e-4, 1e-2):
        moves = np.random.default_rng(0).standard_normal((20, *x.shape))
        moves *= size / np.linalg.norm(moves, axis=-1, keepdims=True)
        J = at(jnp.asarray(np.concatenate([x[None], x + moves])))
        known = model.known(size)
        for p in (1, 2, jnp.inf):
            turned = max(norm(there - J[0], masses, p) for there in J[1:])
            assert turned <= size * known.bend[p]
            assert max(norm(there, masses, p) for there in J) <= known.constant[p]
            assert size > 1e-4 or turned >= least * size * known.bend[p]


def plain(key, **more):
    f = self_attention(key)
    return mf.SelfAttention(f.A, f.V, **more)


CHOSEN = {
    "soft-cap": lambda key: plain(key, soft_cap=1.0),
    "chi-square": lambda key: plain(key, choice=mf.ChiSquare(1.0)),
    "sigmoid": lambda key: plain(key, choice=mf.attention.Sigmoid()),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHOSEN)
def test_what_has_no_local_theorem_is_certified_by_that_of_its_domain(kind):
    f, mu = CHOSEN[kind](KEY), random_measure(KEY, n=6)
    bounds = [mf.certify(f, mu, radius) for radius in (0.0, 0.1)]
    domain = mf.lipschitz_bound(f, mf.Ball(float(mu.radius) + 0.1))
    assert bounds[1].log_value == pytest.approx(domain.log_value, rel=1e-6)
    assert bounds[1].theorem == domain.theorem
    at, masses = jacobians(f, mu)
    x = np.asarray(mu.points)
    moves = np.random.default_rng(0).standard_normal((20, *x.shape))
    moves *= 0.1 / np.linalg.norm(moves, axis=-1, keepdims=True)
    found = [norm(J, masses, 2) for J in at(jnp.asarray(np.concatenate([x[None], x + moves])))]
    assert found[0] <= bounds[0].value and max(found) <= bounds[1].value
    assert bounds[0].log_value <= bounds[1].log_value
    sol = mf.local_lipschitz(f, mu, key=KEY)
    assert sol.value <= sol.upper < jnp.inf


@pytest.mark.slow
def test_without_a_key_many_heads_are_certified_at_most_by_the_bound_at_the_measure():
    f, points = multihead(KEY), jr.normal(KEY, (2048 // DIM + 1, DIM))
    mu = mf.Measure(points)
    assert mf.certify(f, mu, 0.0).value <= float(upper_at(f, mu)) * (1 + 1e-12)


def test_a_certificate_cannot_be_traced_and_says_so():
    f = mf.SelfAttention(jnp.eye(2), jnp.eye(2))
    with pytest.raises(TypeError, match="cannot be traced. Call it outside"):
        jax.jit(lambda x: mf.certify(f, mf.Measure(x), 0.1).log_value)(jnp.ones((3, 2)))
