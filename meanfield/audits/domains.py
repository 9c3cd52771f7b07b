"""Where peeled mass may go: what the norm before a layer can put out, or the observed ball."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from meanfield.attention import Composition, LayerNorm, RMSNorm
from meanfield.measure import AbstractDomain, Ball, LayerNormRange

from .contexts import cast


# Radii are rounded in float32: the farthest atom must stay inside.
_MARGIN = 1 + 1e-6


def observed_ball(radius: float) -> Ball:
    """The smallest ball around the origin that holds the measure, a little larger."""
    return Ball(radius * _MARGIN)


def norm_range(model: Any, layer: int | None, dtype: str) -> LayerNormRange | None:
    """What the norm before a layer can put out (None: before the first block, all of it); None
    where no norm comes directly before."""
    norm = _norm_before(model, layer)
    if isinstance(norm, LayerNorm):
        beta = jnp.zeros_like(norm.gamma) if norm.beta is None else norm.beta
        return cast(LayerNormRange(norm.gamma, beta), dtype)
    if isinstance(norm, RMSNorm):
        zero = jnp.zeros_like(norm.gamma)
        return cast(LayerNormRange(norm.gamma, zero, centred=False), dtype)
    return None


def _norm_before(model: Any, layer: int | None) -> Any:
    if layer is not None and model.layers[layer].norm is not None:
        return model.layers[layer].norm
    if not layer:
        return getattr(model, "entry", None)
    block = getattr(model.layers[layer - 1], "block", None)
    return block.maps[-1] if isinstance(block, Composition) else None


def holds(domain: AbstractDomain, mu: Any) -> bool:
    """Whether every atom that has mass lies in the domain."""
    return bool(np.all(np.asarray(domain.contains(mu.points, 1e-4) | (mu.masses <= 0))))
