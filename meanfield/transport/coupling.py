"""Couplings: how the mass of one measure is carried to another."""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class AbstractCoupling(eqx.Module):
    r"""A measure $\pi$ on pairs of atoms, $\pi = \sum_{ij} P_{ij} \delta_{(x_i, y_j)}$.

    Kept in whatever form it was found in. `matrix` writes P out; nothing else needs its n m
    numbers. One coupling at a time: for a batch use `jax.vmap`.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int]:
        """The sizes (n, m) of the two measures."""

    @property
    @abc.abstractmethod
    def matrix(self) -> Float[Array, "n m"]:
        """The matrix P."""

    @property
    @abc.abstractmethod
    def transpose(self) -> "AbstractCoupling":
        """The same coupling read from nu to mu."""

    @abc.abstractmethod
    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        r"""The product P v: $\sum_j P_{ij} v_j$ for each atom i of mu."""

    @property
    def marginals(self) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        """The sums of P over columns and over rows: what leaves each atom, and what arrives."""
        return _mass_sent(self), _mass_sent(self.transpose)

    @property
    def mass(self) -> Float[Array, ""]:
        """All the mass that moves."""
        return jnp.sum(_mass_sent(self))

    def barycentric(self, points: Float[Array, "m d"]) -> Float[Array, "n d"]:
        r"""The barycentric map: $T(x_i) = \sum_j P_{ij} y_j / \sum_j P_{ij}$.

        `points` are the atoms y of nu (or any values at them). Atoms that send nothing get zero.
        """
        sent = _mass_sent(self)[:, None]
        received = _mass_sent(self.transpose)[:, None] > 0
        sums = self.apply(jnp.where(received, points, 0.0))
        return jnp.where(sent > 0, sums / jnp.where(sent > 0, sent, 1.0), 0.0)

    def support(
        self, threshold: float = 0.0
    ) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """The rows, columns and masses of the entries above `threshold`, on the host."""
        matrix = np.asarray(self.matrix)
        rows, cols = np.nonzero(matrix > threshold)
        return rows, cols, matrix[rows, cols]


def _mass_sent(coupling: AbstractCoupling) -> Float[Array, " n"]:
    return coupling.apply(jnp.ones(coupling.shape[1], jnp.float32))  # takes the coupling's dtype


class SparseCoupling(AbstractCoupling):
    r"""A coupling by its entries, $\sum_k m_k \delta_{(x_{r_k}, y_{c_k})}$.

    Attributes:
      rows, cols: shape (K,), the atom of mu and of nu of each entry.
      masses: shape (K,), its mass; an entry of zero mass is padding.
      sizes: the sizes (n, m) of the two measures.
    """

    rows: Int[Array, "*batch K"]
    cols: Int[Array, "*batch K"]
    masses: Float[Array, "*batch K"]
    sizes: tuple[int, int] = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        return self.sizes

    @property
    def matrix(self) -> Float[Array, "n m"]:
        empty = jnp.zeros(self.sizes, self.masses.dtype)
        return empty.at[self.rows, self.cols].add(self.masses)

    @property
    def transpose(self) -> "SparseCoupling":
        return SparseCoupling(self.cols, self.rows, self.masses, (self.sizes[1], self.sizes[0]))

    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        masses = self.masses.reshape(-1, *[1] * (values.ndim - 1))
        carried = jnp.where(masses > 0, masses * values[self.cols], 0.0)
        empty = jnp.zeros((self.sizes[0], *values.shape[1:]), carried.dtype)
        return empty.at[self.rows].add(carried)


class DenseCoupling(AbstractCoupling):
    """A coupling by its matrix."""

    values: Float[Array, "*batch n m"]

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[-2], self.values.shape[-1]

    @property
    def matrix(self) -> Float[Array, "n m"]:
        return self.values

    @property
    def transpose(self) -> "DenseCoupling":
        return DenseCoupling(jnp.swapaxes(self.values, -1, -2))

    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        return jnp.tensordot(self.values, values, axes=1)
