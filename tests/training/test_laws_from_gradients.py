"""Laws found from gradients alone: the published counts, and the known laws among them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import as_installed
from small_attention import error, ordered_error, sequences, skipped_error, zeros

import meanfield as mf
from meanfield.training import (
    LinearNetwork,
    MirrorDynamics,
    MomentumDynamics,
    ReLUNetwork,
    attention_laws,
    count_laws,
    find_quadratic_laws,
)


# heads, groups, k, d; loss; laws and how many of them are independent
ATTENTION = {
    "one head": ((1, 1, 2, 3), {}, error, 6, 6),
    "one head and a skip": ((1, 1, 2, 3), {}, skipped_error, 6, 6),
    "two heads": ((2, 2, 2, 3), {}, error, 12, 12),
    "biases": ((1, 1, 2, 2), {"biases": True}, error, 11, 8),
    "a plane that turns": ((1, 1, 2, 3), {"rotary": mf.Rotary(3.0)}, ordered_error, 4, 4),
    "two planes": ((1, 1, 4, 2), {"rotary": mf.Rotary(3.0)}, ordered_error, 12, 12),
    "shared keys": ((2, 1, 2, 3), {}, error, 6, 6),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_conserves_what_the_table_says_and_we_know_all_of_it(kind):
    shape, extra, loss, count, independent = ATTENTION[kind]
    f = zeros(*shape, **extra)
    laws = find_quadratic_laws(loss, f, sequences(5, shape[-1]), key=jr.key(0))
    assert (laws.count, laws.independent) == (count, independent)
    assert laws.gap > 1e12 and laws.singular_values[-count] < 1e-15
    assert laws.distance(attention_laws, f) < 1e-10


def two_layers(activation):
    def loss(params, batch):
        (U, V), (x, y) = params, batch
        return jnp.mean((activation(x @ U) @ V.T - y) ** 2)

    return loss


def count(shape, activation, dynamics=None, degrees=(1, 2)):
    """Laws of U (n, r) and V (m, r)."""
    n, m, r = shape
    chosen = () if dynamics is None else (dynamics,)

    def data(key):
        one, other = jr.split(key)
        return jr.normal(one, (3, n)), jr.normal(other, (3, m))

    params = jnp.zeros((n, r)), jnp.zeros((m, r))
    return find_quadratic_laws(
        two_layers(activation), params, data, *chosen, key=jr.key(1), degrees=degrees
    )


def identity(x):
    return x


@pytest.mark.slow
def test_what_gradients_say_is_what_exact_ranks_say():
    assert count((2, 1, 3), identity).independent == 6 == count_laws(LinearNetwork((2, 3, 1)))
    assert count((3, 2, 2), jax.nn.relu).independent == 2 == count_laws(ReLUNetwork((3, 2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("shape, laws", [((2, 1, 2), 1), ((2, 2, 2), 1), ((2, 1, 3), 3)])
def test_with_momentum_only_rotations_of_linear_networks_remain(shape, laws):
    n, m, r = shape
    rank = min(2 * (n + m), r)
    found = count(shape, identity, MomentumDynamics(0.7))
    assert found.independent == laws == rank * (2 * r - 1 - rank) // 2


@pytest.mark.slow
@pytest.mark.parametrize("r, laws", [(3, 6), (5, 14)])
def test_numbers_times_numbers_have_more_laws_with_momentum(r, laws):
    assert count((1, 1, r), identity, MomentumDynamics(0.7)).independent == laws


def test_relu_networks_conserve_nothing_with_momentum():
    assert count((2, 2, 2), jax.nn.relu, MomentumDynamics(0.7)).count == 0


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 2, 1), (3, 2, 2)])
def test_the_entropic_mirror_conserves_differences_of_column_sums(shape):
    n, m, r = shape
    found = count(shape, identity, MirrorDynamics(), degrees=(1,))
    assert found.count == r
    params = jnp.zeros((n, r)), jnp.zeros((m, r))
    assert found.distance(lambda p: p[0].sum(0) - p[1].sum(0), params) < 1e-10
    assert found.distance(lambda p: p[0].sum(0) + p[1].sum(0), params) > 0.1


@pytest.mark.slow
def test_laws_with_momentum_stay_along_a_trajectory_that_is_integrated_exactly():
    found = count((2, 1, 2), identity, MomentumDynamics(0.7))
    U, V = jr.normal(jr.key(2), (2, 2)), jr.normal(jr.key(3), (1, 2))
    batch = jr.normal(jr.key(4), (3, 2)), jr.normal(jr.key(5), (3, 1))
    loss = two_layers(identity)

    def slope(state):
        params, moving = state
        force = jax.grad(loss)(params, batch)
        return moving, jax.tree.map(lambda v, g: -0.7 * v - g, moving, force)

    def step(state, _):  # Runge and Kutta's
        def moved(k, t):
            return jax.tree.map(lambda x, v: x + t * v, state, k)

        a = slope(state)
        b = slope(moved(a, 0.005))
        c = slope(moved(b, 0.005))
        d = slope(moved(c, 0.01))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, a, b, c, d)
        return moved(mean, 0.01), None

    start = (U, V), (V.T * jnp.ones((2, 2)), U[:1])
    end, _ = jax.lax.scan(step, start, None, length=200)
    before, after = found.evaluate(start), found.evaluate(end, 2.0)
    assert abs(before[0]) > 0.1
    np.testing.assert_allclose(after, before, rtol=1e-8)


def test_no_clear_gap_is_told():
    def loss(params, batch):
        return params @ (jnp.array([1.0, 1e-9, 1e-11]) * batch ** jnp.arange(1, 4))

    settings = {"key": jr.key(0), "degrees": (1,)}
    found = find_quadratic_laws(loss, jnp.zeros(3), jr.normal, **settings, throw=False)
    assert found.count == 1 and found.gap < 1e3
    assert found.result == mf.measure.RESULTS.no_clear_gap
    with pytest.raises(RuntimeError, match="clear gap"):
        find_quadratic_laws(loss, jnp.zeros(3), jr.normal, **settings)


def test_bad_inputs_say_what_to_do_instead():
    def loss(params, batch):
        return jnp.sum(params) * batch

    with pytest.raises(ValueError, match="at most 100 numbers .* got 101"):
        find_quadratic_laws(loss, jnp.zeros(101), jr.normal, key=jr.key(0))
    with pytest.raises(ValueError, match="`degrees` must be"):
        find_quadratic_laws(loss, jnp.zeros(2), jr.normal, key=jr.key(0), degrees=(3,))
    with pytest.raises(ValueError, match="finite gradients"):
        find_quadratic_laws(
            lambda p, b: jnp.sqrt(-jnp.sum(p**2)), jnp.zeros(2), jr.normal, key=jr.key(0)
        )
    with as_installed(), pytest.raises(TypeError, match="`find_quadratic_laws` finds laws"):
        count_laws(zeros(1, 1, 2, 3))
