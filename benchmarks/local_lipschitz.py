"""The local Lipschitz constant of one BERT-base-sized layer against plain power iteration.

    python benchmarks/local_lipschitz.py [--checkpoint DIR] [--rounds 5]

The peer is power iteration on J^T J by jax.linearize and its transpose, with the stopping rule of
the public code of castin2024 in relative form (|mu_k - mu_{k-1}| <= 1e-4 mu_k on mu = sigma^2),
float32, one input. The layer has d=768 and 12 heads, n=512 tokens. With --checkpoint (the
directory of all-MiniLM-L6-v2) it is made of two real layers side by side, heads joined in pairs of
coordinates, and their real inputs; without, of independent normal weights.
"""

import argparse
import math
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from timing import interleaved, machine, matmul_peak, report

import meanfield as mf


def random_layer(key):
    layer_key, token_key = jr.split(key)
    layer = mf.MultiheadAttention.random(dim=768, heads=12, key=layer_key)
    return layer, mf.Measure(jr.normal(token_key, (512, 768)))


def real_layer(checkpoint: str, first: int):
    """Layers `first` and `first + 1` of the checkpoint side by side, on their own inputs."""
    model = mf.models.load(checkpoint)
    text = (Path(__file__).parent.parent / "LICENSE").read_text()
    contexts = model.contexts(model.tokenize(text)[:512])
    pair = [model.layers[first + i].attention for i in (0, 1)]
    points = jnp.concatenate([contexts[first + i].points for i in (0, 1)], axis=-1)

    def joined(name):
        a, b = (getattr(layer, name) for layer in pair)
        rows = (
            jnp.concatenate([a, jnp.zeros_like(a)], -1),
            jnp.concatenate([jnp.zeros_like(b), b], -1),
        )
        return jnp.concatenate(rows, axis=1)

    queries = jnp.concatenate([layer.query_bias for layer in pair], axis=1)
    layer = mf.MultiheadAttention(
        *[joined(f"{name}_proj") for name in ("query", "key", "value", "output")],
        query_bias=queries,
        scale=pair[0].score_scale,
    )
    return layer, mf.Measure(points)


@partial(jax.jit, static_argnames=("tolerance", "most"))
def power_iteration(f, mu, key, tolerance=1e-4, most=1000):
    """sigma and the number of steps of plain power iteration."""
    _, forward = jax.linearize(lambda x: f(mu.with_points(x)).points, mu.points)
    backward = jax.linear_transpose(forward, mu.points)

    def step(state):
        u, value, _, count = state
        u = backward(forward(u))[0]
        length = jnp.linalg.norm(u)
        return u / length, length, value, count + 1

    def unfinished(state):
        _, value, before, count = state
        return (jnp.abs(value - before) >= tolerance * value) & (count < most)

    start = jr.normal(key, mu.points.shape)
    state = (start / jnp.linalg.norm(start), jnp.asarray(1.0), jnp.asarray(-jnp.inf), 0)
    _, value, _, count = jax.lax.while_loop(unfinished, step, state)
    return jnp.sqrt(value), count


@eqx.filter_jit
def ten_products(f, mu, v):
    derivative = mf.lipschitz.jacobian(f, mu)

    def once(_, v):
        w = derivative.smooth_transpose(derivative.smooth(v))
        return w / jnp.linalg.norm(w)

    return jax.lax.fori_loop(0, 10, once, v)


@eqx.filter_jit
def ten_linearised(f, mu, v):
    derivative = mf.lipschitz.LinearisedMap(f, mu)

    def once(_, v):
        w = derivative.smooth_transpose(derivative.smooth(v))
        return w / jnp.linalg.norm(w)

    return jax.lax.fori_loop(0, 10, once, v)


def loosest(f, mu, key, exact, wanted):
    """The largest tolerance, and the fewest steps of power iteration, that err at most `wanted`."""

    def error(value):
        return abs(float(value) / exact - 1)

    tolerances = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    steps = [round(10 * 2 ** (i / 3)) for i in range(24)]
    ours = (r for r in tolerances if error(constant(f, mu, key, rtol=r).value) <= wanted)
    plain = (m for m in steps if error(power_iteration(f, mu, key, 0.0, m)[0]) <= wanted)
    return next(ours), plain


def constant(f, mu, key, rtol=1e-3, splitting=False):
    return mf.local_lipschitz(f, mu, key=key, rtol=rtol, splitting=splitting, upper=False)


def compare(name, f, mu, rounds):
    key = jr.key(1)
    exact = float(constant(f, mu, key, rtol=5e-6).value)
    ours, both, plain = constant(f, mu, key), constant(f, mu, key, splitting=True), None
    plain, count = power_iteration(f, mu, key)
    missed = abs(float(plain) / exact - 1)
    tenth, _ = loosest(f, mu, key, exact, missed / 10)
    rtol, steps = loosest(f, mu, key, exact, 1e-6)
    most = next(steps)
    print(f"\n{name}: sigma = {exact:.6f}, split = {float(both.split):.4f}")
    print(
        f"  ours: error {abs(float(ours.value) / exact - 1):.1e}, residual "
        f"{float(ours.residual / ours.value):.1e}, {int(ours.stats['smooth_steps'])} steps "
        f"(split: {int(both.stats['split_steps'])});  "
        f"power iteration: error {missed:.1e}, {int(count)} steps"
    )
    v = jr.normal(key, mu.points.shape)
    seconds = interleaved(
        {
            "ours, residual 1e-3": lambda: constant(f, mu, key).value,
            "ours, smooth and split": lambda: constant(f, mu, key, splitting=True).value,
            f"ours, a tenth of its error (rtol {tenth:g})": lambda: (
                constant(f, mu, key, tenth).value
            ),
            "power iteration, 1e-4": lambda: power_iteration(f, mu, key)[0],
            f"ours, error 1e-6 (rtol {rtol:g})": lambda: constant(f, mu, key, rtol).value,
            f"power iteration, error 1e-6 ({most} steps)": lambda: power_iteration(
                f, mu, key, 0.0, most
            )[0],
            "ten J^T J, closed form": lambda: ten_products(f, mu, v),
            "ten J^T J, linearised": lambda: ten_linearised(f, mu, v),
        },
        rounds,
    )
    report(seconds, against="ours, residual 1e-3")
    n, d = mu.points.shape
    flops = 10 * (16 * n**2 * d + 16 * n * d**2)
    peak = matmul_peak()
    best = min(seconds["ten J^T J, closed form"])
    print(
        f"  limit: {flops / peak * 1e3:.0f} ms for ten products at the {peak / 1e9:.0f} GF/s of a "
        f"matrix product in this run; ours takes {math.ceil(best * 1e3)} ms, "
        f"{flops / peak / best:.0%} of the limit's speed"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", help="directory of all-MiniLM-L6-v2")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(machine())
    compare("normal weights, d=768, 12 heads, n=512", *random_layer(jr.key(0)), arguments.rounds)
    if arguments.checkpoint:
        for first in (0, 2, 4):
            layer, mu = real_layer(arguments.checkpoint, first)
            name = f"real layers {first} and {first + 1}, d=768, 12 heads, n={mu.size}"
            compare(name, layer, mu, arguments.rounds)


if __name__ == "__main__":
    main()
