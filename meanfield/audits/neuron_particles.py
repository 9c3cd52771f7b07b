"""Hidden neurons as particles, up to the symmetries that their activation has.

Proofs are in docs/theory/model_distance.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from meanfield.attention import MLP, AbstractPointMap, Composition, Residual
from meanfield.models import Layer, ModelError
from meanfield.models.activation import relu, tanh

from .clouds import AbstractCloud, Points
from .folding import folded
from .particles import AbstractParticles


_HOMOGENEOUS = (relu, jax.nn.relu)
_ODD = (tanh, jnp.tanh)


class Neurons(AbstractParticles):
    r"""Each neuron is the point $(u, w, b)$ of $x \mapsto u\, \phi(\langle w, x \rangle + b)$; with
    a gate, $(u, w, b, g, c)$ of $u\, \phi(\langle g, x \rangle + c)\, (\langle w, x \rangle + b)$.

    What leaves a neuron the same is divided out: factors that a linear side of a gate or a ReLU
    lets pass from one side to the other, and signs. GELU, SiLU and tanh let no positive factor
    pass: with them u and (w, b) are compared as they are.
    """

    @property
    def name(self) -> str:
        return "neuron"

    def cloud(self, layer: Layer) -> AbstractCloud:
        norm, f = perceptron(layer)
        ingoing, outgoing = folded(f.weight_in, f.bias_in, norm), _array(f.weight_out).T
        homogeneous, odd = f.activation in _HOMOGENEOUS, f.activation in _ODD
        if f.gate is None:
            blocks = outgoing, ingoing
            blocks = balanced(*blocks) if homogeneous else blocks
            return Points(*blocks, signs=((1, 1), (-1, -1)) if odd else None)
        gate = folded(f.gate, f.gate_bias, norm)
        if homogeneous:
            blocks = balanced(outgoing, ingoing, gate)
        else:
            blocks = *balanced(outgoing, ingoing), gate
        signs = ((1, 1, 1), (-1, -1, 1))
        return Points(*blocks, signs=(*signs, (-1, 1, -1), (1, -1, -1)) if odd else signs)

    def offset(self, layer: Layer) -> Float[np.ndarray, " e"]:
        """The bias of the output."""
        _, f = perceptron(layer)
        return np.zeros(len(f.weight_out)) if f.bias_out is None else _array(f.bias_out)


def perceptron(layer: Layer) -> tuple[AbstractPointMap | None, MLP]:
    """The perceptron of a layer, and the norm before it (None in post-norm layers).

    Raises:
      ModelError: the layer has none.
    """
    maps = layer.block.maps if isinstance(layer.block, Composition) else ()
    for inner in (f.f for f in maps if isinstance(f, Residual)):
        if isinstance(inner, MLP):
            return None, inner
        if isinstance(inner, Composition) and len(inner.maps) == 2:
            norm, f = inner.maps
            if isinstance(norm, AbstractPointMap) and isinstance(f, MLP):
                return norm, f
    raise ModelError("a layer has no perceptron after its attention; compare heads instead.")


def balanced(*factors: Float[np.ndarray, "n _"]) -> tuple[Float[np.ndarray, "n _"], ...]:
    """The factors of each neuron scaled to one norm, the product of their norms unchanged."""
    norms = np.stack([np.linalg.norm(factor, axis=1) for factor in factors])
    dead = np.min(norms, axis=0) == 0
    common = np.exp(np.mean(np.log(np.where(dead, 1.0, norms)), axis=0))
    scales = np.where(dead, 0.0, common / np.where(dead, 1.0, norms))
    return tuple(scale[:, None] * factor for scale, factor in zip(scales, factors, strict=True))


def _array(x) -> np.ndarray:
    return np.asarray(x, np.float64)
