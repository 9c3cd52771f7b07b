"""Oracles: Jacobians of maps of atoms by JAX, and their norms in L^p of the masses by NumPy."""

import jax
import numpy as np
from random_maps import DIM


def jacobians(f, mu):
    """The Jacobians of the map of atoms at many points, (m, N, e, N, d), and the masses."""
    masses = np.asarray(mu.atoms.weights)

    def outputs(points):
        return f(mu.with_points(points)).atoms.points

    batched = jax.jit(jax.vmap(jax.jacfwd(outputs)))

    def at(points):
        J = np.asarray(batched(points))
        return J.reshape(J.shape[0], len(masses), -1, len(masses), DIM)

    return at, masses


def norm(J, masses, p):
    """The operator norm in L^p(mu) for p = 2; a lower bound on it, by blocks, for 1 and inf."""
    ratio = (masses[:, None] / masses)[:, None, :, None]
    n, e, _, d = J.shape
    if p == 2:
        return np.linalg.norm((np.sqrt(ratio) * J).reshape(n * e, n * d), 2)
    if p == 1:  # move one atom along the best direction of the sum of its columns
        columns = np.moveaxis(ratio * J, 2, 0).reshape(n, n * e, d)
        best = np.linalg.svd(columns)[2][:, 0]
        moved = np.einsum("jad,jd->ja", columns, best).reshape(n, n, e)
        return np.linalg.norm(moved, axis=2).sum(1).max()
    best = np.linalg.svd(J.reshape(n, e, n * d))[0][:, :, 0]
    return np.linalg.norm(np.einsum("iejd,ie->ijd", J, best), axis=2).sum(1).max()
