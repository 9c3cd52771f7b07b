r"""Laws found from gradients alone: quadratic functions that stay constant whatever the data.

A function $h = \sum_a c_a m_a$ of monomials is conserved iff $\sum_a c_a \langle \nabla m_a, v
\rangle = 0$ for the velocity v at every state, for all data. Random states and data make rows of
a linear system; its null space is the laws. No formula of the network is needed.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from meanfield.measure import RESULTS

from .dynamics import AbstractDynamics, GradientDynamics


# A singular value below this share of the largest belongs to a law, where a gap sets it apart.
_NULL, _GAP = 1e-10, 1e3
_MOST_STATES = 100


class QuadraticLaws(eqx.Module):
    r"""Laws $h_l(z) = e^{ct} (z^T S_l z + \langle b_l, z \rangle)$ of a state z.

    Attributes:
      matrices: the symmetric S_l, shape (laws, n, n).
      vectors: the b_l, shape (laws, n); (S_l, b_l) are orthonormal.
      rate: c.
      independent: how many of them are independent as functions, at a random state: the product
        of two linear laws is a quadratic one and says nothing new.
      singular_values: of the system, the largest being 1, in decreasing order.
      gap: the least of those that are no laws over the largest of those that are (or over the
        rounding unit where there are no laws).
      result: `RESULTS.no_clear_gap` if the gap is below 1000.
    """

    matrices: Float[np.ndarray, "laws n n"]
    vectors: Float[np.ndarray, "laws n"]
    rate: float
    independent: int
    singular_values: Float[np.ndarray, " monomials"]
    gap: float
    result: RESULTS

    def __repr__(self) -> str:
        return f"QuadraticLaws({self.count}, {self.independent} independent, gap {self.gap:.1e})"

    @property
    def count(self) -> int:
        """The dimension of the space of laws."""
        return len(self.matrices)

    def evaluate(self, state: PyTree[Array], time: float | Float[Array, ""] = 0.0) -> Array:
        """The values of all laws, shape (laws,), at parameters (with momentum: at a pair of
        parameters and their velocities) and a time."""
        z = _flat(state)
        quadratic = jnp.einsum("lij,i,j->l", self.matrices, z, z)
        return jnp.exp(self.rate * time) * (quadratic + self.vectors @ z)

    def distance(self, laws: Callable[[Any], PyTree[Array]], state: PyTree[Array]) -> float:
        """The largest sine of the angle between a quadratic function of the state, any entry of
        what `laws` returns, and the space of laws; 0 if all are laws. `state` tells the shapes."""
        with jax.enable_x64(True):
            flat, unravel = _ravel(state)

            def values(z):
                return _flat(laws(unravel(z)))

            S = np.asarray(jax.jit(jax.hessian(values))(0 * flat)) / 2
            b = np.asarray(jax.jit(jax.jacobian(values))(0 * flat))
        joined = np.concatenate([S.reshape(len(S), -1), b], axis=1)
        basis = np.concatenate([self.matrices.reshape(self.count, -1), self.vectors], axis=1)
        rest = joined - (joined @ basis.T) @ basis
        size = np.maximum(np.linalg.norm(joined, axis=1), 1e-300)
        return float(np.max(np.linalg.norm(rest, axis=1) / size, initial=0.0))


def find_quadratic_laws(
    loss: Callable[[Any, Any], Array],
    params: PyTree[Array],
    data: Callable[[PRNGKeyArray], Any],
    dynamics: AbstractDynamics = GradientDynamics(),
    *,
    key: PRNGKeyArray,
    degrees: tuple[int, ...] = (1, 2),
    samples: int | None = None,
    throw: bool = True,
) -> QuadraticLaws:
    r"""All quadratic laws of a training dynamics, from gradients of the loss at random states.

    Works for any differentiable network, polynomial or not, and needs no formula for it. Found is
    what is constant for all data that `data` draws: data that span too little leave more constant.
    That nothing else is constant holds with probability one; that what is found is constant is
    numerical evidence, as strong as the gap, not a proof. Gradients and the null space are computed
    in float64. There are about D^2/2 monomials of D parameters and the time grows with D^6: 60
    parameters take seconds. (For polynomial networks `count_laws` is exact.)

    Args:
      loss: from parameters and one batch to a number.
      params: tells the shapes; the states are drawn by the dynamics.
      data: from a key to a batch.
      dynamics: `GradientDynamics`, `MomentumDynamics` or `MirrorDynamics`.
      degrees: (1, 2), or one of them.
      samples: how many rows; a quarter more than monomials by default.
      throw: whether to raise if there is no clear gap.

    Raises:
      ValueError: too many parameters, degrees other than 1 and 2, a gradient that is not finite.
      RuntimeError: there is no clear gap (with `throw`).

    References: {cite}`marcotte2023`.
    """
    if not degrees or not set(degrees) <= {1, 2}:
        raise ValueError(f"`degrees` must be (1,), (2,) or (1, 2); got {degrees}.")
    with jax.enable_x64(True):
        flat, unravel = _ravel(params)
        size = jax.eval_shape(lambda k: dynamics.draw(flat.size, k), key).shape[0]
        if size > _MOST_STATES:
            raise ValueError(
                f"`params` must have at most {_MOST_STATES} numbers (velocities included) for all "
                f"quadratic laws to be looked for; got {size}. Take a small layer of the kind, and "
                "check the laws found there by `law_terms` on the real one."
            )
        monomials = _Monomials(size, degrees)
        rows = samples or monomials.count * 5 // 4 + 20
        keys = jr.split(key, rows + 1)
        states, velocities = map(
            np.asarray, _motions(loss, unravel, data, dynamics, flat.size, keys[1:])
        )
        probe = np.asarray(dynamics.draw(flat.size, keys[0]))
    if not np.all(np.isfinite(velocities)):
        raise ValueError("`loss` must have finite gradients at the states drawn; got NaN or inf.")
    laws = _null_space(
        monomials, monomials.rows(states, velocities, dynamics.rate), probe, dynamics
    )
    if throw:
        laws.result.error_if(np.asarray(laws.gap), laws.result != RESULTS.successful)
    return laws


def _motions(loss, unravel, data, dynamics, size, keys) -> tuple[Array, Array]:
    """States and their velocities, one of each for every key."""

    @jax.jit
    @jax.vmap
    def motion(key):
        state_key, data_key = jr.split(key)
        state, batch = dynamics.draw(size, state_key), data(data_key)
        gradient = jax.grad(lambda flat: loss(unravel(flat), batch))(state[:size])
        return state, dynamics.velocity(state, gradient)

    return motion(keys)


class _Monomials:
    r"""The monomials $z_i^2$, $\sqrt 2\, z_i z_j$ and $z_i$: an orthonormal basis of (S, b)."""

    def __init__(self, size: int, degrees: tuple[int, ...]):
        self.size, self.linear = size, size if 1 in degrees else 0
        self.i, self.j = np.triu_indices(size) if 2 in degrees else (np.zeros(0, int),) * 2
        self.weight = np.where(self.i == self.j, 1.0, np.sqrt(2))
        self.count = len(self.i) + self.linear

    def rows(
        self, z: np.ndarray, v: np.ndarray, rate: float
    ) -> Float[np.ndarray, "rows monomials"]:
        """The rates of change of all monomials times e^{ct}, each row of length one."""
        i, j = self.i, self.j
        quadratic = self.weight * (v[:, i] * z[:, j] + z[:, i] * v[:, j] + rate * z[:, i] * z[:, j])
        system = np.concatenate([quadratic, (v + rate * z)[:, : self.linear]], axis=1)
        length = np.linalg.norm(system, axis=1, keepdims=True)
        return system / np.where(length > 0, length, 1)

    def law(self, c: Float[np.ndarray, " monomials"]) -> tuple[np.ndarray, np.ndarray]:
        S, b = np.zeros((self.size, self.size)), np.zeros(self.size)
        quadratic = c[: len(self.i)] * self.weight / 2
        np.add.at(S, (self.i, self.j), quadratic)
        np.add.at(S, (self.j, self.i), quadratic)
        b[: self.linear] = c[len(self.i) :]
        return S, b


def _null_space(monomials: _Monomials, system, probe, dynamics) -> QuadraticLaws:
    _, s, basis = np.linalg.svd(np.linalg.qr(system, mode="r"))
    s = s / s[0] if s[0] > 0 else s
    count = int(np.sum(s <= _NULL))
    unit = float(np.finfo(np.float64).eps)
    above = s[-count - 1] if count < len(s) else 1.0
    gap = float(above / max(s[-count] if count else unit, unit))
    laws = [monomials.law(c) for c in basis[len(s) - count :]]
    matrices = np.array([S for S, _ in laws]).reshape(-1, monomials.size, monomials.size)
    vectors = np.array([b for _, b in laws]).reshape(-1, monomials.size)
    slopes = np.linalg.svd(2 * matrices @ probe + vectors, compute_uv=False)
    return QuadraticLaws(
        matrices=matrices,
        vectors=vectors,
        rate=dynamics.rate,
        independent=int(np.sum(slopes > 1e-8 * slopes.max(initial=0.0))),
        singular_values=s,
        gap=gap,
        result=RESULTS.successful if gap >= _GAP else RESULTS.no_clear_gap,
    )


def _ravel(tree: PyTree[Array]) -> tuple[Array, Callable[[Array], Any]]:
    """Float leaves in float64 as one vector, and back; what is no float array stays."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), arrays)
    flat, unravel = jax.flatten_util.ravel_pytree(wide)
    return flat, lambda z: eqx.combine(unravel(z), rest)


def _flat(tree: PyTree[Array]) -> Array:
    return jax.flatten_util.ravel_pytree(eqx.filter(tree, eqx.is_inexact_array))[0]
