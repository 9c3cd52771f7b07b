"""Bounds of the maps that look at one point at a time, and of maps made of maps."""

import math

import numpy as np

from meanfield.attention import (
    MLP,
    Affine,
    Composition,
    LayerNorm,
    Residual,
    RMSNorm,
)
from meanfield.measure import AbstractDomain, Sphere

from .activation import activation_slope
from .bound import Bound
from .ellipsoid import Ellipsoid, enclosing, float64, spectral_norm
from .images import image
from .theorems import check_exponent, lipschitz_bound


# A map g of points moves W_p by at most its Lipschitz constant, for every p and every n.


@lipschitz_bound.register
def _(f: Affine, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None) -> Bound:
    """||W||."""
    check_exponent(p, n)
    return _bound(spectral_norm(float64(f.weight)), domain, "affine")


@lipschitz_bound.register
def _(f: LayerNorm, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None) -> Bound:
    r"""$\max_k |\gamma_k| / \sqrt\epsilon$, everywhere."""
    check_exponent(p, n)
    return _bound(_largest(f.gamma) / _root(f.epsilon), domain, "layer-norm")


@lipschitz_bound.register
def _(f: RMSNorm, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None) -> Bound:
    r"""$\max_k |\gamma_k| / \sqrt\epsilon$, everywhere; on the sphere of radius R the norm is
    linear, with constant $\max_k |\gamma_k| / \sqrt{R^2 / d + \epsilon}$."""
    check_exponent(p, n)
    on_sphere = float(domain.radius) ** 2 / f.gamma.size if isinstance(domain, Sphere) else 0.0
    return _bound(_largest(f.gamma) / _root(on_sphere + f.epsilon), domain, "layer-norm")


@lipschitz_bound.register
def _(f: MLP, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None) -> Bound:
    r"""$\|W_2\| \, L_\phi \, \|W_1\|$; with a gate, on the domain,
    $\|W_2\| (L_\phi \|\mathrm{diag}(u) W_g\| + \|\mathrm{diag}(g) W_1\|)$ with u and g the largest
    entries of $W_1 x + b_1$ and of $\phi(W_g x + b_g)$."""
    check_exponent(p, n)
    weight, out = float64(f.weight_in), spectral_norm(float64(f.weight_out))
    slope = activation_slope(f.activation)
    if f.gate is None:
        return _bound(out * slope * spectral_norm(weight), domain, "perceptron")
    gate = float64(f.gate)
    around = enclosing(domain, weight.shape[1])
    up, open_ = _extent(around, weight, f.bias_in), _extent(around, gate, f.gate_bias)
    hidden = slope * spectral_norm(up[:, None] * gate) + spectral_norm(open_[:, None] * weight)
    return _bound(out * hidden, domain, "gated-perceptron")


@lipschitz_bound.register
def _(f: Residual, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None) -> Bound:
    """1 + |scale| L."""
    inner = float(lipschitz_bound(f.f, domain, p=p, n=n).log_value)
    log_value = float(np.logaddexp(0.0, inner + _log(abs(float(f.scale)))))
    return Bound(log_value, "upper", domain, "meanfield:residual")


@lipschitz_bound.register
def _(f: Composition, domain: AbstractDomain, *, p: float | int = 2, n: int | None = None) -> Bound:
    """The product of the constants, each on the image of the domain under the maps before it."""
    check_exponent(p, n)
    log_value, here = 0.0, domain
    for k, one in enumerate(f.maps):
        log_value += float(lipschitz_bound(one, here, p=p, n=n).log_value)
        here = here if k == len(f.maps) - 1 else image(one, here)
    return Bound(log_value, "upper", domain, "meanfield:composition")


def _bound(value: float, domain: AbstractDomain, theorem: str) -> Bound:
    return Bound(_log(value), "upper", domain, f"meanfield:{theorem}")


def _extent(around: Ellipsoid, weight: np.ndarray, bias) -> np.ndarray:
    return around.extent(weight, np.zeros(weight.shape[0]) if bias is None else float64(bias))


def _largest(gamma) -> float:
    return float(np.max(np.abs(float64(gamma))))


def _root(x: float) -> float:
    if x <= 0:
        raise ValueError(
            "`epsilon` must be positive for a bound on a norm layer that holds everywhere; got "
            f"{x}."
        )
    return math.sqrt(x)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf
