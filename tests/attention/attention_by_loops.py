"""Attention from its definition: one head, one query and one key at a time, in numpy.

Rotary positions are turns of complex numbers; relative positions find their bucket by comparing
whole numbers; nothing is shared with the library.
"""

import numpy as np

from meanfield.attention import (
    CausalAttention,
    L2Attention,
    LinearBias,
    RelativeBias,
    SelfAttention,
)


def pushforward(f, mu):
    """The points of f(mu), in the layout of mu.points."""
    x, weights = np.asarray(mu.atoms.points), np.asarray(mu.atoms.weights)
    times = None if mu.positions is None else np.asarray(mu.positions)
    window = None
    if isinstance(f, CausalAttention):
        f, window = f.attention, f.window or 10**9
    rows = [row(f, x, weights, times, i, window) for i in range(len(x))]
    return np.array(rows).reshape(*mu.points.shape[:-1], -1)


def row(f, x, weights, times, i, window):
    """G(mu, x_i): with a window, positions times[i] - window < t <= times[i] alone are seen."""
    seen = [j for j in range(len(x)) if weights[j] > 0]
    if window is not None:
        seen = [j for j in seen if 0 <= times[i] - times[j] < window]
    kind = _self if isinstance(f, SelfAttention) else _l2 if isinstance(f, L2Attention) else _heads
    return kind(f, x, times, i, seen, weights)


def shares(scores, weights):
    """w_j e^{s_j} / sum_l w_l e^{s_l}."""
    likes = weights * np.exp(scores - np.max(scores))
    return likes / likes.sum()


def _self(f, x, times, i, seen, weights):
    A, V, a, c = (np.asarray(leaf) for leaf in (f.A, f.V, f.a, f.c))
    scores = np.array([(A @ x[i] + a) @ x[j] for j in seen])
    return c + sum(p * V @ x[j] for p, j in zip(shares(scores, weights[seen]), seen, strict=True))


def _l2(f, x, times, i, seen, weights):
    out = 0
    for Q, K, V, O in zip(f.query_proj, f.key_proj, f.value_proj, f.output_proj, strict=True):
        sharpness = 1 / np.sqrt(Q.shape[0])
        gaps = np.array([np.asarray(Q @ x[i] - K @ x[j]) for j in seen])
        p = shares(-sharpness * np.sum(gaps**2, axis=1), weights[seen])
        out = out + np.asarray(O) @ np.asarray(V) @ (p @ x[seen])
    return out


def _heads(f, x, times, i, seen, weights):
    heads, shared = f.query_proj.shape[0], f.key_proj.shape[0]
    out = 0 if f.output_bias is None else np.asarray(f.output_bias)
    scale = 1 / np.sqrt(f.query_proj.shape[1]) if f.scale is None else f.scale
    for h in range(heads):
        g = h // (heads // shared)
        q = _placed(f, f.query_norm, _affine(f.query_proj, f.query_bias, h, x[i]), times, i)
        scores = []
        for j in seen:
            k = _placed(f, f.key_norm, _affine(f.key_proj, f.key_bias, g, x[j]), times, j)
            score = scale * (q @ k)
            if f.soft_cap is not None:
                score = f.soft_cap * np.tanh(score / f.soft_cap)
            scores.append(score + _bias(f.score_bias, h, times, i, j))
        values = np.array([_affine(f.value_proj, f.value_bias, g, x[j]) for j in seen])
        mean = shares(np.array(scores), weights[seen]) @ values
        out = out + np.asarray(f.output_proj)[h] @ mean
    return out


def _affine(matrices, biases, h, x):
    y = np.asarray(matrices)[h] @ x
    return y if biases is None else y + np.asarray(biases)[h]


def _placed(f, norm, feature, times, i):
    if norm is not None:
        mean_square = np.mean(feature**2)
        feature = np.asarray(norm.gamma) * feature / np.sqrt(mean_square + norm.epsilon)
    return feature if f.rotary is None else turned(f.rotary, feature, times[i])


def turned(rotary, feature, time):
    """The pairs (i, i + r/2) as complex numbers, times e^{i time theta^{-2i/r}}."""
    r = len(feature) if rotary.dims is None else rotary.dims
    half = r // 2
    z = feature[:half] + 1j * feature[half:r]
    frequencies = rotary.frequencies
    if frequencies is None:
        frequencies = rotary.theta ** (-2 * np.arange(half) / r)
    z = z * np.exp(1j * time * np.asarray(frequencies))
    return np.concatenate([z.real, z.imag, feature[r:]])


def _bias(bias, h, times, i, j):
    if bias is None:
        return 0.0
    if isinstance(bias, LinearBias):
        return -float(bias.slopes[h]) * abs(int(times[i]) - int(times[j]))
    assert isinstance(bias, RelativeBias)
    return float(bias.table[bucket(bias, int(times[j]) - int(times[i])), h])


def bucket(bias, ahead):
    """The bucket of a key `ahead` positions after the query, as in T5.

    The far bucket k begins where (distance / near)^N >= (max / near)^k, N buckets being far:
    a comparison of whole numbers.
    """
    buckets, offset, distance = bias.table.shape[0], 0, max(-ahead, 0)
    if bias.bidirectional:
        buckets, distance = buckets // 2, abs(ahead)
        offset = buckets if ahead > 0 else 0
    near = buckets // 2
    if distance < near:
        return offset + distance
    far, longest = buckets - near, bias.max_distance
    reached = [k for k in range(far) if distance**far * near**k >= longest**k * near**far]
    return offset + near + max(reached)
