"""Random changes of the factors of an attention that leave the attention as it is."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from random_maps import multihead, norms, random_measure, random_sequence, slopes

import meanfield as mf
from meanfield.attention.gauge import score_blocks


# Attentions whose gauges differ: norms and rotations leave fewer changes of Q and K.
GAUGED = {
    "plain": lambda key: multihead(key),
    "capped": lambda key: multihead(key, soft_cap=1.5),
    "both norms": lambda key: multihead(key, **norms(key)),
    "query norm": lambda key: multihead(key, query_norm=norms(key)["query_norm"]),
    "key norm": lambda key: multihead(key, key_norm=norms(key)["key_norm"]),
    "turning": lambda key: multihead(key, rotary=mf.Rotary(theta=7.0)),
    "sigmoid": lambda key: multihead(key, choice=mf.Sigmoid()),
    "chi-square": lambda key: multihead(key, choice=mf.ChiSquare(1.0)),
    "sloped": lambda key: multihead(key, score_bias=slopes()),
}


def measure_for(f, key):
    """A measure that the attention acts on: a sequence where scores know positions."""
    ordered = f.rotary is not None or f.score_bias is not None
    return random_sequence(key, s=3) if ordered else random_measure(key, n=5)


def regauged(f, rng):
    """The same attention: every group of heads has new Q, K and V, O, every norm a new gamma."""
    blocks, groups = score_blocks(f), len(f.key_proj)
    normed = f.query_norm is not None or f.key_norm is not None
    M = [score_change(blocks, normed, rng) for _ in range(groups)]
    M = M[:1] * groups if normed else M
    N = [mixing(f.value_proj.shape[1], rng) for _ in range(groups)]
    each = np.repeat(np.arange(groups), f.group)
    f = _changed_side(f, "query", [np.linalg.solve(M[g].T, np.eye(len(M[g]))) for g in each])
    f = _changed_side(f, "key", M)
    f = _replaced(f, "value_proj", [n @ v for n, v in zip(N, f.value_proj, strict=True)])
    if f.value_bias is not None:
        f = _replaced(f, "value_bias", [n @ b for n, b in zip(N, f.value_bias, strict=True)])
    outputs = zip(f.output_proj, each, strict=True)
    return _replaced(f, "output_proj", [np.linalg.solve(N[g].T, o.T).T for o, g in outputs])


def score_change(blocks, normed, rng):
    """A matrix that commutes with all rotations, and is diagonal behind a norm."""
    M, free = np.zeros((len(blocks), len(blocks))), blocks < 0
    M[np.ix_(free, free)] = mixing(free.sum(), rng)
    for b in range(blocks.max(initial=-1) + 1):
        i = np.flatnonzero(blocks == b)
        size, angle = np.exp(rng.normal()), 0.0 if normed else rng.uniform(0, 6)
        turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        M[np.ix_(i, i)] = size * np.array(turn)[: len(i), : len(i)]
    return M


def mixing(k, rng):
    """An invertible matrix of condition ten or so."""
    left, right = (np.linalg.qr(rng.normal(size=(k, k)))[0] for _ in range(2))
    return left * np.exp(rng.uniform(-1, 1, size=k)) @ right


def _changed_side(f, side, matrices):
    norm = getattr(f, f"{side}_norm")
    if norm is not None:
        gamma = jnp.diag(jnp.asarray(matrices[0])) * norm.gamma
        return eqx.tree_at(lambda g: getattr(g, f"{side}_norm").gamma, f, gamma)
    for name in (f"{side}_proj", f"{side}_bias"):
        if (old := getattr(f, name)) is not None:
            f = _replaced(f, name, [m @ x for m, x in zip(matrices, old, strict=True)])
    return f


def _replaced(f, name, parts):
    old = getattr(f, name)
    return eqx.tree_at(lambda g: getattr(g, name), f, jnp.asarray(np.stack(parts), old.dtype))
