r"""Perceptrons around a measure (docs: theory/certificates, perceptrons).

The second derivative at a point is the bilinear map
$r, u \mapsto \sum_k w_k\, \phi''(h_k) \langle g_k, r \rangle \langle g_k, u \rangle$, with w_k
the columns of W_2 and g_k the rows of W_1. As a linear map of $r \otimes u$ its Gram matrix is
$Q (G \circ G) Q^T$, $Q = W_2\, \mathrm{diag}\, \phi''$ and G the Gram matrix of the rows.
"""

import math
from functools import cached_property

import numpy as np
from jaxtyping import Float

from meanfield.attention import MLP

from ..activation import activation_curve, activation_name, activation_slope, activation_third
from ..ellipsoid import float64, spectral_norm
from .head import Atoms
from .margin import longest, unit
from .norms import positive_eigenvalue, spectral_norms, top_eigenvalue
from .points import PointModel, Radii


Array = np.ndarray


class PerceptronModel(PointModel):
    r"""$x \mapsto W_2 (\phi(g) \odot h) + b_2$ with $g = W_g x + b_g$, $h = W_1 x + b_1$; without
    a gate, $W_2\, \phi(h) + b_2$."""

    def __init__(self, f: MLP, atoms: Atoms):
        into, out = float64(f.weight_in), float64(f.weight_out)
        gate = into if f.gate is None else float64(f.gate)
        self.atoms, self.gated = atoms, f.gate is not None
        self.slope, self.curve = activation_slope(f.activation), activation_curve(f.activation)
        bias = f.bias_in if f.gate is None else f.gate_bias
        hidden = _affine(gate, bias, atoms.points)
        values, slopes, self.curves = activated(f.activation, hidden)
        self.up = _affine(into, f.bias_in, atoms.points) if self.gated else np.ones_like(hidden)
        self.image = (values * self.up) @ out.T
        if f.bias_out is not None:
            self.image = self.image + float64(f.bias_out)
        self.matrices = np.stack([out @ (s[:, None] * gate) for s in slopes * self.up])
        if self.gated:
            self.matrices += np.stack([out @ (v[:, None] * into) for v in values])
        self.at_atoms = spectral_norms(self.matrices)
        self.sizes = tuple(spectral_norm(matrix) for matrix in (out, gate, into))
        self.lengths = tuple(np.linalg.norm(matrix, axis=1) for matrix in (gate, into))
        self.out, self.into, self.tau = out, into, activation_third(f.activation)
        self.lean(atoms, out, gate, into, hidden)

    def lean(self, atoms: Atoms, out: Array, gate: Array, into: Array, hidden: Array) -> None:
        """The margins: an error of the hidden layer times what follows it."""
        far, whole = longest(atoms.points), [float(np.linalg.norm(m)) for m in (out, gate, into)]
        largest = float(np.max(np.abs(self.up)))
        size, reach = far * whole[1] + longest(hidden), longest(hidden)
        size_up = far * whole[2] + longest(self.up) if self.gated else 0.0
        hidden_error = 2 * self.sizes[0] * (size * largest + size_up * (1 + reach))
        terms = sum(out.shape) + into.shape[1]
        self.close(terms, longest(self.image) + whole[0] * reach * largest + hidden_error)
        if not math.isfinite(self.curve):  # a corner may be on the wrong side
            self.at_atoms = np.full(len(self.image), math.inf)
        bent = 2 * (size * (1 + largest) + size_up)
        self.slack += self.rounding * self.sizes[0] * (self.sizes[1] + self.sizes[2]) * bent
        self.misplaced = self.rounding * size

    def bounds(self, t: Radii) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        t = np.broadcast_to(np.asarray(t, float), len(self.image))
        if self.gated:
            curves = self.gated_curves(t)
        else:
            curves = np.fmin(self.crossed, self.bent + t * self.third)
        moved = np.where(t > 0, t * curves, 0.0)
        slopes = self.at_atoms + moved
        out, gate, _ = self.sizes
        return (slopes if self.gated else np.minimum(slopes, out * self.slope * gate)), curves

    def gated_curves(self, t: Float[Array, " n"]) -> Float[Array, " n"]:
        """Bounds on the second derivative by norms of the three matrices."""
        out, gate, into = self.sizes
        gate_lengths, lengths = self.lengths
        far = np.abs(self.up) + t[:, None] * lengths
        bend = self.curve * np.max(gate_lengths * far, axis=1) * gate
        bend += self.slope * (float(gate_lengths.max()) * into + float(lengths.max()) * gate)
        return bend * out

    @cached_property
    def squares(self) -> Float[Array, "h h"]:
        """G o G."""
        return (self.into @ self.into.T) ** 2

    @cached_property
    def crossed(self) -> float:
        """A bound on the second derivative everywhere."""
        if not math.isfinite(self.curve):
            return math.inf
        ones = np.ones(len(self.into))
        return self.sizes[0] * self.curve * math.sqrt(positive_eigenvalue(self.squares, ones))

    @cached_property
    def third(self) -> float:  # pyright: ignore
        """A bound on the third derivative everywhere; inf for a gate, whose second derivative is
        bounded by `gated_curves` at all radii."""
        if self.gated or not math.isfinite(self.tau):
            return math.inf
        spread = math.sqrt(positive_eigenvalue(self.squares, self.lengths[0]))
        return self.sizes[0] * self.tau * spread

    @cached_property
    def bent(self) -> Float[Array, " n"]:
        """Bounds on the second derivative at the atoms."""
        if self.gated or not math.isfinite(self.curve):
            return np.full(len(self.image), math.inf)
        return np.array([self._flat(self.out * c, self.squares) for c in self.curves])

    def through(
        self, after: Float[Array, "n f e"], before: Float[Array, "n d c"]
    ) -> Float[Array, " n"]:
        if self.gated or not math.isfinite(self.curve):
            return np.full(len(self.image), math.inf)
        return np.array(
            [
                self._flat((S @ self.out) * c, (inner @ inner.T) ** 2, S, P)
                for S, P, c in zip(after, before, self.curves, strict=True)
                for inner in (self.into @ P,)
            ]
        )

    def _flat(self, weighted: Array, squares: Array, *around: Array) -> float:
        """The root of the top eigenvalue of Q (G o G) Q^T, with its rounding."""
        gram = weighted @ squares @ weighted.T
        size = float(np.sum(weighted**2) * np.linalg.norm(squares))
        error = unit(sum(self.out.shape) + 2 * self.into.shape[1]) * size
        misplaced = self.sizes[0] * self.curve_error
        for matrix, power in zip(around, (1, 2), strict=False):
            misplaced *= float(np.linalg.norm(matrix)) ** power
        return math.sqrt(top_eigenvalue(gram) + error) + misplaced

    @cached_property
    def curve_error(self) -> float:
        """What the error of the hidden layer can do to the second derivative, before W_2."""
        ones = np.ones(len(self.into))
        return self.tau * self.misplaced * math.sqrt(positive_eigenvalue(self.squares, ones))


def _affine(weight: Array, bias, x: Array) -> Array:
    y = x @ weight.T
    return y if bias is None else y + float64(bias)


def activated(activation, x: Array) -> tuple[Array, Array, Array]:
    """phi(x), phi'(x) and phi''(x) in float64, whatever the precision that JAX is set to.

    Second derivatives keep their signs: neurons that bend in opposite ways add up where their
    weights are opposite too.
    """
    from scipy.special import expit, ndtr  # slow to import

    kind = activation_name(activation)
    if kind == "tanh":
        y = np.tanh(x)
        return y, 1 - y**2, -2 * y * (1 - y**2)
    if kind in ("silu", "quick-gelu"):
        c = 1.702 if kind == "quick-gelu" else 1.0
        gate = expit(c * x)
        bump = gate * (1 - gate)
        curve = c * bump * (2 + c * x * (1 - 2 * gate))
        return x * gate, gate + c * x * bump, curve
    if kind == "gelu":
        share, bell = ndtr(x), np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return x * share, share + x * bell, bell * (2 - x**2)
    if kind == "gelu-tanh":
        root, c = math.sqrt(2 / math.pi), 0.044715
        bent = np.tanh(root * (x + c * x**3))
        inner, turn = root * (1 + 3 * c * x**2), root * 6 * c * x
        curve = (1 - bent**2) * (inner + x * turn / 2 - x * bent * inner**2)
        return x * (1 + bent) / 2, (1 + bent) / 2 + x * (1 - bent**2) * inner / 2, curve
    top = 6.0 if kind == "relu6" else math.inf
    return np.clip(x, 0, top), ((x > 0) & (x < top)).astype(float), np.full_like(x, math.inf)
