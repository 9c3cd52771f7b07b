"""The dimension of the points that a map acts on, read from its arrays."""

from .attention import L2Attention, SelfAttention
from .causal import CausalAttention
from .compose import Composition, Residual
from .layers import MLP, Affine, LayerNorm, RMSNorm
from .map import input_dim
from .multihead import MultiheadAttention


@input_dim.register
def _(f: SelfAttention) -> int | None:
    return f.A.shape[-1]


@input_dim.register(MultiheadAttention)
@input_dim.register(L2Attention)
def _(f: MultiheadAttention | L2Attention) -> int | None:
    return f.query_proj.shape[-1]


@input_dim.register
def _(f: CausalAttention) -> int | None:
    return input_dim(f.attention)


@input_dim.register(LayerNorm)
@input_dim.register(RMSNorm)
def _(f: LayerNorm | RMSNorm) -> int | None:
    return f.gamma.shape[-1]


@input_dim.register
def _(f: Affine) -> int | None:
    return f.weight.shape[-1]


@input_dim.register
def _(f: MLP) -> int | None:
    return f.weight_in.shape[-1]


@input_dim.register
def _(f: Residual) -> int | None:
    return input_dim(f.f)


@input_dim.register
def _(f: Composition) -> int | None:
    # a map that leaves the dimension open may stand first; the next one then speaks when it acts
    return input_dim(f.maps[0]) if f.maps else None
