"""Where maps send a domain: every image lies in a domain of the same kinds."""

from functools import singledispatch

import jax.numpy as jnp
import numpy as np

from meanfield.attention import (
    MLP,
    AbstractAttention,
    AbstractInContextMap,
    Affine,
    CausalAttention,
    Composition,
    L2Attention,
    LayerNorm,
    MultiheadAttention,
    Residual,
    RMSNorm,
    SelfAttention,
)
from meanfield.measure import AbstractDomain, Ball, LayerNormRange

from .activation import activation_slope
from .ellipsoid import enclosing, float64, length, product_norm, spectral_norm
from .gauge import StackedHeads
from .heads import value_maps


@singledispatch
def image(f: AbstractInContextMap, domain: AbstractDomain) -> AbstractDomain:
    """A domain that contains G(mu, x) for every x and every measure mu carried by a domain.

    Raises:
      TypeError: for a map without a rule; register one with `image.register`.
    """
    raise TypeError(
        f"no rule says where {type(f).__name__} sends a domain; register one with "
        "`meanfield.lipschitz.image.register`."
    )


@image.register
def _(f: Affine, domain: AbstractDomain) -> AbstractDomain:
    weight = float64(f.weight)
    return _ball(enclosing(domain, weight.shape[1]).reach(weight, _or_zeros(f.bias, weight)))


@image.register
def _(f: LayerNorm, domain: AbstractDomain) -> AbstractDomain:
    beta = jnp.zeros_like(f.gamma) if f.beta is None else f.beta
    return LayerNormRange(f.gamma, beta)


@image.register
def _(f: RMSNorm, domain: AbstractDomain) -> AbstractDomain:
    return LayerNormRange(f.gamma, jnp.zeros_like(f.gamma), centred=False)


@image.register
def _(f: MLP, domain: AbstractDomain) -> AbstractDomain:
    weight = float64(f.weight_in)
    around = enclosing(domain, weight.shape[1])
    hidden = around.extent(weight, _or_zeros(f.bias_in, weight))
    if f.gate is not None:
        gate = float64(f.gate)
        hidden = hidden * around.extent(gate, _or_zeros(f.gate_bias, gate))
    activation_slope(f.activation)  # known activations satisfy |phi(t)| <= |t|
    out = float64(f.weight_out)
    reach = min(spectral_norm(out) * length(hidden), length(np.abs(out) @ hidden))
    return _ball(reach + length(_or_zeros(f.bias_out, out)))


@image.register
def _(f: Residual, domain: AbstractDomain) -> AbstractDomain:
    return _ball(float(domain.radius) + abs(float(f.scale)) * float(image(f.f, domain).radius))


@image.register
def _(f: Composition, domain: AbstractDomain) -> AbstractDomain:
    for one in f.maps:
        domain = image(one, domain)
    return domain


@image.register
def _(f: CausalAttention, domain: AbstractDomain) -> AbstractDomain:
    return image(f.attention, domain)


@image.register(SelfAttention)
@image.register(MultiheadAttention)
@image.register(L2Attention)
def _(f: AbstractAttention, domain: AbstractDomain) -> AbstractDomain:
    maps = value_maps(f)
    around = enclosing(domain, maps.dim)
    pairs = zip(maps.outputs, maps.values, strict=True)
    reach = sum(product_norm(O, around.times(V)) for O, V in pairs)
    if len(maps.values) > 1:
        stacked = StackedHeads.of(maps.outputs, maps.values)
        reach = min(reach, stacked.whole * length(np.array(stacked.spreads(around))))
    return _ball(length(maps.at(around.centre)) + reach)


def _ball(radius: float) -> Ball:
    # a radius is kept in the default precision: not below the true one, and positive
    return Ball(max(radius * (1 + 2**-22), float(np.finfo(np.float32).tiny)))


def _or_zeros(bias, weight: np.ndarray) -> np.ndarray:
    return np.zeros(weight.shape[0]) if bias is None else float64(bias)
