"""The sharpness of a loss against dense Hessians."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from precision import rounded

import meanfield as mf
from meanfield.spectrum import sharpness


def quadratic(eigenvalues, seed=0):
    """x -> <x, H x> / 2 for an H of the given eigenvalues, and H."""
    rng = np.random.default_rng(seed)
    frame, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))
    H = jnp.asarray((frame * np.asarray(eigenvalues)) @ frame.T)
    return lambda x: x @ H @ x / 2, H


@pytest.fixture(scope="module")
def network():
    """The mean squared error of a small tanh network, its parameters and its dense Hessian."""
    widths = (3, 5, 4, 1)
    keys = jr.split(jr.key(5), len(widths) + 1)
    params = [
        {"W": jr.normal(k, (n, m)), "b": jnp.zeros(n)}
        for k, m, n in zip(keys, widths[:-1], widths[1:], strict=False)
    ]
    x, y = jr.normal(keys[-2], (20, widths[0])), jr.normal(keys[-1], (20,))

    def loss(params):
        h = x
        for layer in params:
            h = jnp.tanh(h @ layer["W"].T + layer["b"])
        return jnp.mean((h[:, 0] - y) ** 2)

    flat, unravel = jax.flatten_util.ravel_pytree(params)
    return loss, params, np.asarray(jax.jit(jax.hessian(lambda flat: loss(unravel(flat))))(flat))


SPECTRA = {
    "positive": np.linspace(0.1, 3, 24),
    "negative-dominant": [*[-100.0] * 5, *-np.linspace(1, 9, 17), 0.5, 2.0],
    "all-negative": -np.linspace(1, 7, 24),
    "double": [4.0, 4.0, 1.0, -5.0, *[0.0] * 20],
    "low-rank": [3.0, *[0.0] * 23],
    "zero": [0.0] * 24,
    "multiple-of-the-identity": [-2.5] * 24,
    "a-number": [-3.0],
}


@jax.jit
def of_matrix(H, key):
    return sharpness(lambda x: x @ H @ x / 2, jnp.zeros(len(H)), key=key, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA)
def test_it_is_the_largest_eigenvalue_with_its_sign(eigenvalues, key):
    _, H = quadratic(eigenvalues)
    found = of_matrix(H, key)
    scale = max(np.abs(eigenvalues))
    np.testing.assert_allclose(found.value, max(eigenvalues), rtol=0, atol=rounded(1e-12) * scale)
    assert found.lower <= max(eigenvalues)
    np.testing.assert_allclose(jnp.linalg.norm(found.vector), 1, rtol=rounded(1e-12))


@pytest.mark.slow
def test_a_network_agrees_with_its_dense_hessian(network, key):
    loss, params, H = network
    found = jax.jit(lambda params: sharpness(loss, params, key=key, rtol=1e-6))(params)
    values = np.linalg.eigvalsh(H)
    np.testing.assert_allclose(found.value, values[-1], rtol=rounded(1e-10))
    flat = jax.flatten_util.ravel_pytree(found.vector)[0]
    np.testing.assert_allclose(
        found.residual, jnp.linalg.norm(H @ flat - found.value * flat), atol=rounded(1e-12)
    )
    assert np.min(np.abs(values - found.value)) <= found.residual + rounded(1e-12)
    assert jax.tree.structure(found.vector) == jax.tree.structure(params)


@pytest.mark.slow
def test_restarts_with_a_small_capacity_find_the_same_value(network, key):
    loss, params, H = network
    largest = np.linalg.eigvalsh(H)[-1]
    found = jax.jit(
        lambda params: sharpness(loss, params, key=key, rtol=1e-5, capacity=4, max_steps=2000)
    )(params)
    assert found.steps > 8
    np.testing.assert_allclose(found.value, largest, rtol=rounded(1e-8))


@pytest.mark.slow
def test_too_few_products_are_told_and_leave_a_lower_bound(key):
    loss, _ = quadratic(np.linspace(-1, 1, 300))

    @eqx.filter_jit
    def search(throw):
        return sharpness(loss, jnp.zeros(300), key=key, rtol=1e-10, max_steps=6, throw=throw)

    found = search(False)
    assert found.result == mf.RESULTS.eigenvalue_not_reached
    assert found.steps == 7 and 0 < found.lower < 1
    with pytest.raises(RuntimeError, match="Raise `max_steps`"):
        search(True)


@pytest.mark.slow
def test_a_hessian_that_is_not_finite_is_told(key):
    found = sharpness(lambda x: jnp.sqrt(jnp.sum(x**2)), jnp.zeros(3), key=key, throw=False)
    assert found.result == mf.RESULTS.hessian_not_finite


@pytest.mark.slow
def test_float32_parameters_give_a_float32_answer(key):
    _, H = quadratic(np.linspace(-3, 2, 20))
    single = H.astype(jnp.float32)
    search = jax.jit(lambda x: sharpness(lambda x: x @ single @ x / 2, x, key=key))
    found = search(jnp.zeros(20, jnp.float32))
    assert found.value.dtype == found.vector.dtype == jnp.float32
    np.testing.assert_allclose(found.value, 2, rtol=2e-6)


@pytest.mark.float64
@pytest.mark.slow
def test_it_differentiates_as_a_simple_eigenvalue_does(network, key):
    loss, params, _ = network
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def value(flat, scale):
        return sharpness(
            lambda p: scale * loss(unravel(p)), flat, key=key, rtol=rounded(1e-9)
        ).value

    direction = jnp.asarray(np.random.default_rng(0).normal(size=flat.size))
    gradient, by_scale = jax.jit(jax.grad(value, argnums=(0, 1)))(flat, 2.0)
    plain = jax.jit(value)
    ahead, behind = (plain(flat + sign * 1e-5 * direction, 2.0) for sign in (1, -1))
    np.testing.assert_allclose(gradient @ direction, (ahead - behind) / 2e-5, rtol=1e-6)
    np.testing.assert_allclose(
        by_scale, plain(flat, 1.0), rtol=rounded(1e-10)
    )  # the loss closes over it


@pytest.mark.slow
def test_vmap_searches_at_many_points_at_once(key):
    def loss(x):
        return jnp.sum(jnp.cosh(x)) - 2 * x[0] ** 2

    points = jr.normal(key, (4, 6))
    found = jax.vmap(lambda x: sharpness(loss, x, key=key, rtol=1e-8).value)(points)
    expected = [np.linalg.eigvalsh(jax.hessian(loss)(x))[-1] for x in points]
    np.testing.assert_allclose(found, expected, rtol=rounded(1e-10))


def test_what_has_no_hessian_is_refused(key):
    with pytest.raises(ValueError, match="`loss` must return a number"):
        sharpness(lambda x: x, jnp.zeros(2), key=key)
    with pytest.raises(ValueError, match="at least one array"):
        sharpness(lambda x: 0.0, {"n": 3}, key=key)
