"""Local constants from whole matrices: automatic differentiation, then numpy's decomposition."""

import equinox as eqx
import jax
import numpy as np


def dense_matrices(f, mu):
    """J of shape (n, e, n, d), by differentiating the pushforward, and its query part alone.

    Backwards: forwards, XLA of jaxlib 0.10.2 makes wrong numbers of a batch of norms in float32.
    """
    n, d = mu.masses.size, mu.points.shape[-1]
    whole = jax.jacrev(lambda x: f(mu.with_points(x)).points)(mu.points)
    query = jax.jacrev(lambda x: f.at(mu, x))(mu.points)
    return whole.reshape(n, -1, n, d), query.reshape(n, -1, n, d)


def exact_constants(J, query, masses):
    """||M^{1/2} J M^{-1/2}|| and max_i ||D_i|| over the atoms with mass."""
    masses = np.asarray(masses).ravel()
    seen = np.flatnonzero(masses)
    root = np.sqrt(masses[seen])
    J = np.asarray(J)[np.ix_(seen, range(J.shape[1]), seen, range(J.shape[3]))]
    J = J * root[:, None, None, None] / root[None, None, :, None]
    smooth = np.linalg.norm(J.reshape(J.shape[0] * J.shape[1], -1), 2)
    return smooth, max(np.linalg.norm(np.asarray(query)[i, :, i], 2) for i in seen)


def dense_constants_of(f, mu):
    """The smooth and the split constant of f at mu."""
    return exact_constants(*eqx.filter_jit(dense_matrices)(f, mu), mu.masses)
