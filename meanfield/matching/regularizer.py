r"""What a transform is asked to be: a function R of matrices, with its proximal map and conjugate.

Every method takes arrays of NumPy or JAX with any leading batch axes; the last two are those of a
matrix M of shape (q, p), which takes points of $\mathbb{R}^p$ to $\mathbb{R}^q$.
"""

import abc
from typing import Any

import equinox as eqx
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Float

from .moments import Moments


Matrix = Float[np.ndarray, "*batch q p"] | Float[Array, "*batch q p"]
Values = Float[np.ndarray, "*batch"] | Float[Array, "*batch"] | np.floating | float
# How far a matrix may be from a constraint, as a share of its size, and still count as inside.
SLACK = 1e-5


class AbstractRegularizer(eqx.Module):
    """A function R of matrices, convex unless its class says otherwise."""

    @abc.abstractmethod
    def value(self, transform: Matrix) -> Values:
        """R(M); infinite where a constraint is broken."""

    @abc.abstractmethod
    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        r"""$\arg\min_M \frac{1}{2t} |M - G|_F^2 + R(M)$ at the matrix G, with the step t."""

    @abc.abstractmethod
    def conjugate(self, moment: Matrix) -> Values:
        r"""$R^*(G) = \sup_M \langle M, G \rangle - R(M)$; infinite where it is unbounded."""

    def absolute(self, moments: Moments) -> "AbstractRegularizer":
        """The same with its strength in units of the cross-moments of two measures."""
        return self


class Ridged(eqx.Module):
    r"""$R(M) + \frac{r}{2} |M|_F^2$, the regularizer that a problem with inner products minimises.

    The quadratic term belongs to the model: with inner products, a norm alone gives the value zero
    or minus infinity.

    Args:
      regularizer: R.
      ridge: r, positive for `conjugate` and `maximizer`.
    """

    regularizer: AbstractRegularizer
    ridge: float

    def value(self, transform: Matrix) -> Values:
        return self.regularizer.value(transform) + self.ridge / 2 * inner(transform, transform)

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        shrunk = 1 + step * self.ridge
        return self.regularizer.proximal(transform / shrunk, step / shrunk)

    def maximizer(self, moment: Matrix, share: float = 1.0) -> Matrix:
        r"""$\arg\max_M \langle M, G \rangle - s R(M) - \frac{r}{2} |M|_F^2$, the gradient of the
        conjugate for s = 1; a smaller share s of R serves the first, hot iterations."""
        return self.regularizer.proximal(moment / self.ridge, share / self.ridge)

    def conjugate(self, moment: Matrix) -> Values:
        best = self.maximizer(moment)
        return inner(best, moment) - self.value(best)


class Foreign(AbstractRegularizer):
    """A regularizer of vectors from elsewhere, of the entries of M: `f(v)` and `f.prox(v, tau)`.

    It is called matrix by matrix on the host and does not trace. A step of zero, in the hot
    iterations, is not passed on: some divide by it.
    """

    vector: Any = eqx.field(static=True)

    def value(self, transform: Matrix) -> Values:
        return _by_matrix(lambda entries: self.vector(entries), transform)

    def proximal(self, transform: Matrix, step: Any = 1.0) -> Matrix:
        if not step:
            return transform
        return _by_matrix(lambda entries: self.vector.prox(entries, step), transform, keep=True)

    def conjugate(self, moment: Matrix) -> Values:
        raise NotImplementedError(
            f"`{type(self.vector).__name__}` does not tell its conjugate. Use the regularizers of "
            "`meanfield.matching`, or `Ridged(regularizer, ridge).conjugate`."
        )


def _by_matrix(function: Any, transform: Matrix, keep: bool = False) -> Any:
    if isinstance(transform, Tracer):
        raise TypeError(
            "A regularizer of another library is called on the host and cannot be traced. Call it "
            "outside `jax.jit`, `jax.vmap` and `jax.grad`, or use one of `meanfield.matching`."
        )
    flat = transform.reshape(-1, transform.shape[-2] * transform.shape[-1])
    found = np.stack([np.asarray(function(entries), np.float64) for entries in flat])
    return found.reshape(transform.shape if keep else transform.shape[:-2])


def as_regularizer(regularizer: Any) -> AbstractRegularizer:
    """A regularizer of ours, or one of vectors with `__call__` and `prox(v, tau)`, as OTT's are."""
    if isinstance(regularizer, AbstractRegularizer):
        return regularizer
    if callable(regularizer) and hasattr(regularizer, "prox"):
        return Foreign(regularizer)
    raise ValueError(
        "`regularizer` must be one of `meanfield.matching` (L1(0.1), Rank(3), ...) or an object "
        f"with `__call__(v)` and `prox(v, tau)`; got {regularizer!r:.80}."
    )


def inner(first: Matrix, second: Matrix) -> Values:
    """The inner products of matrices, over their last two axes."""
    return (first * second).sum(axis=(-2, -1))


def indicator(inside: Any) -> Any:
    """Zero where a constraint holds, infinite elsewhere."""
    return np.where(np.asarray(inside), 0.0, np.inf)


def strength_of(name: str, value: Any) -> float:
    number = float(value)
    if not 0 <= number < np.inf:
        raise ValueError(f"`{name}` must be a nonnegative number; got {value}.")
    return number
