"""Random measures and one random in-context map of every kind, with generic weights and biases."""

import contextlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import pytest
from precision import assert_close as assert_close

from meanfield.attention import (
    MLP,
    Affine,
    CausalAttention,
    Composition,
    L2Attention,
    LayerNorm,
    LinearBias,
    MultiheadAttention,
    RelativeBias,
    Residual,
    RMSNorm,
    Rotary,
    SelfAttention,
)
from meanfield.measure import ConditionalMeasure, Measure


DIM = 5


@contextlib.contextmanager
def as_installed():
    """Without the run-time type checks of the tests: errors as a user meets them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


apply = eqx.filter_jit(lambda f, mu: f(mu))


def random_measure(key, n=8, d=DIM):
    """Gaussian points with weights that differ by an order of magnitude and do not sum to one."""
    points_key, weights_key = jr.split(key)
    return Measure(jr.normal(points_key, (n, d)), jnp.exp(jr.normal(weights_key, (n,))))


def random_sequence(key, s=4, k=2, d=DIM):
    """k Gaussian atoms at each of s positions, fibre weights that sum to one, a generic base."""
    points_key, weights_key, base_key = jr.split(key, 3)
    weights = jax.nn.softmax(jr.normal(weights_key, (s, k)), axis=-1)
    return ConditionalMeasure(
        jr.normal(points_key, (s, k, d)), weights, jnp.exp(jr.normal(base_key, (s,)))
    )


def multihead(key, *, biases=True, e=DIM, **extra):
    """Four heads of size 4 that share two key/value heads of value size 3."""
    keys = jr.split(key, 8)
    shapes = [(4, 4, DIM), (2, 4, DIM), (2, 3, DIM), (4, e, 3)]
    projections = [jr.normal(k, s) / 2 for k, s in zip(keys[:4], shapes, strict=True)]
    if biases:
        names = {
            "query_bias": (4, 4),
            "key_bias": (2, 4),
            "value_bias": (2, 3),
            "output_bias": (e,),
        }
        extra |= {
            name: jr.normal(k, shape) / 2
            for k, (name, shape) in zip(keys[4:], names.items(), strict=True)
        }
    return MultiheadAttention(*projections, **extra)


def relative_bias(key):
    return RelativeBias(jr.normal(key, (8, 4)), max_distance=6)


def slopes():
    return LinearBias(jnp.array([0.5, 0.25, 0.1, 0.0]))


def norms(key):
    one, other = jr.split(key)
    return {"query_norm": rms_norm(one, 4), "key_norm": rms_norm(other, 4)}


def self_attention(key, e=DIM):
    keys = jr.split(key, 4)
    A, V = jr.normal(keys[0], (DIM, DIM)) / 2, jr.normal(keys[1], (e, DIM))
    return SelfAttention(A, V, jr.normal(keys[2], (DIM,)), jr.normal(keys[3], (e,)))


def l2_attention(key):
    shapes = [(2, 3, DIM), (2, 3, DIM), (2, 4, DIM), (2, DIM, 4)]
    return L2Attention(
        *[jr.normal(k, s) / 2 for k, s in zip(jr.split(key, 4), shapes, strict=True)]
    )


def mlp(key, gated=False):
    keys = jr.split(key, 6)
    shapes = [(7, DIM), (7,), (DIM, 7), (DIM,), (7, DIM), (7,)]
    arrays = [jr.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    return MLP(*arrays[:4], jax.nn.silu, *arrays[4:]) if gated else MLP(*arrays[:4])


def layer_norm(key):
    return LayerNorm(*jr.normal(key, (2, DIM)))


def rms_norm(key, d=DIM):
    return RMSNorm(jr.normal(key, (d,)))


def affine(key):
    weight, bias = jr.normal(key, (4, DIM)), jr.normal(key, (4,))
    return Affine(weight, bias)


def block(key):
    """A pre-norm transformer block: two residual steps, attention and perceptron."""
    keys = jr.split(key, 4)
    attend = Composition([layer_norm(keys[0]), self_attention(keys[1])])
    think = Composition([rms_norm(keys[2]), mlp(keys[3])])
    return Composition([Residual(attend), Residual(think)])


# Maps of plain measures.
UNORDERED = {
    "self-attention": lambda key: self_attention(key, e=4),
    "l2-attention": l2_attention,
    "multihead": multihead,
    "multihead-soft-cap": lambda key: multihead(key, soft_cap=1.5, scale=0.9),
    "multihead-query-key-norm": lambda key: multihead(key, **norms(key)),
    "layer-norm": layer_norm,
    "rms-norm": rms_norm,
    "mlp": mlp,
    "gated-mlp": lambda key: mlp(key, gated=True),
    "affine": affine,
    "residual": lambda key: Residual(self_attention(key), 0.7),
    "composition": block,
}
# Maps of conditional measures.
ORDERED = {
    "rotary": lambda key: multihead(key, rotary=Rotary(theta=7.0), **norms(key)),
    "relative-bias": lambda key: multihead(key, score_bias=relative_bias(key), soft_cap=1.5),
    "linear-bias": lambda key: multihead(key, score_bias=slopes()),
    "causal": lambda key: CausalAttention(multihead(key, e=4)),
    "causal-window": lambda key: CausalAttention(
        multihead(key, rotary=Rotary(dims=2), score_bias=slopes(), soft_cap=2.0), window=2
    ),
    "causal-block": lambda key: Residual(
        Composition([layer_norm(key), CausalAttention(self_attention(key))])
    ),
}
KINDS = UNORDERED | ORDERED

every_kind = pytest.mark.parametrize("kind", KINDS)
every_unordered_kind = pytest.mark.parametrize("kind", UNORDERED)
every_ordered_kind = pytest.mark.parametrize("kind", ORDERED)


def random_pair(kind, key):
    """A random map of the kind, and a random measure that it acts on."""
    map_key, measure_key = jr.split(key)
    draw = random_measure if kind in UNORDERED else random_sequence
    return KINDS[kind](map_key), draw(measure_key)
