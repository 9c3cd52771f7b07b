"""The arguments of a certificate, checked."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from meanfield.attention import AnyMeasure
from meanfield.measure import ConditionalMeasure, check_any_measure

from .head import Atoms


def checked_radius(radius) -> float:
    size = float(radius)
    if not (size >= 0 and math.isfinite(size)):
        raise ValueError(f"`radius` must be nonnegative and finite; got {radius}.")
    return size


def checked_exponent(p) -> float:
    if p not in (1, 2, math.inf):
        raise ValueError(f"`p` must be 1, 2 or jnp.inf for a certificate; got {p}.")
    return float(p)


def least_part(
    atoms: Atoms, order: float | int, splitting: bool, least_mass: float | None
) -> float:
    """The least mass of a part of an atom; one where it does not matter."""
    if order == math.inf:
        return 1.0
    if not order >= 1:
        raise ValueError(f"`order` must be at least 1; got {order}.")
    lightest = float(atoms.masses.min())
    least = least_mass if splitting else lightest
    if least is None:
        raise ValueError(
            "`least_mass` must say how small the parts of atoms may be, because in a W_q ball with "
            "q < inf a vanishing mass travels without limit. Give it, or splitting=False, or use "
            "lipschitz_bound on a domain."
        )
    if not 0 < least <= lightest * (1 + 1e-6):
        raise ValueError(
            f"`least_mass` must be positive and at most that of the lightest atom, {lightest:.6g}; "
            f"got {least}."
        )
    return min(least, lightest)


def checked_atoms(mu: AnyMeasure) -> Atoms:
    check_any_measure(mu=mu)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(mu)):
        raise TypeError(
            "a certificate is computed on the host, in float64, and cannot be traced. Call it "
            "outside `jax.jit`, `jax.vmap` and `jax.grad`, for one measure at a time."
        )
    if mu.masses.ndim != jnp.ndim(mu.atoms.weights) + isinstance(mu, ConditionalMeasure):
        raise ValueError("`mu` must be one measure, not a batch.")
    atoms = Atoms.of(mu)
    if not len(atoms.points):
        raise ValueError("`mu` must have an atom with mass; got none.")
    if not np.all(np.isfinite(atoms.points)):
        raise ValueError("`mu` must have finite points; got NaN or infinity in an atom with mass.")
    return atoms
