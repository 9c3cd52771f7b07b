r"""A proof, before training, that the gradient flow will fit the data (barboni2024).

If the squared slope is at least m times the risk on a ball around the start, and the ball is
wide enough for a path of length $2 \sqrt{\mathrm{risk} / m}$, then the risk falls as $e^{-m t}$ and
the flow converges inside the ball. For a hidden layer with a bounded activation m can be computed
on the whole ball (docs: theory/training, "A constant on a ball").
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .ends import Fixed
from .landscape import PolyakLojasiewicz, in_float64, polyak_lojasiewicz
from .loss import Data, SquaredError
from .residuals.hidden_layer import SingleHiddenLayer, neurons
from .resnet import MeanFieldResNet


# (sup |sigma|, sup |sigma'|) of activations that are bounded
BOUNDED = {
    jnp.tanh: (1.0, 1.0),
    jax.nn.tanh: (1.0, 1.0),
    jax.nn.sigmoid: (1.0, 0.25),
    jnp.sin: (1.0, 1.0),
    jnp.cos: (1.0, 1.0),
}

_UP = 1 + 1e-9  # far beyond the rounding of sums of nonnegative numbers


class ConvergenceBall(eqx.Module):
    r"""A ball of the conditional distance around a network, and the ratio that is proved on it.

    Attributes:
      radius: R, the radius for which the proof goes furthest.
      constant: m, such that $|\partial|^2 \ge m\, \mathrm{risk}$ for every measure within R.
      needed: the radius $2 \sqrt{\mathrm{risk} / m}$ that the flow may travel; infinite if m = 0.
      risk: at the centre.
      risk_allowed: $m R^2 / 4$; a smaller risk at the centre is proved to be fitted.
    """

    radius: float
    constant: float
    risk: float

    @property
    def needed(self) -> float:
        return convergence_radius(self.constant, self.risk)

    @property
    def risk_allowed(self) -> float:
        return self.constant * self.radius**2 / 4

    @property
    def proved(self) -> bool:
        """Whether the flow from here is proved to stay inside and to drive the risk to zero."""
        return self.needed < self.radius

    def __repr__(self) -> str:
        words = "converges" if self.proved else "nothing is proved"
        return (
            f"ConvergenceBall({words}: radius {self.radius:.3g}, needed {self.needed:.3g}, "
            f"rate {self.constant:.3g})"
        )


def convergence_radius(constant: float, risk: float) -> float:
    r"""$2 \sqrt{\mathrm{risk} / m}$: how far a gradient flow can travel where the ratio is at least
    m = `constant`; infinite for m = 0."""
    return 2 * float(np.sqrt(risk / constant)) if constant > 0 else np.inf


def convergence_ball(
    net: MeanFieldResNet,
    loss: SquaredError,
    data: Data,
    *,
    activation_bounds: tuple[float, float] | None = None,
    radii: int = 512,
) -> ConvergenceBall:
    r"""The ball around a network on which the convergence of its gradient flow is proved furthest.

    On the ball of radius R, with the quantities of the theory page,
    $m(R) = \frac2N (1 - T)_+^2 \big( \lVert (\sqrt{\lambda} - A)_+ \rVert_h - B R \big)_+^2$ where
    lambda are the certified smallest eigenvalues of the outer kernels. The radius returned has the
    largest $m(R) R^2 / 4$ of those tried; each of them is a proof. It speaks of the flow in
    continuous time, for all measures near this one. Expect small numbers: the risk allowed is far
    below what training fits in practice.

    Args:
      net: hidden layers of bounded activation, between an embedding that is not trained and no
        readout.
      loss: the squared error.
      data: as in `risk`.
      activation_bounds: (sup |sigma|, sup |sigma'|); known for tanh, sigmoid, sin and cos.
      radii: how many are tried.

    Raises:
      ValueError: another residual, loss, embedding or readout than said; an activation whose bounds
        are not known; the risk is not finite.
    """
    check_hypotheses(net, loss)
    bounds = activation_bounds or BOUNDED.get(net.residual.activation)  # pyright: ignore
    if bounds is None:
        raise ValueError(
            "`activation_bounds` must be (sup |sigma|, sup |sigma'|) for an activation that is not "
            "one of tanh, sigmoid, sin and cos; got None. An unbounded one has no such ball."
        )
    found = polyak_lojasiewicz(net, loss, data, whole=False)
    centre = Centre.of(net, data[0], found, bounds)
    tried = centre.widest * np.linspace(0, 1, radii + 2)[1:-1]
    constants = np.array([centre.constant(R) for R in tried])
    best = int(np.argmax(constants * tried**2))
    return ConvergenceBall(float(tried[best]), float(constants[best]), found.risk)


def check_hypotheses(net: MeanFieldResNet, loss: Any) -> None:
    """Raises ValueError where the constant on a ball is not proved."""
    trained = eqx.filter(net.embedding, eqx.is_inexact_array)
    if not isinstance(net.residual, SingleHiddenLayer):
        raise ValueError(f"`net` must have SingleHiddenLayer residuals; got {net.residual}.")
    if not isinstance(loss, SquaredError):
        raise ValueError(f"`loss` must be SquaredError(); got {loss}.")
    if not isinstance(net.readout, eqx.nn.Identity):
        raise ValueError(f"`net` must have no readout; got {net.readout}.")
    if jax.tree.leaves(trained) and not isinstance(net.embedding, Fixed):
        raise ValueError("`net` must have an embedding that is not trained: wrap it in Fixed(...).")


class Centre(eqx.Module):
    r"""What the constant on a ball depends on, at its centre; shape (L,) unless it says otherwise.

    Attributes:
      base: the masses h of the layers.
      total: the mass alpha of each fibre.
      outer, inner, product: U, W and the integral of |u| |w|.
      lengths: the norms of the states, shape (L, N).
      roots: lower bounds on the square roots of the smallest eigenvalues of the outer kernels.
      height, slope: sup |sigma| and sup |sigma'|.
    """

    base: np.ndarray
    total: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    product: np.ndarray
    lengths: np.ndarray
    roots: np.ndarray
    height: float
    slope: float

    @classmethod
    def of(
        cls, net: MeanFieldResNet, xs: Any, found: PolyakLojasiewicz, bounds: tuple[float, float]
    ) -> "Centre":
        with jax.enable_x64(True):
            net, xs = in_float64((net, xs))
            states = np.asarray(jax.vmap(net.hidden)(xs))[:, :-1]
            weights = np.asarray(net.params.weights)
            u, w, _ = neurons(jnp.where(weights[..., None] > 0, net.params.points, 0))
        u, w = (np.linalg.norm(np.asarray(side), axis=-1) for side in (u, w))
        base = np.asarray(net.params.base)
        present = base > 0
        return cls(
            base=base[present],
            total=np.sum(weights, axis=1)[present],
            outer=np.sqrt(np.sum(weights * u**2, axis=1))[present],
            inner=np.sqrt(np.sum(weights * w**2, axis=1))[present],
            product=np.sum(weights * u * w, axis=1)[present],
            lengths=np.linalg.norm(states, axis=-1).T[present],
            roots=np.sqrt(found.smallest_outer)[present],
            height=bounds[0],
            slope=bounds[1],
        )

    @property
    def widest(self) -> float:
        """A radius beyond which the constant is zero."""
        return self._norm(self.roots) / self._features(0.0)

    def constant(self, radius: float) -> float:
        """m(R), rounded down."""
        moved = self.moved(radius) * _UP
        losses = self.slope * (
            self.base @ self.product
            + radius * self._norm(np.hypot(self.outer, self.inner))
            + radius**2 / 2
        )
        if not (np.isfinite(moved) and losses * _UP < 1):
            return 0.0
        count = self.lengths.shape[1]
        shaken = self.slope * np.sqrt(count) * self.inner * moved * _UP
        kept = self._norm(np.maximum(self.roots - shaken, 0)) / _UP
        root = max(0.0, kept - self._features(moved) * radius * _UP)
        return 2 / count * (1 - losses * _UP) ** 2 * root**2 / _UP

    def moved(self, radius: float) -> float:
        """E, how far any state can be from where it was; infinite where there is no bound."""
        growth = np.prod(1 + self.slope * self.base * self.outer * self.inner)
        squares = 1 + np.max(self.lengths, axis=1) ** 2
        push = np.sqrt(self.total * self.height**2 + (self.outer * self.slope) ** 2 * squares)
        back = radius * growth * self.slope * self._norm(self.outer)
        far = radius * growth * self._norm(push) / (1 - back) if back * _UP < 1 else np.inf
        return float(far)

    def _features(self, moved: float) -> float:
        """B: how far the features can move for each unit that the particles do."""
        squares = 1 + (self.lengths + moved) ** 2
        return self.slope * float(np.sqrt(np.max(np.sum(squares, axis=1))))

    def _norm(self, values: np.ndarray) -> float:
        """The norm of L^2(h)."""
        return float(np.sqrt(self.base @ values**2))
