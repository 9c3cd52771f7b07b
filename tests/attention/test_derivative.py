"""The closed-form derivative against automatic differentiation and against the formulas."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_maps import DIM, assert_close, random_measure, random_pair, self_attention

from meanfield.attention import AttentionDerivative
from meanfield.lipschitz import LinearisedMap, jacobian


attention_kinds = pytest.mark.parametrize(
    "kind",
    [
        "self-attention",
        "l2-attention",
        "multihead-soft-cap",
        "multihead-query-key-norm",
        "rotary",
        "relative-bias",
        "causal",
        "causal-window",
    ],
)


@eqx.filter_jit
def matrices(f, mu):
    """J, D, and the transposes of J^T and D^T, each written out column by column."""
    d = jacobian(f, mu)
    n, m = d.points.size, d.outputs.size

    def columns(product, like, size):
        return jax.vmap(lambda e: product(e.reshape(like.shape)).ravel())(jnp.eye(size)).T

    forward = [columns(product, d.points, n) for product in (d.smooth, d.split)]
    backward = [
        columns(product, d.outputs, m).T for product in (d.smooth_transpose, d.split_transpose)
    ]
    return forward, backward


@eqx.filter_jit
def automatic(f, mu):
    """J by differentiating the pushforward, D by differentiating the queries."""
    n = mu.points.size
    whole = jax.jacfwd(lambda x: f(mu.with_points(x)).points)(mu.points)
    query = jax.jacfwd(lambda x: f.at(mu, x))(mu.points)
    return [whole.reshape(-1, n), query.reshape(-1, n)]


@pytest.mark.slow
@attention_kinds
def test_closed_form_agrees_with_automatic_differentiation(kind, key):
    f, mu = random_pair(kind, key)
    assert isinstance(jacobian(f, mu), AttentionDerivative)
    forward, backward = matrices(f, mu)
    expected = automatic(f, mu)
    assert_close(forward, expected)
    assert_close(backward, expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["composition", "mlp", "causal-block"])
def test_other_maps_are_linearised(kind, key):
    f, mu = random_pair(kind, key)
    assert isinstance(jacobian(f, mu), LinearisedMap)
    forward, backward = matrices(f, mu)
    expected = automatic(f, mu)
    assert_close(forward, expected)
    assert_close(backward, expected)


@pytest.mark.slow
def test_self_attention_has_the_derivative_of_the_formulas(key):
    f, mu = self_attention(key), random_measure(key)
    A, V, x, w = (np.asarray(leaf) for leaf in (f.A, f.V, mu.points, mu.weights))
    slope = x @ A.T + np.asarray(f.a)  # the score of key y is <slope_i, y>
    P = w * np.exp(slope @ x.T)
    P = P / P.sum(axis=1, keepdims=True)
    J, D = np.zeros((8, DIM, 8, DIM)), np.zeros((8, DIM, 8, DIM))
    for i in range(8):
        apart = x - P[i] @ x
        D[i, :, i] = V @ (P[i, :, None] * apart).T @ apart @ A
        for j in range(8):
            J[i, :, j] = P[i, j] * V @ (np.eye(DIM) + np.outer(apart[j], slope[i]))
    forward, _ = matrices(f, mu)
    assert_close(forward, [(J + D).reshape(40, 40), D.reshape(40, 40)])


def test_absent_atoms_push_nothing(key):
    f, mu = random_pair("multihead-soft-cap", key)
    forward, _ = matrices(f, mu.pad(10))
    present = 8 * DIM
    assert_close(forward[0][:present, present:], np.zeros((present, 2 * DIM)))
    assert_close(forward[0][:present, :present], matrices(f, mu)[0][0])


def test_without_scores_the_derivative_is_the_mean(key):
    f = eqx.tree_at(lambda f: (f.A, f.a), self_attention(key), (jnp.zeros((DIM, DIM)), None))
    mu = random_measure(key)
    (J, D), _ = matrices(f, mu)
    share = np.asarray(mu.weights / mu.mass)
    assert_close(J, np.kron(np.tile(share, (8, 1)), np.asarray(f.V)))
    assert_close(D, np.zeros((40, 40)))
