"""Oracles: exact local constants from dense Jacobians (derivatives by JAX, norms by NumPy)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def head(A, V, a, x, y, weights, visible=None):
    """Attention of queries x to weighted atoms y, from its definition."""
    likes = weights * jnp.exp((x @ A.T + a) @ y.T)
    likes = likes if visible is None else likes * visible
    return likes @ (y @ V.T) / likes.sum(axis=-1, keepdims=True)


def blocks(at, y):
    """Derivatives of at(queries, atoms) -> outputs, where atom i is also query i.

    Returns:
      (n, n, e, d), those of the output i along the atom j, the query channel left out; and
      (n, e, d), those of the output i along its query.
    """
    n, d = y.shape
    context = jax.jacfwd(lambda atoms: at(y, atoms))(y)
    query = jax.jacfwd(lambda x: at(x, y))(y)
    return jnp.moveaxis(context, 2, 1), query[jnp.arange(n), :, jnp.arange(n), :].reshape(n, -1, d)


@eqx.filter_jit
def blocks_of(fs, mus):
    """The blocks of stacked maps of the library at stacked measures."""

    def one(f, mu):
        shape = mu.points.shape

        def at(x, y):
            out = f.at(mu.with_points(y.reshape(shape)), x.reshape(shape))
            return out.reshape(-1, out.shape[-1])

        return blocks(at, mu.points.reshape(-1, shape[-1]))

    return eqx.filter_vmap(one)(fs, mus)


def constants(B, D, weights):
    """The exact local constants in W_1, W_2 and W_infinity, splits of atoms allowed.

    For p = 1 and infinity the supremum over directions is a maximum over many of them, hence
    not above the exact constant.

    Args:
      B, D: shapes (draws, n, n, e, d) and (draws, n, e, d), from `blocks`.
      weights: shape (draws, n), positive.

    Returns:
      shape (draws, 3).
    """
    B, D, weights = np.asarray(B), np.asarray(D), np.asarray(weights)
    draws, n, _, e, d = B.shape
    whole = B.copy()
    whole[:, np.arange(n), np.arange(n)] += D
    relative = weights[:, :, None] / weights[:, None, :]
    scaled = np.moveaxis(whole * np.sqrt(relative)[..., None, None], 3, 2)
    smooth = np.linalg.norm(scaled.reshape(draws, n * e, n * d), 2, axis=(1, 2))
    split = np.linalg.norm(D, 2, axis=(-2, -1)).max(axis=1)
    u, v = directions(d), directions(e)
    moved = relative[..., None] * np.linalg.norm(B @ u.T, axis=-2)
    first = np.linalg.norm(D @ u.T, axis=-2) + moved.sum(axis=1)
    pulled = np.linalg.norm(np.swapaxes(B, -1, -2) @ v.T, axis=-2)
    last = np.linalg.norm(np.swapaxes(D, -1, -2) @ v.T, axis=-2) + pulled.sum(axis=2)
    return np.stack([first.max((1, 2)), np.maximum(smooth, split), last.max((1, 2))], axis=1)


def directions(d):
    """Unit vectors all around."""
    u = np.random.default_rng(0).normal(size=(48, d))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


def pick(tree, index):
    """One of a stack of maps or measures."""
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, tree)
