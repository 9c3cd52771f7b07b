"""Maps of points around a measure: what they share, affine maps, norms."""

import abc
import math

import numpy as np
from jaxtyping import Float

from meanfield.attention import Affine, LayerNorm, RMSNorm

from ..ellipsoid import float64, spectral_norm
from .head import Atoms
from .margin import longest, unit
from .model import EXPONENTS, Exponents, Known, LocalModel, times
from .norms import EPS


Array = np.ndarray
Radii = float | Float[Array, " n"]


class PointKnown(Known):
    """Slopes and second derivatives, label by label, whatever the exponent."""

    def __init__(self, slopes: Float[Array, " n"], curves: Float[Array, " n"]):
        self.rows, self.curves = slopes, curves
        self.constant = dict.fromkeys(EXPONENTS, float(slopes.max()))

    def bends(self, weights: Float[Array, " n"], moves: Float[Array, " n"]) -> Exponents:
        bent = times(times(weights, moves), self.curves)
        return dict.fromkeys(EXPONENTS, float(np.max(bent)))

    def pulled(self, weights: Float[Array, " n"]) -> tuple[Float[Array, " n"], Exponents]:
        return times(weights, self.rows), dict.fromkeys(EXPONENTS, 1.0)

    def carried(self, moves: Float[Array, " n"]) -> Float[Array, " n"]:
        return times(self.rows, moves)


class PointModel(LocalModel):
    """A map of points: its Jacobian is block diagonal and the same for every exponent.

    Attributes:
      third: how fast the second derivative can change, per unit of a move; inf where not known.
    """

    matrices: Float[Array, "n e d"]
    third: float

    def close(self, terms: int, size: float) -> None:
        """The margins of a map whose images are sums of parts as large as `size`."""
        self.rounding = unit(terms)
        largest = float(np.max(np.linalg.norm(self.matrices, axis=(1, 2))))
        self.slack, self.drift = self.rounding * largest, self.rounding * size

    @abc.abstractmethod
    def bounds(self, t: Radii) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """For each label, bounds on the first and on the second derivative within t of its atom."""

    def through(
        self, after: Float[Array, "n f e"], before: Float[Array, "n d c"]
    ) -> Float[Array, " n"]:
        """For each atom, a bound on the bilinear map after . D^2 (before . , before . ); inf where
        nothing better is known than the product of the norms."""
        return np.full(len(self.atoms.points), math.inf)

    def known(self, t: Radii) -> PointKnown:
        return PointKnown(*self.bounds(t))

    def at_centre(self, p: float | int, splitting: bool) -> float:
        return float(self.bounds(0.0)[0].max())

    def travels(self, t: Radii) -> Float[Array, " n"]:
        return times(t, self.bounds(t)[0])

    def local(self, i: int) -> Float[Array, "e d"]:
        return self.matrices[i]

    def forward(self, moves: Float[Array, "r n d"]) -> Float[Array, "r n e"]:
        return np.einsum("ned,rnd->rne", self.matrices, moves, optimize=True)

    def backward(self, pulls: Float[Array, "r n e"]) -> Float[Array, "r n d"]:
        return np.einsum("ned,rne->rnd", self.matrices, pulls, optimize=True)


class AffineModel(PointModel):
    """x -> W x + b."""

    third = 0.0

    def __init__(self, f: Affine, atoms: Atoms):
        weight = float64(f.weight)
        self.atoms, self.norm = atoms, spectral_norm(weight)
        self.image = atoms.points @ weight.T + (0.0 if f.bias is None else float64(f.bias))
        self.matrices = np.broadcast_to(weight, (len(atoms.points), *weight.shape))
        far = longest(atoms.points) * float(np.linalg.norm(weight))
        self.close(sum(weight.shape), far + longest(self.image))

    def bounds(self, t: Radii) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        return np.full(len(self.image), self.norm), np.zeros(len(self.image))


class NormModel(PointModel):
    r"""$x \mapsto \gamma \odot \sqrt d\, z / \rho + \beta$ with $z = x$ or z = x centred, and
    $\rho = \sqrt{|z|^2 + d \epsilon}$."""

    third = math.inf

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

    def bounds(self, t: Radii) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        shortest = np.maximum(self.length - t - self.lost, 0.0)
        square = shortest**2 + self.floor
        root = self.gain * math.sqrt(self.dim)
        with np.errstate(divide="ignore"):
            return root / np.sqrt(square), root * 2 / math.sqrt(3) / square
