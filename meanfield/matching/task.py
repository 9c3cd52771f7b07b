r"""What is solved: costs from a transform, a transform from moments, and the value of both.

Every problem of this folder is an instance of
$$\min_{M, \pi}\ w \left(- \langle M, \Gamma(\pi) \rangle + \tfrac{s}{2} \operatorname{tr} M
S(\pi) M^\top + R(M)\right) + \langle D, \pi \rangle + \text{marginals} + \varepsilon
\mathrm{KL}(\pi),$$
with $\Gamma = \int y x^\top d\pi$, $S = \int x x^\top d\pi$, and s = 1 for squared distances.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..transport.divergence import KullbackLeibler, Side
from .bilinear import BilinearPairs
from .known import Pinned
from .moments import Moments, largest
from .regularizer import Ridged, inner
from .sweeps import Entropic


# Gradient steps that find the transform of least squares for given moments, from the last one.
_STEPS = 200


class Data(eqx.Module):
    r"""The part of the cost that no transform changes, $D_{ij} = \alpha_i + \beta_j - \langle u_i,
    v_j \rangle + T_{ij}$; shapes (n, k), (m, k), (n,), (m,), (n, m) or None."""

    rows: Float[Array, "n k"]
    cols: Float[Array, "m k"]
    alpha: Float[Array, " n"]
    beta: Float[Array, " m"]
    table: Float[Array, "n m"] | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no second cost."""
        return self.table is None and not self.rows.shape[1]

    def entries(self, rows: Any, cols: Any) -> Float[Array, " k"]:
        """D at some pairs of atoms."""
        products = jnp.sum(self.rows[rows] * self.cols[cols], axis=1)
        bilinear = self.alpha[rows] + self.beta[cols] - products
        return bilinear if self.table is None else bilinear + self.table[rows, cols]

    def at(self, rows: Any, cols: Any) -> "Data":
        """The data of some atoms."""
        table = None if self.table is None else self.table[rows][:, cols]
        of_rows, of_cols = (
            [chosen(leaf, places) for leaf in leaves]
            for leaves, places in (((self.rows, self.alpha), rows), ((self.cols, self.beta), cols))
        )
        return Data(of_rows[0], of_cols[0], of_rows[1], of_cols[1], table)


class Task(eqx.Module):
    """A matching problem between the atoms of two measures.

    Attributes:
      x, y: the points, centred where the problem is, zero where an atom is absent.
      a, b: the weights that are left to match (shares, unless marginals are free).
      data: the fixed part of the cost.
      rho: the prices of mass that is not matched, infinite by default.
      regularizer: R with its ridge.
      squared: whether the cost is a squared distance.
      weight: the weight w of the part that depends on the transform.
      norms: the coefficient of a further fixed cost $-|x|^2 |y|^2$.
      pinned: the moments of pairs known beforehand.
      moments: the second moments of both measures.
      constant: what every coupling pays besides.
      signs: those of the coordinates of x and of y in $|x|^2 |y|^2$, all positive by default.
    """

    x: Float[Array, "n p"]
    y: Float[Array, "m q"]
    a: Float[Array, " n"]
    b: Float[Array, " m"]
    data: Data
    rho: tuple[float, float]
    regularizer: Ridged
    squared: bool = eqx.field(static=True)
    weight: float
    norms: float
    pinned: Pinned
    moments: Moments
    constant: float
    signs: tuple[Float[np.ndarray, " p"], Float[np.ndarray, " q"]] | None = None

    @property
    def epsilon_critical(self) -> float:
        r"""Above it the product coupling attracts: $w \lambda_{\max}(S_x) \lambda_{\max}(S_y) /
        (r + s \lambda_{\max}(S_x))$."""
        return self._critical(self.moments.x, self.moments.y)

    @property
    def epsilon_about_means(self) -> float:
        """The critical temperature of the same measures moved to mean zero: the same if they are.
        Far from the origin it is much lower, and a share of the other one is no low temperature."""
        means = [
            np.asarray(w / jnp.sum(w), np.float64) @ np.asarray(points, np.float64)
            for points, w in ((self.x, self.a), (self.y, self.b))
        ]
        x, y = (
            moment - np.outer(mean, mean)
            for moment, mean in zip((self.moments.x, self.moments.y), means, strict=True)
        )
        return self._critical(x, y)

    def _critical(self, x_moment: np.ndarray, y_moment: np.ndarray) -> float:
        x, y = largest(x_moment), largest(y_moment)
        return self.weight * x * y / (self.regularizer.ridge + self.squared * x)

    def transform_for(self, cross: Any, second: Any, last: Any, share: float) -> Any:
        """The best transform for the moments of a coupling (with squared distances: a better one
        than the last)."""
        cross, second = cross + self.pinned.cross, second + self.pinned.second
        if not self.squared:
            return self.regularizer.maximizer(cross, share)
        return _least_squares(self.regularizer, cross, second, last, share)

    def besides(self, transform: Any) -> Any:
        """What the objective holds besides the transport problem of the free masses: the
        regularizer, the known pairs and the constant."""
        value = self.weight * (
            self.regularizer.value(transform) - inner(transform, self.pinned.cross)
        )
        if self.squared:
            value = value + self.weight / 2 * inner(transform @ self.pinned.second, transform)
        return value + self.pinned_cost + self.constant

    @property
    def pinned_cost(self) -> float:
        """What the known pairs pay whatever the transform is."""
        rows, cols, masses = self.pinned[:3]
        if not len(rows):
            return 0.0
        x, y = (jnp.sum(points**2, axis=1) for points in (self.x[rows], self.y[cols]))
        costs = self.data.entries(rows, cols) - self.norms * x * y
        if self.squared:
            costs = costs + self.weight / 2 * y
        return float(masses @ np.asarray(costs, np.float64))

    def at(self, rows: Any, cols: Any) -> "Task":
        """The problem between samples of the atoms, with equal weights of the same sum."""
        return eqx.tree_at(
            lambda task: (task.x, task.y, task.a, task.b, task.data),
            self,
            (
                chosen(self.x, rows),
                chosen(self.y, cols),
                _even(self.a, len(rows)),
                _even(self.b, len(cols)),
                self.data.at(rows, cols),
            ),
        )

    def with_inner_products(self) -> "Task":
        """The same problem with inner products in place of squared distances, a ridge of 1, and
        both marginals fixed: with inner products a free mass would grow without bound."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = Ridged(self.regularizer.regularizer, 1.0)
        kept = (np.inf, np.inf)
        return Task(**{**fields, "regularizer": plain, "squared": False, "rho": kept})

    @property
    def sides(self) -> tuple[Side, Side]:
        first, second = (
            Side(KullbackLeibler(), jnp.asarray(rho, self.a.dtype)) for rho in self.rho
        )
        return first, second

    def entropic(self, pairs: BilinearPairs, epsilon: Any) -> Entropic:
        """The transport problem for given costs. Where both marginals are fixed it is between
        shares; `free_mass` scales what is found."""
        return Entropic(
            pairs, self.shares, self.sides, jnp.asarray(epsilon, self.a.dtype), (self.x, self.y)
        )

    @property
    def free_mass(self) -> float:
        """What the masses of a coupling of shares are to be multiplied by."""
        return float(np.sum(np.asarray(self.a, np.float64))) if self.balanced else 1.0

    @property
    def balanced(self) -> bool:
        return bool(np.isinf(self.rho).all())

    @property
    def shares(self) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        if not self.balanced:
            return self.a, self.b
        return self.a / jnp.sum(self.a), self.b / jnp.sum(self.b)


def chosen(array: Any, rows: Any) -> Any:
    """Some rows of an array, taken on the host where it is: for every other shape the device would
    compile."""
    if isinstance(array, jax.Array) and array.is_fully_addressable:
        return jax.device_put(np.asarray(array)[np.asarray(rows)])
    return array[np.asarray(rows)]


def _even(weights: Float[Array, " n"], size: int) -> Float[Array, " k"]:
    """So many equal weights of the same sum."""
    total = np.asarray(weights, np.float64).sum()
    return jax.device_put(np.full(size, total / size, weights.dtype))


@eqx.filter_jit
def pairs_of(task: Task, transforms: Float[Array, "s q p"]) -> BilinearPairs:
    """The costs of a batch of transforms; what is batched are the features of rows."""
    data = task.data
    fixed = jnp.broadcast_to(data.rows, (len(transforms), *data.rows.shape))
    u, alpha = jax.vmap(lambda transform: source_rows(task, transform, task.x))(transforms)
    v, beta = target_cols(task, task.y)
    return BilinearPairs(
        rows=(jnp.concatenate([u, fixed], axis=-1), alpha + data.alpha, data.table),
        cols=(jnp.concatenate([v, data.cols], axis=-1), beta + data.beta),
    )


def first_of(batch: BilinearPairs) -> BilinearPairs:
    """The costs of the first transform of a batch."""
    u, alpha, table = batch.rows
    return BilinearPairs(rows=(u[0], alpha[0], table), cols=batch.cols)


def source_rows(task: Task, transform: Float[Array, "q p"], x: Float[Array, "n p"]):
    """The features and offsets of points of the first space, data left out."""
    images = jnp.matmul(x, transform.T, precision=jax.lax.Precision.HIGHEST)
    norms = task.norms * _squared_norms(task, x, 0)[:, None]
    # images of products may have squares out of range: they are formed where they are asked for
    offset = (
        task.weight / 2 * jnp.sum(images**2, axis=1) if task.squared else jnp.zeros_like(x[:, 0])
    )
    return jnp.concatenate([task.weight * images, norms], axis=1), offset


def target_cols(task: Task, y: Float[Array, "m q"]):
    """The features and offsets of points of the second space, data left out."""
    norms = _squared_norms(task, y, 1)
    return jnp.concatenate([y, norms[:, None]], axis=1), task.squared * task.weight / 2 * norms


def _squared_norms(task: Task, points: Float[Array, "n d"], side: int) -> Float[Array, " n"]:
    squares = points**2
    if task.signs is not None:
        squares = squares * jnp.asarray(task.signs[side], points.dtype)
    return jnp.sum(squares, axis=1)


def _least_squares(regularizer: Ridged, cross: Any, second: Any, last: Any, share: float) -> Any:
    r"""Accelerated proximal gradient steps on $\frac12 \operatorname{tr} M S M^\top - \langle M,
    \Gamma \rangle + s R(M) + \frac{r}{2} |M|^2$, each from where the momentum points."""
    curvature = np.linalg.eigvalsh(second)[..., -1:, None]
    step = 1 / (curvature + regularizer.ridge)
    now = ahead = last
    for k in range(_STEPS):
        slope = ahead @ second - cross + regularizer.ridge * ahead
        new = regularizer.regularizer.proximal(ahead - step * slope, step * share)
        if np.abs(new - now).max() <= 1e-12 * np.abs(new).max():
            return new
        ahead, now = new + k / (k + 3) * (new - now), new
    return now
