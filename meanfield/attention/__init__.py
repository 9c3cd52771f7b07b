"""In-context maps G(mu, x): attention, norms, multilayer perceptrons, and what is made of them.

A map acts on a measure by pushforward, mu -> G(mu, .)_# mu. Attention is a score (how much a query
likes a key), a choice (how likes become shares of mass) and a value (what is averaged).
"""

from .attending import AbstractCoupledChoice as AbstractCoupledChoice
from .attention import (
    AbstractAttention as AbstractAttention,
    L2Attention as L2Attention,
    SelfAttention as SelfAttention,
)
from .bias import (
    AbstractScoreBias as AbstractScoreBias,
    LinearBias as LinearBias,
    RelativeBias as RelativeBias,
)
from .causal import CausalAttention as CausalAttention, CausalMask as CausalMask
from .choice import (
    AbstractChoice as AbstractChoice,
    Linear as Linear,
    Sigmoid as Sigmoid,
    Softmax as Softmax,
    is_softmax as is_softmax,
)
from .choice_sparse import ChiSquare as ChiSquare, Entmax as Entmax, TopMass as TopMass
from .compose import Composition as Composition, Residual as Residual
from .derivative import AttentionDerivative as AttentionDerivative
from .dimension import input_dim as input_dim
from .doubly_stochastic import DoublyStochastic as DoublyStochastic
from .layers import MLP as MLP, Affine as Affine, LayerNorm as LayerNorm, RMSNorm as RMSNorm
from .map import (
    AbstractInContextMap as AbstractInContextMap,
    AbstractPointMap as AbstractPointMap,
    AnyMeasure as AnyMeasure,
    check_dim as check_dim,
    check_map as check_map,
)
from .multihead import MultiheadAttention as MultiheadAttention
from .rotary import Rotary as Rotary
from .topk import topk_magnitude as topk_magnitude, topk_mask as topk_mask
