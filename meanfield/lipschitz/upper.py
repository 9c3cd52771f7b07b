r"""An upper bound on the local Lipschitz constant at a measure (docs: theory/regularity).

For attention, J = D + N with D_i the local part of atom i and N what reaches it through the
context, so ||J|| <= max_i ||D_i|| + ||N||. The norms of small matrices are bounded by traces of
powers (see `powers`), the parts of all heads are put together by the overlaps of their outputs,
and everything is computed in float64, with an allowance for its rounding (see `rounding`).
"""

from functools import singledispatch

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.attention import (
    AbstractAttention,
    AbstractInContextMap,
    AbstractPointMap,
    AnyMeasure,
    CausalAttention,
    Composition,
    Residual,
    check_dim,
    is_softmax,
)
from meanfield.attention.attending import AbstractMask, Attending
from meanfield.measure import Measure

from .double import in_double
from .factors import Factors, factors
from .outputs import Outputs
from .powers import operator_norm, orthonormal_columns
from .rounding import Rounding, of_norm
from .rows import HeadScene, head_norms


# Beyond these sizes no bound is computed: entries of the shares, and of all covariances of a head.
_SHARES = 5 * 10**7
_COVARIANCES = 10**8


@eqx.filter_jit
def upper_at(f: AbstractInContextMap, mu: AnyMeasure) -> Float[Array, ""]:
    """An upper bound on max(||J||, max_i ||D_i||) at mu; inf where no rule is known.

    It is computed in float64 whatever the dtype of the arguments and rounded upwards. What its
    allowance for rounding covers, and what not, stands in docs: theory/regularity, "Rounding".
    """
    check_dim(f, mu)
    return in_double(upper_rule, f, _without_absent(mu))


@singledispatch
def upper_rule(f: AbstractInContextMap, mu: AnyMeasure) -> Float[Array, ""]:
    """The bound of `upper_at` for float64 arrays; a new kind of map registers its rule."""
    return jnp.asarray(jnp.inf, mu.points.dtype)


@upper_rule.register
def _(f: AbstractPointMap, mu: AnyMeasure) -> Float[Array, ""]:
    x = mu.atoms.points
    if x.shape[0] * x.shape[1] ** 2 > _COVARIANCES:
        return jnp.asarray(jnp.inf, x.dtype)
    slopes = jax.vmap(jax.jacfwd(f.point))(x)
    norms = operator_norm(slopes) * (1 + of_norm(slopes))
    return jnp.max(norms, where=mu.atoms.present, initial=0)


@upper_rule.register
def _(f: Residual, mu: AnyMeasure) -> Float[Array, ""]:
    return 1 + jnp.abs(f.scale) * upper_rule(f.f, mu)


@upper_rule.register
def _(f: Composition, mu: AnyMeasure) -> Float[Array, ""]:
    bound = jnp.ones((), mu.points.dtype)
    for g in f.maps:
        bound, mu = bound * upper_rule(g, mu), g(mu)
    return bound


@upper_rule.register
def _(f: CausalAttention, mu: AnyMeasure) -> Float[Array, ""]:
    return _attention_bound(f.attention, mu, f.mask)


@upper_rule.register
def _(f: AbstractAttention, mu: AnyMeasure) -> Float[Array, ""]:
    return _attention_bound(f, mu, None)


def has_upper_rule(f: AbstractInContextMap) -> bool:
    """Whether `upper_at` is more than infinite: choices other than the softmax have no rule."""
    if isinstance(f, Residual):
        return has_upper_rule(f.f)
    if isinstance(f, Composition):
        return all(map(has_upper_rule, f.maps))
    f = f.attention if isinstance(f, CausalAttention) else f
    return not isinstance(f, AbstractAttention) or is_softmax(f.choice)


def _attention_bound(f: AbstractAttention, mu: AnyMeasure, mask: AbstractMask | None) -> Array:
    atoms = mu.atoms
    parts = factors(f, atoms, mu.positions)
    seen = f.attending(mu, mu.points, mask)
    if parts is None or not is_softmax(f.choice) or _too_large(seen):
        return jnp.asarray(jnp.inf, atoms.points.dtype)
    outputs = Outputs.of(parts.output, parts.value.shape[0])
    scene = _scene(seen, parts, outputs)
    steady = parts.steady and seen.soft_cap is None
    local, rows = jax.lax.map(lambda head: head_norms(head, steady), scene)
    rounding = jax.lax.stop_gradient(Rounding.of_attention(seen, parts, atoms))
    local, rows = local + rounding.local[:, None], rows + rounding.row[:, None]
    moved = jnp.max(outputs.norm(local), where=atoms.present, initial=0)
    return (moved + _context(scene.shares, rows, outputs, atoms)) * (1 + rounding.relative)


def _too_large(seen: Attending) -> bool:
    heads, m, n = seen.shape
    dims = seen.values.shape[-1] * max(seen.keys.shape[-1], seen.values.shape[-1])
    return heads * m * n > _SHARES or n * dims > _COVARIANCES


def _scene(seen: Attending, parts: Factors, outputs: Outputs) -> HeadScene:
    """What all heads see, their projections taken into keys and values."""
    query = parts.query
    if query.shape[1] < query.shape[2]:  # |W Q| = |W R^T| where Q^T = Z R
        query = orthonormal_columns(query.swapaxes(1, 2))[1].swapaxes(1, 2)
    twist = None if parts.twist is None else parts.twist @ query[:, None]
    value = outputs.apply(parts.value.swapaxes(1, 2))
    return HeadScene(
        shares=seen.weights(),
        slopes=None if seen.soft_cap is None else _slopes(seen),
        reach=parts.reach,
        keys=seen.keys @ query if twist is None else seen.keys,
        values=outputs.apply(seen.values),
        twist=twist,
        direct=value.swapaxes(1, 2) @ value,
    )


def _slopes(seen: Attending) -> Float[Array, "H n n"]:
    return jax.lax.map(
        lambda qk: 1 - jnp.tanh(qk[0] @ qk[1].T / seen.soft_cap) ** 2, (seen.queries, seen.keys)
    )


def _context(
    shares: Float[Array, "H n n"], rows: Float[Array, "H n"], outputs: Outputs, atoms: Measure
) -> Float[Array, ""]:
    """A bound on ||N|| from the norms of its rows."""
    crossed = _columns(shares, rows * (outputs.overlaps @ rows), atoms)
    return jnp.minimum(crossed, outputs.whole * _columns(shares, rows**2, atoms))


def _columns(shares: Array, squares: Float[Array, "H n"], atoms: Measure) -> Float[Array, ""]:
    """sqrt( max_j sum_i (w_i / w_j) sum_h squares_ih P^h_ij )."""
    safe = jnp.where(atoms.present, atoms.weights, 1)
    columns = jnp.einsum("hi,hij->j", atoms.weights * squares, shares) / safe
    return jnp.sqrt(jnp.max(columns, where=atoms.present, initial=0))


def _without_absent(mu: AnyMeasure) -> AnyMeasure:
    """mu with zeros where an atom has no mass: NaN times a zero share would be NaN."""
    return mu.with_points(jnp.where((mu.masses > 0)[..., None], mu.points, 0))
