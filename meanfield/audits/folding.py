"""Matrices with the norm before them folded in: how they act on the normalised state.

A pre-norm layer computes W (gamma * z + beta) + b of a normalised state z. Only the product of W
and gamma acts, so the factors alone mean nothing (docs/theory/model_distance.md).
"""

import numpy as np
from jaxtyping import Array, Float

from meanfield.attention import AbstractPointMap, LayerNorm, RMSNorm
from meanfield.models import ModelError


def folded(
    weight: Float[Array, "*n r d"],
    bias: Float[Array, "*n r"] | None,
    norm: AbstractPointMap | None,
) -> Float[np.ndarray, "*n r e"]:
    r"""The rows $(W', b')$ with $W' z + b' = W\, \mathrm{norm}(x) + b$, shape (..., r, d + 1).

    z is x without its mean over its standard deviation for a `LayerNorm`, x over its root mean
    square for an `RMSNorm`, and x itself without a norm. Sums over the coordinates of a centred z
    are zero, so W' is centred too.

    Raises:
      ModelError: another kind of norm.
    """
    W = np.asarray(weight, np.float64)
    b = np.zeros(W.shape[:-1]) if bias is None else np.asarray(bias, np.float64)
    if isinstance(norm, LayerNorm):
        if norm.beta is not None:
            b = b + W @ np.asarray(norm.beta, np.float64)
        W = W * np.asarray(norm.gamma, np.float64)
        W = W - W.mean(axis=-1, keepdims=True)
    elif isinstance(norm, RMSNorm):
        W = W * np.asarray(norm.gamma, np.float64)
    elif norm is not None:
        raise ModelError(f"the norm {type(norm).__name__} of a layer is not known here.")
    return np.concatenate([W, b[..., None]], axis=-1)
