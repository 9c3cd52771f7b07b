r"""How steep the risk is: the local Polyak-Lojasiewicz ratio with a certificate (barboni2024).

The squared slope is a quadratic form of the tangent kernels at the adjoint states,
$|\partial|^2 = N^{-2} \sum_k h_k \langle p_{k+1}, \mathbb{K}_k p_{k+1} \rangle$, so eigenvalues of
the kernels enclose it (docs: theory/training).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from meanfield.measure import RESULTS, Measure

from .eigenvalues import EPS, enclosed
from .field import adjoint_states, check_finite, gradient_field, squared_slope
from .kernel import full_gram, outer_gram
from .loss import Data, Loss, risk
from .resnet import MeanFieldResNet


ROWS = 4096  # of the largest kernel that is factorised


class PolyakLojasiewicz(eqx.Module):
    r"""The ratio of the squared slope to the risk, and what is proved about it.

    Attributes:
      ratio: $|\partial \mathrm{risk}|^2 / \mathrm{risk}$, measured: the rate at which the gradient
        flow lowers the logarithm of the risk now.
      certified: a lower bound on the ratio from the smallest eigenvalue of the whole kernel of
        each layer; NaN where it was not asked for.
      certified_outer: a lower bound from the outer weights alone, the smallest eigenvalues of
        `outer_kernel`. Zero if no layer has as many features as there are examples.
      certified_above: an upper bound on the ratio, from the largest eigenvalues of the whole
        kernel; NaN where it was not asked for.
      smallest, largest: bounds on the extreme eigenvalues of the whole kernel of each layer,
        shape (L,); `smallest_outer` those of the outer kernel from below.
      adjoint: $\sum_i |p^i_{k+1}|^2 / \sum_i |p^i_L|^2$ for each layer, shape (L,); like the ratio
        and the certificates NaN where the risk is zero.
      risk, squared_slope: the two numbers of the ratio.
      result: `RESULTS.successful`, or why the certificate is zero.
    """

    ratio: float
    certified: float
    certified_outer: float
    certified_above: float
    smallest: Float[np.ndarray, " L"]
    largest: Float[np.ndarray, " L"]
    smallest_outer: Float[np.ndarray, " L"]
    adjoint: Float[np.ndarray, " L"]
    risk: float
    squared_slope: float
    result: RESULTS

    def __repr__(self) -> str:
        certified = np.fmax(self.certified, self.certified_outer)
        return f"PolyakLojasiewicz(ratio {self.ratio:.3g}, certified >= {certified:.3g})"


def polyak_lojasiewicz(
    net: MeanFieldResNet, loss: Loss, data: Data, *, whole: bool = True
) -> PolyakLojasiewicz:
    r"""The ratio $|\partial|^2 / \mathrm{risk}$ at this network, with its certificates.

    $$\frac{|\partial|^2}{\mathrm{risk}} \ge \frac{\sum_i |p^i_L|^2}{N^2\, \mathrm{risk}} \sum_k h_k
    \lambda_{\min}(\mathbb{K}_k) \frac{\sum_i |p^i_{k+1}|^2}{\sum_i |p^i_L|^2}$$

    and, above, the same with the largest eigenvalues. For the squared error and no readout the
    factor in front is 2 / N. The slope is that of the particles: training an embedding or a readout
    only adds to it. Computed in float64 on the host whatever the precision of JAX, with
    eigenvalues proved and rounded outwards. It does not trace.

    Args:
      net: the network; with tokens as states, absent tokens are left out, and equal tokens written
        twice make the certificate zero.
      loss, data: as in `risk`; N examples make kernels of N d rows, at most 4096.
      whole: whether to factorise the whole kernels (N d rows) besides the outer ones (N rows).

    Raises:
      ValueError: the risk is not finite; more rows than 4096.
    """
    with jax.enable_x64(True):
        net, data = in_float64((net, data))
        value = risk(net, loss, data)
        check_finite(value)
        slope = squared_slope(net, gradient_field(net, loss, data))
        states, adjoint = _orbits(net, loss, data)
        rows = Rows.of(states, adjoint)
        rows.check(whole)
        bounds = [_of_layer(net, k, states, rows, whole) for k in range(net.depth)]
    return _assembled(net, rows, float(value), float(slope), np.array(bounds))


class Rows(eqx.Module):
    r"""The rows of the kernels, one for each point of each example, those without mass left out.

    A token of mass w enters by the gradient p / w with respect to its mass, so that rows are
    scaled by sqrt(w) and squared adjoints are summed as |p|^2 / w; a point of its own has w = 1.

    Attributes:
      present: which points have mass, of all N n.
      roots: sqrt(w) of those that have.
      dim: the number of coordinates of a point.
      squared: the squared length of the adjoint states at k = 0, ..., L, over all examples.
      examples: N.
    """

    present: np.ndarray
    roots: np.ndarray
    dim: int
    squared: np.ndarray
    examples: int

    @classmethod
    def of(cls, states: Any, adjoint: Any) -> "Rows":
        """From the stacked states and adjoint states of N examples, shapes (N, L + 1, ...)."""
        p = np.asarray(getattr(adjoint, "points", adjoint))
        masses = np.ones(p.shape[:-1])
        if isinstance(states, Measure):
            masses = np.asarray(states.weights)
        present = masses > 0
        lengths = np.sum(p**2, axis=-1) / np.where(present, masses, 1)
        squared = np.sum(np.moveaxis(lengths, 1, 0).reshape(p.shape[1], -1), axis=1)
        first, roots = present[:, 0].ravel(), np.sqrt(masses[:, 0].ravel())
        return cls(first, roots[first], p.shape[-1], squared, len(p))

    def check(self, whole: bool) -> None:
        count = len(self.roots) * (self.dim if whole else 1)
        if count > ROWS:
            raise ValueError(
                f"`data` must make kernels of at most {ROWS} rows; got {count}. Certify on fewer "
                "examples, or with whole=False on one row for each."
            )

    def of_points(self, gram: np.ndarray) -> np.ndarray:
        """A kernel with one row for each point, scaled, without the absent."""
        kept = gram[np.ix_(self.present, self.present)]
        return self.roots[:, None] * kept * self.roots

    def of_coordinates(self, gram: np.ndarray) -> np.ndarray:
        """A kernel with one row for each coordinate of each point, scaled, without the absent."""
        present, roots = np.repeat(self.present, self.dim), np.repeat(self.roots, self.dim)
        return roots[:, None] * gram[np.ix_(present, present)] * roots


@eqx.filter_jit
def _orbits(net: MeanFieldResNet, loss: Loss, data: Data) -> tuple[Any, Any]:
    """The states and the adjoint states of all examples."""
    return jax.vmap(lambda x, y: adjoint_states(net, loss, x, y))(*data)


def _of_layer(
    net: MeanFieldResNet, k: int, states: Any, rows: Rows, whole: bool
) -> tuple[float, float, float]:
    """Bounds on the smallest and the largest eigenvalue of the whole kernel of a layer, and on the
    smallest of the outer one."""
    if not net.params.base[k] > 0:
        return 0.0, 0.0, 0.0
    before = jax.tree.map(lambda a: a[:, k], states)
    particles, weights = net.params.points[k], net.params.weights[k]
    outer = np.asarray(outer_gram(net.residual, particles, weights, before))
    lower_outer = enclosed(rows.of_points(outer), particles.size)[0]
    if not whole:
        return np.nan, np.nan, lower_outer
    full = np.asarray(full_gram(net.residual, particles, weights, before))
    return *enclosed(rows.of_coordinates(full), particles.size), lower_outer


def _assembled(
    net: MeanFieldResNet, rows: Rows, value: float, slope: float, bounds: np.ndarray
) -> PolyakLojasiewicz:
    smallest, largest, outer = bounds.T
    base = np.asarray(net.params.base)
    rounding = 4 * EPS * (net.depth + rows.dim * len(rows.roots) + 32)

    def summed(eigenvalues: np.ndarray, factor: float) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN where the risk is zero
            total = np.float64(base @ (eigenvalues * rows.squared[1:])) / rows.examples**2
            return float(total / value * factor)

    certified, outwards = summed(smallest, 1 - rounding), summed(outer, 1 - rounding)
    found = np.fmax(certified, outwards) > 0
    return PolyakLojasiewicz(
        ratio=slope / value if value > 0 else np.nan,
        certified=certified,
        certified_outer=outwards,
        certified_above=summed(largest, 1 + rounding),
        smallest=smallest,
        largest=largest,
        smallest_outer=outer,
        adjoint=rows.squared[1:] / (rows.squared[-1] or np.nan),
        risk=value,
        squared_slope=slope,
        result=RESULTS.successful if found else RESULTS.certificate_is_zero,
    )


def in_float64(tree: Any) -> Any:
    """The tree with its floating arrays in float64."""

    def wide(x):
        floating = eqx.is_array(x) or isinstance(x, np.ndarray)
        floating = floating and jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, jnp.float64) if floating else x

    return jax.tree.map(wide, tree)
