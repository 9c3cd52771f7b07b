"""Maps of points around a measure: affine maps, norms, perceptrons."""

import abc
import math

import numpy as np
from jaxtyping import Float

from meanfield.attention import MLP, Affine, LayerNorm, RMSNorm

from ..activation import activation_curve, activation_name, activation_slope
from ..ellipsoid import float64, spectral_norm
from .head import Atoms
from .margin import longest, unit
from .model import Known, LocalModel
from .norms import EPS, power_norms


Array = np.ndarray
EXPONENTS = (1, 2, math.inf)


class PointModel(LocalModel):
    """A map of points: its Jacobian is block diagonal and the same for every exponent."""

    matrices: Float[Array, "n e d"]

    def close(self, terms: int, size: float) -> None:
        """The margins of a map whose images are sums of parts as large as `size`."""
        self.rounding = unit(terms)
        largest = float(np.max(np.linalg.norm(self.matrices, axis=(1, 2))))
        self.slack, self.drift = self.rounding * largest, self.rounding * size

    @abc.abstractmethod
    def bounds(self, t: float) -> tuple[float, float]:
        """A Lipschitz constant and a bound on the second derivative near the atoms."""

    def known(self, t: float) -> Known:
        slope, curve = self.bounds(t)
        return Known(dict.fromkeys(EXPONENTS, slope), dict.fromkeys(EXPONENTS, curve))

    def at_centre(self, p: float | int, splitting: bool) -> float:
        return self.bounds(0.0)[0]

    def local(self, i: int) -> Float[Array, "e d"]:
        return self.matrices[i]

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        return np.einsum("ned,rnd->rne", self.matrices, moves, optimize=True)

    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        return np.einsum("ned,rne->rnd", self.matrices, pulls, optimize=True)


class AffineModel(PointModel):
    """x -> W x + b."""

    def __init__(self, f: Affine, atoms: Atoms):
        weight = float64(f.weight)
        self.atoms, self.norm = atoms, spectral_norm(weight)
        self.image = atoms.points @ weight.T + (0.0 if f.bias is None else float64(f.bias))
        self.matrices = np.broadcast_to(weight, (len(atoms.points), *weight.shape))
        far = longest(atoms.points) * float(np.linalg.norm(weight))
        self.close(sum(weight.shape), far + longest(self.image))

    def bounds(self, t: float) -> tuple[float, float]:
        return self.norm, 0.0


class NormModel(PointModel):
    r"""$x \mapsto \gamma \odot \sqrt d\, z / \rho + \beta$ with $z = x$ or z = x centred, and
    $\rho = \sqrt{|z|^2 + d \epsilon}$."""

    def __init__(self, f: LayerNorm | RMSNorm, atoms: Atoms):
        gamma, x = float64(f.gamma), atoms.points
        centred = isinstance(f, LayerNorm)
        self.atoms, self.dim = atoms, x.shape[1]
        self.gain, self.floor = float(np.max(np.abs(gamma))), self.dim * f.epsilon
        z = x - x.mean(axis=1, keepdims=True) if centred else x
        self.length = np.linalg.norm(z, axis=1)
        size = np.sqrt(self.length**2 + self.floor)
        root = math.sqrt(self.dim)
        self.image = root * gamma * z / size[:, None]
        if isinstance(f, LayerNorm) and f.beta is not None:
            self.image = self.image + float64(f.beta)
        flat = np.eye(self.dim) - (1 / self.dim if centred else 0.0)
        outer = z[:, :, None] * z[:, None, :] / size[:, None, None] ** 2
        self.matrices = root * gamma[:, None] * (flat - outer) / size[:, None, None]
        # centring loses |x| epsilon of z, which counts against the shortest of them
        self.lost = 8 * EPS * self.dim * longest(x)
        shrunk = 1 + longest(x) / float(size.min())
        self.close(self.dim, longest(self.image) * shrunk)
        self.slack *= shrunk

    def bounds(self, t: float) -> tuple[float, float]:
        shortest = max(float(self.length.min()) - t - self.lost, 0.0)
        size = shortest**2 + self.floor
        if size <= 0:
            return math.inf, math.inf
        root = math.sqrt(self.dim)
        return self.gain * root / math.sqrt(size), self.gain * root * 2 / math.sqrt(3) / size


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
        values, slopes = _activated(f.activation, hidden)
        self.up = _affine(into, f.bias_in, atoms.points) if self.gated else np.ones_like(hidden)
        self.image = (values * self.up) @ out.T
        if f.bias_out is not None:
            self.image = self.image + float64(f.bias_out)
        self.matrices = np.stack([out @ (s[:, None] * gate) for s in slopes * self.up])
        if self.gated:
            self.matrices += np.stack([out @ (v[:, None] * into) for v in values])
        grams = (m @ m.T for m in self.matrices)
        self.at_atoms = max(float(np.sqrt(power_norms(gram, squarings=5))) for gram in grams)
        self.sizes = tuple(spectral_norm(matrix) for matrix in (out, gate, into))
        self.rows = tuple(np.linalg.norm(matrix, axis=1) for matrix in (gate, into))
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
            self.at_atoms = math.inf
        bent = 2 * (size * (1 + largest) + size_up)
        self.slack += self.rounding * self.sizes[0] * (self.sizes[1] + self.sizes[2]) * bent

    def bounds(self, t: float) -> tuple[float, float]:
        out, gate, into = self.sizes
        gate_rows, rows = self.rows
        far = np.abs(self.up).max(axis=0) + t * rows if self.gated else np.ones_like(rows)
        bend = self.curve * float(np.max(gate_rows * far)) * gate
        if self.gated:
            mixed = float(gate_rows.max()) * into + float(rows.max()) * gate
            bend += self.slope * mixed
        bend *= out
        slope = self.at_atoms + t * bend if t else self.at_atoms
        return (slope if self.gated else min(slope, out * self.slope * into)), bend


def _affine(weight: Array, bias, x: Array) -> Array:
    y = x @ weight.T
    return y if bias is None else y + float64(bias)


def _activated(activation, x: Array) -> tuple[Array, Array]:
    """phi(x) and phi'(x) in float64, whatever the precision that JAX is set to."""
    from scipy.special import expit, ndtr  # slow to import

    kind = activation_name(activation)
    if kind == "tanh":
        return np.tanh(x), 1 - np.tanh(x) ** 2
    if kind == "silu":
        gate = expit(x)
        return x * gate, gate * (1 + x * (1 - gate))
    if kind == "quick-gelu":
        gate = expit(1.702 * x)
        return x * gate, gate * (1 + 1.702 * x * (1 - gate))
    if kind == "gelu":
        share = ndtr(x)
        return x * share, share + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    if kind == "gelu-tanh":
        root = math.sqrt(2 / math.pi)
        bent = np.tanh(root * (x + 0.044715 * x**3))
        inner = root * (1 + 3 * 0.044715 * x**2)
        return x * (1 + bent) / 2, (1 + bent) / 2 + x * (1 - bent**2) * inner / 2
    top = 6.0 if kind == "relu6" else math.inf
    return np.clip(x, 0, top), ((x > 0) & (x < top)).astype(float)
