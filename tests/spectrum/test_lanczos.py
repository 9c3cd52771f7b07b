"""The largest singular value by Lanczos, against dense decompositions."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from precision import rounded

from meanfield.spectrum import top_singular


def with_singular_values(key, values, rows, columns):
    """A matrix of the given singular values between random orthonormal frames."""
    left, right = jr.split(key)
    u, _ = jnp.linalg.qr(jr.normal(left, (rows, len(values))))
    v, _ = jnp.linalg.qr(jr.normal(right, (columns, len(values))))
    return (u * jnp.asarray(values)) @ v.T


def search(blocks, key, **options):
    """top_singular of a block-diagonal matrix of shape (blocks, rows, columns)."""
    start = jr.normal(key, (blocks.shape[0], blocks.shape[2]), blocks.dtype)
    run = jax.jit(
        lambda blocks: top_singular(
            lambda v: jnp.einsum("brc,bc->br", blocks, v),
            lambda u: jnp.einsum("brc,br->bc", blocks, u),
            start,
            **options,
        )
    )
    return run(blocks)


def largest(blocks):
    return max(np.linalg.svd(np.asarray(block), compute_uv=False)[0] for block in blocks)


@pytest.mark.parametrize("rows, columns", [(30, 20), (20, 30), (25, 25)])
def test_agrees_with_a_dense_decomposition(rows, columns, key):
    blocks = jr.normal(key, (1, rows, columns))
    found = search(blocks, key, rtol=1e-6)
    assert found.converged
    np.testing.assert_allclose(found.value[0], largest(blocks), rtol=rounded(1e-10))


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [[3.0, 3.0, 1.0], [3.0, 3.0 - 1e-9, 1.0], [1.0] * 12, [5.0, *np.linspace(1, 4.999, 11)]],
    ids=["double", "nearly-double", "orthogonal", "crowded"],
)
def test_clustered_singular_values_are_no_trouble(values, key):
    block = with_singular_values(key, values, 16, 12)
    found = search(block[None], key, rtol=1e-8)
    assert found.converged
    np.testing.assert_allclose(found.value[0], max(values), rtol=rounded(1e-8))


@pytest.mark.slow
def test_the_vector_is_a_unit_vector_that_attains_the_value(key):
    blocks = jr.normal(key, (1, 9, 7))
    found = search(blocks, key)
    np.testing.assert_allclose(jnp.linalg.norm(found.vector), 1, rtol=rounded(1e-12))
    np.testing.assert_allclose(jnp.linalg.norm(blocks[0] @ found.vector[0]), found.value[0])


@pytest.mark.slow
def test_some_singular_value_lies_within_the_residual(key):
    blocks = jr.normal(key, (1, 40, 40))
    found = search(blocks, key, rtol=1e-2)
    exact = np.linalg.svd(np.asarray(blocks[0]), compute_uv=False)
    assert np.min(np.abs(exact - found.value[0])) <= found.residual[0] + 1e-12


@pytest.mark.slow
def test_a_value_is_never_above_the_norm(key):
    for steps in (1, 2, 5):
        blocks = jr.normal(key, (1, 40, 40))
        found = search(blocks, key, max_steps=steps)
        assert 0 < found.value[0] <= largest(blocks) * (1 + 1e-14)


@pytest.mark.slow
def test_the_largest_of_many_blocks_is_found_with_its_block(key):
    blocks = jr.normal(key, (9, 6, 5)) * jnp.array([1, 1, 1, 1, 1, 4.0, 1, 3.9, 1])[:, None, None]
    found = search(blocks, key, rtol=1e-8, stride=3)
    best = int(jnp.argmax(found.value))
    exact = [np.linalg.norm(np.asarray(block), 2) for block in blocks]
    assert best == int(np.argmax(exact))
    np.testing.assert_allclose(found.value[best], max(exact), rtol=rounded(1e-10))


def test_zero_blocks_have_value_zero_and_do_not_stop_the_others(key):
    blocks = jr.normal(key, (4, 6, 5)).at[jnp.array([0, 2])].set(0.0)
    found = search(blocks, key, rtol=1e-8)
    assert found.converged
    np.testing.assert_array_equal(found.value[jnp.array([0, 2])], 0.0)
    np.testing.assert_allclose(jnp.max(found.value), largest(blocks), rtol=rounded(1e-10))


def test_the_zero_map_is_known_at_once(key):
    found = search(jnp.zeros((2, 6, 5)), key)
    assert found.converged and found.steps < 5
    np.testing.assert_array_equal(found.value, 0.0)


@pytest.mark.slow
def test_a_block_without_a_start_counts_as_zero(key):
    blocks = jr.normal(key, (2, 5, 5)) * jnp.array([1.0, 9.0])[:, None, None]
    start = jr.normal(key, (2, 5)).at[1].set(0.0)
    found = top_singular(
        lambda v: jnp.einsum("brc,bc->br", blocks, v),
        lambda u: jnp.einsum("brc,br->bc", blocks, u),
        start,
        rtol=1e-8,
    )
    assert found.converged
    np.testing.assert_allclose(found.value, [largest(blocks[:1]), 0.0], rtol=rounded(1e-10))


def test_a_map_of_numbers_is_their_absolute_values(key):
    found = search(jnp.array([[[2.0]], [[-3.0]], [[0.5]]]), key)
    assert found.converged
    np.testing.assert_allclose(found.value, [2.0, 3.0, 0.5], rtol=rounded(1e-14))


@pytest.mark.slow
def test_low_rank_ends_early(key):
    block = with_singular_values(key, [3.0, 2.0], 50, 40)
    found = search(block[None], key, rtol=rounded(1e-10))
    assert found.converged and found.steps <= 6
    np.testing.assert_allclose(found.value[0], 3.0, rtol=rounded(1e-12))


def test_restarts_with_a_small_capacity_find_the_same_value(key):
    blocks = jr.normal(key, (1, 40, 40))
    found = search(blocks, key, rtol=1e-6, capacity=4)
    assert found.converged and found.steps > 8
    np.testing.assert_allclose(found.value[0], largest(blocks), rtol=rounded(1e-10))


@pytest.mark.slow
def test_too_few_steps_are_reported(key):
    found = search(jr.normal(key, (1, 60, 60)), key, rtol=1e-8, max_steps=3)
    assert not found.converged
    assert found.steps <= 4  # and one product for the value itself


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_float32_reaches_float32_precision_at_any_scale(scale, key):
    blocks = (scale * jr.normal(key, (1, 30, 20))).astype(jnp.float32)
    found = search(blocks, key, rtol=1e-9)
    assert found.value.dtype == jnp.float32
    assert found.converged
    np.testing.assert_allclose(found.value[0], largest(blocks.astype(jnp.float64)), rtol=2e-6)


@pytest.mark.slow
def test_searches_are_batched_by_vmap(key):
    matrices = jr.normal(key, (3, 1, 12, 10))
    found = jax.vmap(lambda blocks: search(blocks, key, rtol=1e-8))(matrices)
    exact = np.linalg.svd(np.asarray(matrices[:, 0]), compute_uv=False)[:, 0]
    np.testing.assert_allclose(found.value[:, 0], exact, rtol=rounded(1e-10))
