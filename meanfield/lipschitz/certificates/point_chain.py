r"""Maps of points made of others: a residual connection, one map after another.

The second derivative of $f_m \circ \dots \circ f_1$ is $\sum_k S_k\, f_k''(P_k r, P_k u)$ with
P_k the derivative of what comes before f_k and S_k that of what comes after (docs:
theory/certificates, compositions).
"""

import math
from functools import cached_property

import numpy as np
from jaxtyping import Float

from .head import Atoms
from .margin import longest
from .model import Margins, times
from .norms import EPS, spectral_norms
from .points import PointModel, Radii


Array = np.ndarray


class PointResidual(PointModel):
    """x + alpha g(x)."""

    def __init__(self, inner: PointModel, scale: float):
        self.atoms, self.inner, self.scale = inner.atoms, inner, abs(scale)
        self.image = inner.atoms.points + scale * inner.image
        self.matrices = np.eye(self.image.shape[1]) + scale * inner.matrices
        self.rounding, self.slack = inner.rounding, self.scale * (inner.slack + EPS)
        self.drift = self.scale * inner.drift + EPS * longest(self.image)
        self.at_atoms = spectral_norms(self.matrices) + 4 * self.slack

    @property
    def third(self) -> float:  # pyright: ignore
        return times(self.scale, self.inner.third)

    def bounds(self, t: Radii) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        slopes, curves = self.inner.bounds(t)
        curves = times(self.scale, curves)
        return np.fmin(1 + times(self.scale, slopes), self.at_atoms + times(t, curves)), curves

    def through(
        self, after: Float[Array, "n f e"], before: Float[Array, "n d c"]
    ) -> Float[Array, " n"]:
        return times(self.scale, self.inner.through(after, before))


class PointChain(PointModel):
    """One map of points after another."""

    third = math.inf  # inside another run, the product of the norms is what is left

    def __init__(self, models: list[PointModel], atoms: Atoms):
        self.atoms, self.models = atoms, models
        self.image = models[-1].image if models else atoms.points
        count, dim = atoms.points.shape
        unit = np.broadcast_to(np.eye(dim), (count, dim, dim))
        self.before, self.after = [unit], [np.eye(self.image.shape[1])[None].repeat(count, 0)]
        for model in models:
            self.before.append(model.matrices @ self.before[-1])
        for model in reversed(models):
            self.after.insert(0, self.after[0] @ model.matrices)
        self.matrices = self.before[-1]
        margins = Margins([*models])
        self.slack, self.drift, self.drifts = margins.slack, margins.drift, margins.drifts
        self.rounding = margins.rounding + 8 * EPS * (dim + 16) * len(models)

    @cached_property
    def norms(self) -> tuple[list[Float[Array, " n"]], list[Float[Array, " n"]]]:
        """Bounds on what comes before each map and after it, at the atoms."""
        count = len(self.models) + 1
        slack = [Margins([*self.models[:k]]).slack for k in range(count)]
        before = [spectral_norms(m) + 4 * s for m, s in zip(self.before, slack, strict=True)]
        slack = [Margins([*self.models[k:]]).slack for k in range(count)]
        after = [spectral_norms(m) + 4 * s for m, s in zip(self.after, slack, strict=True)]
        return before, after

    @cached_property
    def flat(self) -> list[Float[Array, " n"]]:
        """What each map knows of its second derivative between the others."""
        ends = zip(self.models, self.after[1:], self.before[:-1], strict=True)
        return [model.through(S, P) for model, S, P in ends]

    def bounds(self, t: Radii) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        t = np.broadcast_to(np.asarray(t, float), len(self.image))
        before, after = self.norms
        radii, slopes, curves, heads, bent_heads = self._forward(t, before)
        curve, tail, bent_tail = np.zeros_like(t), np.ones_like(t), np.zeros_like(t)
        for k in reversed(range(len(self.models))):
            term = times(times(tail, curves[k]), heads[k] ** 2)
            if np.all(np.isfinite(curves[k])):
                model, radius = self.models[k], radii[k]
                there = model.bounds(0.0)[1]
                ways = (
                    times(radii[k + 1], bent_tail) * curves[k] * heads[k] ** 2,
                    after[k + 1] * times(radius, model.third) * heads[k] ** 2,
                    after[k + 1] * there * times(t, bent_heads[k]) * (heads[k] + before[k]),
                )
                term = np.fmin(term, self.flat[k] + sum(ways))
            curve = curve + term
            bent_tail = times(tail, curves[k]) + times(bent_tail, slopes[k] ** 2)
            tail = np.fmin(times(tail, slopes[k]), after[k] + times(radii[k], bent_tail))
        return np.fmin(tail, after[0] + times(t, curve)), curve

    def _forward(self, t: Float[Array, " n"], before: list[Array]):
        """The radii around the bases of all maps, slopes and curves there, and the norms and the
        bends of what comes before."""
        radii, slopes, curves = [t], [], []
        heads, bent = [np.ones_like(t)], [np.zeros_like(t)]
        for k, model in enumerate(self.models):
            slope, curve = model.bounds(radii[k])
            slopes.append(slope)
            curves.append(curve)
            bent.append(times(curve, heads[k] ** 2) + times(slope, bent[k]))
            grown = before[k + 1] + times(t, bent[k + 1])
            heads.append(np.fmin(times(slope, heads[k]), grown))
            far = np.fmin(times(radii[k], slope), times(t, heads[k + 1]))
            radii.append(far * (1 + 64 * self.rounding) + 4 * self.drifts[k])
        return radii, slopes, curves, heads, bent
