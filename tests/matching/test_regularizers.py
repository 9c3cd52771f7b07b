"""Each regularizer against the definitions of its proximal map and its conjugate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from meanfield.matching import (
    L1,
    ColumnGroups,
    ElasticNet,
    Nonnegative,
    Nuclear,
    Orthogonal,
    Rank,
    Ridge,
    Ridged,
    RowGroups,
    Support,
)
from meanfield.matching.moments import Moments
from meanfield.matching.regularizer import as_regularizer, inner


MASK = np.arange(20).reshape(4, 5) % 3 == 0
CONVEX = {
    "ridge": Ridge(0.7),
    "l1": L1(0.5, relative=False),
    "elastic-net": ElasticNet(0.5, 0.3, relative=False),
    "columns": ColumnGroups(0.8, relative=False),
    "rows": RowGroups(0.8, relative=False),
    "nuclear": Nuclear(0.6, relative=False),
    "nonnegative": Nonnegative(),
    "support": Support(MASK),
}
OTHERS = {"rank": Rank(2), "orthogonal": Orthogonal()}
ALL = CONVEX | OTHERS
each = pytest.mark.parametrize("name", ALL)


def feasible(regularizer, rng):
    """A random matrix at which R is finite."""
    return regularizer.proximal(rng.normal(size=(4, 5)), 0.3)


@each
def test_the_proximal_map_minimises_its_objective(name, rng):
    regularizer, step = ALL[name], 0.7
    g = rng.normal(size=(4, 5))

    def objective(m):
        return np.sum((m - g) ** 2) / (2 * step) + regularizer.value(m)

    best = regularizer.proximal(g, step)
    others = [regularizer.proximal(best + 0.2 * rng.normal(size=g.shape), 0.1) for _ in range(50)]
    others += [regularizer.proximal(rng.normal(size=g.shape), 0.1) for _ in range(50)]
    assert np.isfinite(objective(best))
    assert objective(best) <= min(objective(m) for m in others) + 1e-12


@each
def test_the_conjugate_bounds_and_is_attained(name, rng):
    """Fenchel-Young: <M, G> <= R_1(M) + R_1*(G), with equality at the maximiser."""
    ridged = Ridged(ALL[name], 1.3)
    g = 2 * rng.normal(size=(4, 5))
    best, conjugate = ridged.maximizer(g), ridged.conjugate(g)
    assert_allclose(inner(best, g) - ridged.value(best), conjugate, rtol=1e-12)
    for _ in range(50):
        m = feasible(ridged.regularizer, rng)
        assert inner(m, g) <= ridged.value(m) + conjugate + 1e-12


@pytest.mark.parametrize("name", CONVEX)
def test_moreau_joins_a_proximal_map_with_the_conjugate(name, rng):
    """G - prox_R(G) is where R* is smallest about G: so R(M) + R*(G - M) = <M, G - M>."""
    regularizer, g = CONVEX[name], rng.normal(size=(4, 5))
    m = regularizer.proximal(g, 1.0)
    dual = g - m
    if name == "support":
        dual = dual * ~MASK
    elif name == "nonnegative":
        dual = np.minimum(dual, 0)
    assert_allclose(
        regularizer.value(m) + regularizer.conjugate(dual), inner(m, dual), rtol=1e-6, atol=1e-12
    )


@each
def test_the_ridge_is_added_by_completing_the_square(name, rng):
    ridged, g, step = Ridged(ALL[name], 0.9), rng.normal(size=(4, 5)), 0.6

    def objective(m):
        return np.sum((m - g) ** 2) / (2 * step) + ridged.value(m)

    best = ridged.proximal(g, step)
    for _ in range(50):
        other = feasible(ridged.regularizer, rng)
        nearby = ridged.regularizer.proximal(best + 0.01 * rng.normal(size=g.shape), 0.001)
        assert objective(best) <= min(objective(other), objective(nearby)) + 1e-12


@each
def test_a_batch_is_each_matrix_by_itself(name, rng):
    regularizer, batch = ALL[name], rng.normal(size=(3, 4, 5))
    assert_allclose(
        regularizer.proximal(batch, 0.4), [regularizer.proximal(m, 0.4) for m in batch], atol=1e-14
    )


def test_conjugates_are_those_of_the_table(rng):
    g = 2 * rng.normal(size=(4, 5))
    values = np.linalg.svd(g, compute_uv=False)
    known = {
        Ridged(Ridge(), 1.0): np.sum(g**2) / 2,
        Ridged(L1(0.5, relative=False), 1.0): np.sum(np.maximum(abs(g) - 0.5, 0) ** 2) / 2,
        Ridged(ColumnGroups(0.5, relative=False), 1.0): np.sum(
            np.maximum(np.linalg.norm(g, axis=0) - 0.5, 0) ** 2
        )
        / 2,
        Ridged(RowGroups(0.5, relative=False), 1.0): np.sum(
            np.maximum(np.linalg.norm(g, axis=1) - 0.5, 0) ** 2
        )
        / 2,
        Ridged(Nuclear(0.5, relative=False), 1.0): np.sum(np.maximum(values - 0.5, 0) ** 2) / 2,
        Ridged(Rank(2), 1.0): np.sum(values[:2] ** 2) / 2,
        Ridged(Orthogonal(), 1.0): values.sum() - 2,
        Ridged(Nonnegative(), 1.0): np.sum(np.maximum(g, 0) ** 2) / 2,
    }
    for ridged, value in known.items():
        assert_allclose(ridged.conjugate(g), value, rtol=1e-12)


@pytest.mark.parametrize("kind", [L1, ElasticNet, ColumnGroups, RowGroups, Nuclear])
def test_at_relative_strength_one_no_cross_moment_passes(kind, rng):
    x, y, a = rng.normal(size=(9, 5)), rng.normal(size=(9, 4)), rng.dirichlet(np.ones(9))
    moments = Moments((x.T * a) @ x, (y.T * a) @ y)
    cross = (y.T * a) @ x  # of the coupling that pairs equal rows
    assert not kind(1.0).absolute(moments).proximal(cross, 1.0).any()
    assert kind(0.01).absolute(moments).proximal(cross, 1.0).any()


@pytest.mark.parametrize("name", ["l1", "elastic-net", "columns", "rows", "nonnegative", "support"])
def test_maps_without_decompositions_trace_and_differentiate(name, rng):
    g = jnp.asarray(rng.normal(size=(4, 5)))
    prox = jax.jit(lambda m: ALL[name].proximal(m, 0.3))
    assert_allclose(prox(g), ALL[name].proximal(np.asarray(g), 0.3), rtol=1e-12)
    assert np.isfinite(jax.grad(lambda m: jnp.sum(prox(m) ** 2))(g)).all()


def test_decompositions_refuse_to_trace_and_say_so(rng):
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(Nuclear(0.1).proximal)(jnp.ones((2, 2)))


def test_norms_of_zero_shrink_to_zero():
    for regularizer in (ColumnGroups(0.5), RowGroups(0.5)):
        assert not regularizer.proximal(np.zeros((3, 2)), 0.0).any()
        assert not regularizer.proximal(np.zeros((3, 2), np.float32), 1.0).any()


@pytest.mark.slow
def test_a_regularizer_of_ott_acts_on_the_entries(rng):
    regularizers = pytest.importorskip("ott.geometry.regularizers")
    foreign = as_regularizer(regularizers.L1())
    g = rng.normal(size=(2, 4, 5))
    ours = L1(1.0, relative=False)
    assert_allclose(foreign.proximal(g, 0.3), ours.proximal(g, 0.3), atol=1e-6)
    assert_allclose(foreign.value(g), ours.value(g), rtol=1e-6)


def test_what_is_no_regularizer_is_refused():
    with pytest.raises(ValueError, match="prox"):
        as_regularizer("l1")
    with pytest.raises(ValueError, match="nonnegative"):
        L1(-1.0)
    with pytest.raises(ValueError, match="at least 1"):
        Rank(0)
    with pytest.raises(ValueError, match=r"\(q, p\)"):
        Support([True])
