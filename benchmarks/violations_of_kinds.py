"""Optimised attacks on certificates of every kind of map: `python benchmarks/violations.py kinds`.

An attack is a pair of measures of the ball whose atoms are in two parts. Points of both and the
masses of the parts climb the quotient of distances; half of the starts lie on both sides of the
centre in the direction that it stretches most. Each step is an evaluation of W_1, W_2 and W_inf.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import meanfield as mf
from meanfield.attention import LinearBias, Rotary
from meanfield.models.activation import quick_gelu


DIM, ATOMS, PARTS, DRAWS, STARTS, STEPS = 3, 4, 2, 1, 10, 40
RADII, EXPONENTS = (1e-3, 0.1, 0.5), (1, 2, math.inf)
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "tanh": jnp.tanh,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu-tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "quick-gelu": quick_gelu,
}


def head(key, choice=None):
    A, V = jr.normal(key, (2, DIM, DIM))
    return mf.SelfAttention(A, V) if choice is None else mf.SelfAttention(A, V, choice=choice)


def heads(key, **extra):
    keys = jr.split(key, 4)
    maps = [jr.normal(k, (2, 2, DIM)) for k in keys[:3]]
    return mf.MultiheadAttention(*maps, jr.normal(keys[3], (2, DIM, 2)), **extra)


def distances(key):
    keys = jr.split(key, 4)
    maps = [jr.normal(k, (2, 2, DIM)) / 2 for k in keys[:3]]
    return mf.attention.L2Attention(*maps, jr.normal(keys[3], (2, DIM, 2)))


def perceptron(key, activation, gated=False):
    keys = jr.split(key, 6)
    shapes = [(6, DIM), (6,), (DIM, 6), (DIM,), (6, DIM), (6,)]
    arrays = [jr.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]
    return mf.MLP(*arrays[:4], activation, *(arrays[4:] if gated else ()))


def opposite(key, activation):
    """Neurons in pairs of opposite weights, near the ends of the second derivative."""
    first = perceptron(key, activation)
    into, out = jnp.tile(first.weight_in, (2, 1)), first.weight_out
    bias = jnp.concatenate([first.bias_in, -first.bias_in])
    return mf.MLP(into, bias, jnp.concatenate([out, -out], axis=1), None, activation)


def layer_norm(key):
    return mf.LayerNorm(*jr.normal(key, (2, DIM)))


def block(key, attention, activation=jnp.tanh):
    """Norm and attention, norm and perceptron, each beside a residual connection."""
    keys = jr.split(key, 4)
    first = mf.Composition([layer_norm(keys[0]), attention(keys[1])])
    second = mf.Composition([layer_norm(keys[2]), perceptron(keys[3], activation)])
    return mf.Composition([mf.Residual(first, 0.5), mf.Residual(second, -0.5)])


KINDS = {
    "attention": head,
    "chi-square": lambda key: head(key, mf.ChiSquare()),
    "multihead": heads,
    "soft cap": lambda key: heads(key, soft_cap=2.0),
    "distances": distances,
    "affine": lambda key: mf.attention.Affine(jr.normal(key, (DIM, DIM)), None),
    "layer norm": layer_norm,
    "rms norm": lambda key: mf.RMSNorm(jr.normal(key, (DIM,))),
    "residual": lambda key: mf.Residual(heads(key), -0.7),
    "block": lambda key: block(key, heads),
    "two blocks": lambda key: mf.Composition(
        [block(one, head, jax.nn.silu) for one in jr.split(key)]
    ),
    "residual run": lambda key: mf.Composition(
        [layer_norm(key), mf.Residual(opposite(key, jax.nn.silu), 0.5), layer_norm(key)]
    ),
}
KINDS |= {
    f"{name} perceptron": lambda key, phi=phi: perceptron(key, phi)
    for name, phi in ACTIVATIONS.items()
}
KINDS |= {
    f"{name} in pairs": lambda key, phi=phi: opposite(key, phi) for name, phi in ACTIVATIONS.items()
}
KINDS |= {
    f"{name} gated": lambda key, phi=phi: perceptron(key, phi, gated=True)
    for name, phi in ACTIVATIONS.items()
}
ORDERED = {
    "causal": lambda key: mf.CausalAttention(heads(key)),
    "rotary": lambda key: mf.CausalAttention(heads(key, rotary=Rotary())),
    "linear bias": lambda key: mf.CausalAttention(
        heads(key, score_bias=LinearBias(jnp.array([0.5, 0.1])))
    ),
    "causal block": lambda key: block(key, lambda k: mf.CausalAttention(heads(k)), jax.nn.gelu),
}


def measured(points, masses, ordered):
    """The measure of parts (n, parts, d), which keep their positions where these are ordered."""
    if not ordered:
        return mf.Measure(points.reshape(-1, DIM), masses.ravel())
    base = jnp.sum(masses, axis=1)
    return mf.ConditionalMeasure(points, masses / base[:, None], base)


def clipped(moves, radius):
    size = jnp.linalg.norm(moves, axis=-1, keepdims=True)
    return moves * jnp.minimum(1, radius * (1 - 1e-12) / jnp.maximum(size, 1e-300))


def unit(x):
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-300)


def sizes(x, masses):
    """The norms of a field of moves for the exponents."""
    squares = jnp.sum(x**2, axis=-1)
    long = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    one, two = jnp.sum(masses * long), jnp.sqrt(jnp.sum(masses * squares))
    return jnp.stack([one, two, jnp.max(long)])


@eqx.filter_jit
def attacked(f, points, masses, radius, key, ordered):
    """The largest quotients that the ascents from all starts saw, for the exponents."""
    base = jnp.repeat(points[:, None], PARTS, axis=1)

    def outputs(moves, parts):
        nu = measured(base + moves, masses[:, None] * parts, ordered)
        return f(nu).points.reshape(base.shape)

    def quotients(state):
        one, other, logits = state
        parts = jax.nn.softmax(logits, axis=1)
        change = outputs(one, parts) - outputs(other, parts)
        mass = masses[:, None] * parts
        return sizes(change, mass) / jnp.maximum(sizes(one - other, mass), 1e-6 * radius)

    def stretched(v):
        half = jnp.full((ATOMS, PARTS), 1 / PARTS)
        out, forward = jax.linearize(lambda moves: outputs(moves, half), jnp.zeros_like(base))
        backward = jax.linear_transpose(forward, out)
        mass = masses[:, None, None]

        def step(_, v):
            return unit((backward(mass * forward(v))[0] / mass).ravel()).reshape(v.shape)

        return jax.lax.fori_loop(0, 20, step, v)

    def climbed(which, start):
        def step(state, k):
            (one, other, logits), best = state
            pull = jax.grad(lambda s: jnp.log(quotients(s)[which] + 1e-300))
            first, second, third = pull((one, other, logits))
            rate = 0.4 * radius / (1 + k / 4)
            one = clipped(one + rate * unit(first), radius)
            other = clipped(other + rate * unit(second), radius)
            logits = jnp.clip(logits + 0.5 * unit(third), -6, 6)
            state = (one, other, logits)
            return (state, jnp.fmax(best, quotients(state))), None

        first = (start, jnp.fmax(0.0, quotients(start)))
        (_, best), _ = jax.lax.scan(step, first, jnp.arange(STEPS))
        return best

    def from_start(which, worst, key):
        keys = jr.split(key, 3)
        drawn = [radius * jr.normal(k, base.shape) / 2 for k in keys[:2]]
        v = stretched(jr.normal(keys[0], base.shape))
        v = 0.9 * radius * v / jnp.max(jnp.linalg.norm(v, axis=-1))
        pairs = zip((v, -v), drawn, strict=True)
        one, other = (clipped(jnp.where(worst, x, y), radius) for x, y in pairs)
        return climbed(which, (one, other, jr.normal(keys[2], base.shape[:2])))

    which = jnp.arange(STARTS * 3) % 3
    worst = jnp.arange(STARTS * 3) % 2 == 0
    found = jax.vmap(from_start)(which, worst, jr.split(key, STARTS * 3))
    return jnp.max(found, axis=0)


def one_kind(make, ordered, key):
    """The quotients found over the certificates: (draws, radii, exponents)."""
    found = np.zeros((DRAWS, len(RADII), 3))
    for draw, each in enumerate(jr.split(key, DRAWS)):
        keys = jr.split(each, 4)
        f, points = make(keys[0]), jr.normal(keys[1], (ATOMS, DIM))
        masses = jax.nn.softmax(jr.normal(keys[2], (ATOMS,)))
        mu = measured(points[:, None], masses[:, None], ordered)
        curves = [mf.lipschitz.certificate_curve(f, mu, RADII, p=p) for p in EXPONENTS]
        for k, radius in enumerate(RADII):
            best = attacked(f, points, masses, jnp.asarray(radius), keys[3], ordered)
            found[draw, k] = np.asarray(best) / [curve[k].value for curve in curves]
    return found


def kinds() -> None:
    """Attacks on all kinds: how many evaluations, of which above, and the closest of each kind."""
    every = [(name, make, False) for name, make in KINDS.items()]
    every += [(name, make, True) for name, make in ORDERED.items()]
    each = DRAWS * len(RADII) * STARTS * 3 * (STEPS + 1)
    print(f"\noptimised attacks on {len(every)} kinds, {each * len(every)} pairs of measures")
    print(f"closest / certificate, at radii {RADII} (the largest of p = 1, 2, inf)")
    above = 0
    for number, (name, make, ordered) in enumerate(every):
        found = one_kind(make, ordered, jr.key(number))
        above += int(np.sum(found > 1 + 1e-9))  # what float64 loses in quotients of small moves
        row = "  ".join(f"{x:.6f}" for x in found.max(axis=(0, 2)))
        print(f"{name:>22}  {row}", flush=True)
    print(f"{above} certificates were beaten")
