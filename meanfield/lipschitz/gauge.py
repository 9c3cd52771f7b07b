r"""Factors in one gauge: bounds of products must not depend on how the products are factored.

Where a theorem reads norms of single factors it reads those of balanced ones (docs:
theory/conservation, "Bounds and the gauge").
"""

import math
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from meanfield.attention import MultiheadAttention
from meanfield.attention.balance import balanced_pair
from meanfield.attention.gauge import score_blocks

from .ellipsoid import Ellipsoid, Matrix, product_norm, spectral_norm


class StackedHeads(eqx.Module):
    r"""Heads $O_h V_h$ as $O'_h V'_h + E_h$ with balanced factors, which are close to the least
    $\|[O'_1 \dots O'_H]\|$ for given $\|V'_h\|$.

    Args:
      outputs, values: O'_h, V'_h.
      whole: $\|[O'_1 \dots O'_H]\|$.
      lost: for each head, what must be added to $\|V'_h\|$ to cover the rounding E_h.
    """

    outputs: list[Matrix]
    values: list[Matrix]
    whole: float
    lost: list[float]

    @classmethod
    def of(cls, outputs: list[Matrix], values: list[Matrix]) -> "StackedHeads":
        """The same products, balanced; the rounding is bounded by what is left of the products."""
        pairs = [balanced_pair(O.T, V) for O, V in zip(outputs, values, strict=True)]
        new_outputs, new_values = [left.T for left, _ in pairs], [right for _, right in pairs]
        whole = spectral_norm(np.concatenate(new_outputs, axis=1))
        errors = [
            product_norm(np.hstack([O, new_O]), np.vstack([V, -new_V]))
            for O, V, new_O, new_V in zip(outputs, values, new_outputs, new_values, strict=True)
        ]
        # |sum E_h y_h| <= sqrt(H) (sum |E_h|^2 |y_h|^2)^(1/2)
        share = math.sqrt(len(errors)) / whole if whole > 0 else math.inf
        lost = [error * share if error > 0 else 0.0 for error in errors]
        return cls(new_outputs, new_values, whole, lost)

    def norms(self) -> list[float]:
        r"""$\|V'_h\|$, the rounding covered."""
        return [spectral_norm(V) + lost for V, lost in zip(self.values, self.lost, strict=True)]

    def spreads(self, domain: Ellipsoid) -> list[float]:
        r"""$\|V'_h E\|$ on a domain, the rounding covered."""
        widest = float(np.max(np.abs(domain.axes)))
        pairs = zip(self.values, self.lost, strict=True)
        return [spectral_norm(domain.times(V)) + lost * widest for V, lost in pairs]


def side_scales(f: MultiheadAttention) -> tuple[Float[Any, "H k"], Float[Any, "H k"]]:
    """Factors for the query and key features of each head that keep all scores and make both sides
    equally large in every plane of a rotation, and in every coordinate behind a norm.

    For NumPy and JAX arrays, traced or not. Coordinates that mix freely, beside some that turn, are
    scaled as one.
    """
    xp = f.query_proj.__array_namespace__()
    blocks = score_blocks(f)
    joined = (blocks[:, None] == np.unique(blocks)).astype(f.query_proj.dtype)

    def sizes(matrices: Any, norm: Any) -> Any:
        squares = xp.sum(matrices**2, axis=-1) if norm is None else norm.gamma[None] ** 2
        return squares @ joined

    ours = sizes(f.query_proj, f.query_norm)
    theirs = xp.repeat(sizes(f.key_proj, f.key_norm), f.group if f.key_norm is None else 1, axis=0)
    seen = (ours > 0) & (theirs > 0)
    ratio = xp.where(seen, theirs, 1) / xp.where(seen, ours, 1)
    scale = ratio**0.25 @ joined.T
    scale = xp.broadcast_to(scale, f.query_proj.shape[:2])
    return scale, 1 / scale
