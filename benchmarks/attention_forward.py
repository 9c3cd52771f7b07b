"""Attention over a long context: ours against numpy, plain JAX and jax.nn.dot_product_attention.

    python benchmarks/attention_forward.py [--tokens 8192] [--heads 4] [--rounds 5]

float32, 64 dimensions a head, queries, keys and values given. Peak memory of ours is XLA's own
count of temporaries at two lengths.
"""

import argparse

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from timing import interleaved, machine, matmul_peak, report

from meanfield.attention import Softmax
from meanfield.attention.attending import Attending


@jax.jit
def ours(q, k, v):
    masses = jnp.full(k.shape[1], -jnp.log(k.shape[1]))
    return Attending(q, k, v, masses, None, None, Softmax(), None, None, None).mix()


@jax.jit
def plain_jax(q, k, v):
    """One head at a time: all heads at once need three times the memory and are slower."""
    return jax.lax.map(lambda h: jax.nn.softmax(h[0] @ h[1].T, axis=-1) @ h[2], (q, k, v))


@jax.jit
def library_jax(q, k, v):
    q, k, v = (x.swapaxes(0, 1)[None] for x in (q, k, v))
    return jax.nn.dot_product_attention(q, k, v, scale=1.0)[0].swapaxes(0, 1)


def numpy_blocked(q, k, v, rows=256):
    out = np.empty_like(q)
    for h in range(len(q)):
        for i in range(0, q.shape[1], rows):
            scores = q[h, i : i + rows] @ k[h].T
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            out[h, i : i + rows] = (scores @ v[h]) / scores.sum(axis=-1, keepdims=True)
    return out


def features(heads, n):
    keys = jr.split(jr.key(0), 3)
    return [jr.normal(key, (heads, n, 64)) * (0.125 if i == 0 else 1) for i, key in enumerate(keys)]


def temporaries(heads, n):
    shapes = [jax.ShapeDtypeStruct((heads, n, 64), jnp.float32)] * 3
    return ours.lower(*shapes).compile().memory_analysis().temp_size_in_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    heads, n = arguments.heads, arguments.tokens
    q, k, v = features(heads, n)
    arrays = [np.asarray(x) for x in (q, k, v)]
    error = np.abs(np.asarray(ours(q, k, v)) - numpy_blocked(*arrays)).max()
    print(f"{machine()}, numpy {np.__version__}; {heads} heads, n = {n}, 64 dimensions a head")
    print(f"largest difference to numpy: {error:.1e}")
    seconds = interleaved(
        {
            "ours": lambda: ours(q, k, v),
            "numpy, 256 rows at a time": lambda: numpy_blocked(*arrays),
            "plain JAX, one head at a time": lambda: plain_jax(q, k, v),
            "jax.nn.dot_product_attention": lambda: library_jax(q, k, v),
        },
        arguments.rounds,
    )
    report(seconds, against="ours")
    exponentials = jax.jit(jnp.exp)
    row = jnp.zeros((1024, n))
    exp_time = min(interleaved({"exp": lambda: exponentials(row)}, 5)["exp"]) * heads * n / 1024
    limit = 4 * heads * n**2 * 64 / matmul_peak() + exp_time
    print(f"limit (products and exponentials, both measured in this run): {limit * 1e3:.0f} ms")
    print(f"ours reaches {limit / min(seconds['ours']):.0%} of it")
    for size in (n // 2, n, 2 * n):
        print(f"temporaries at n = {size}: {temporaries(heads, size) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
