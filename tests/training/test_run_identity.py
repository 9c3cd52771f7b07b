"""A checkpoint knows what it belongs to: by what functions do, not by what they are called."""

import functools
import subprocess
import sys
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import meanfield as mf
from meanfield.training import Euler, MeanFieldResNet, Optax, Record, SquaredError
from meanfield.training.checkpoint import digest


QUICK = Record(certificate=False, distance=False, particles=True)
SCALE = 1.0


def scaled(factor):
    return lambda z, y: factor * jnp.sum(jnp.square(z - y))


def by_a_global(z, y):
    return SCALE * jnp.sum(jnp.square(z - y))


class Weighted(eqx.Module):
    weights: np.ndarray
    power: int = eqx.field(static=True, default=2)

    def __call__(self, z, y):
        return jnp.sum(self.weights * jnp.abs(z - y) ** self.power)


one, other = (lambda z, y: jnp.sum((z - y) ** 2)), (lambda z, y: 100 * jnp.sum((z - y) ** 2))
DIFFERENT = {
    "constants": (one, other),
    "code": (one, lambda z, y: jnp.sum(jnp.abs(z - y))),
    "names": (lambda z, y: jnp.sum(z), lambda z, y: jnp.max(z)),
    "closures": (scaled(1.0), scaled(2.0)),
    "arrays": (scaled(jnp.ones(2)), scaled(jnp.array([1.0, 1.5]))),
    "numpy": (Weighted(np.ones(2)), Weighted(np.array([1.0, 2.0]))),
    "static": (Weighted(np.ones(2)), Weighted(np.ones(2), 3)),
    "partials": (functools.partial(one, y=1), functools.partial(one, y=2)),
    "jitted": (jax.jit(one), jax.jit(other)),
    "inner": (lambda z, y: (lambda t: t * 2)(z), lambda z, y: (lambda t: t * 3)(z)),
    "defaults": (lambda z, y, c=1: c * z, lambda z, y, c=2: c * z),
    "activations": (jax.nn.relu, jax.nn.gelu),
    "rates": (optax.adam(1e-2), optax.adam(1e-3)),
    "optimisers": (optax.sgd(0.1, 0.9), optax.sgd(0.1, 0.9, nesterov=True)),
    "schedules": tuple(optax.sgd(optax.cosine_decay_schedule(0.1, n)) for n in (9, 8)),
    "types": (1, 1.0),
    "dtypes": (jnp.ones(2, jnp.float32), jnp.ones(2, jnp.int32)),
    "sets": ({"a", "b"}, {"a", "c"}),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_is_told_apart(kind):
    first, second = DIFFERENT[kind]
    assert digest(loss=first) != digest(loss=second)
    assert digest(loss=first) == digest(loss=first)


def test_what_is_made_again_is_the_same():
    for make in (
        lambda: scaled(2.0),
        lambda: optax.chain(optax.clip(1.0), optax.adam(optax.linear_schedule(0.1, 0.0, 9))),
        lambda: Weighted(np.ones(2)),
        optax.lbfgs,
        lambda: functools.partial(by_a_global, y=jnp.ones(2)),
    ):
        assert digest(loss=make()) == digest(loss=make())


def test_globals_that_a_function_names_are_seen(monkeypatch):
    before = digest(loss=by_a_global)
    monkeypatch.setitem(by_a_global.__globals__, "SCALE", 2.0)
    assert digest(loss=by_a_global) != before


def test_functions_that_name_themselves_come_to_an_end():
    def countdown(n):
        return 0 if n == 0 else countdown(n - 1)

    assert digest(loss=countdown) == digest(loss=countdown)


@pytest.mark.slow
def test_another_process_finds_the_same():
    code = (
        "import optax, jax.numpy as jnp, jax;"
        "from meanfield.training.checkpoint import digest;"
        "print(digest(a=(optax.lbfgs(), optax.adam(1e-3), lambda z: jax.nn.relu(z) - {'b', 'a'}, "
        "jnp.arange(3))))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1


def test_what_cannot_be_looked_into_is_refused():
    lock = threading.Lock()

    def guarded(z, y):
        with lock:
            return jnp.sum(z - y)

    with pytest.raises(ValueError, match="`checkpoint` cannot tell this `loss` .*_thread.lock"):
        digest(loss=guarded)


@pytest.fixture(scope="module")
def problem():
    net = MeanFieldResNet.random(dim=2, depth=2, width=4, key=jr.key(0))
    x = jr.normal(jr.key(1), (6, 2))
    return net, (x, x + 0.5)


def run(problem, steps, loss=SquaredError(), method=Euler(0.1), **settings):
    net, data = problem
    return mf.gradient_flow(net, loss, data, method, steps, record=QUICK, **settings)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"loss": one}, {"loss": other}),
        ({"method": Optax(optax.sgd(0.1))}, {"method": Optax(optax.sgd(0.2))}),
    ],
    ids=["loss", "method"],
)
def test_a_run_of_another_lambda_or_optimiser_is_refused(problem, first, second, tmp_path):
    path = tmp_path / "run.npz"
    run(problem, 2, checkpoint=path, **first)
    with pytest.raises(ValueError, match="belongs to another run"):
        run(problem, 4, checkpoint=path, **second)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [{}, {"batch_size": 4, "key": jr.key(2)}], ids=["all", "batch"])
def test_a_longer_run_keeps_the_interval_of_its_checkpoint(problem, batches, tmp_path):
    """The record at the end of the first part is none of the whole, and leaves no trace."""
    path = tmp_path / "run.npz"
    run(problem, 103, checkpoint=path, **batches)  # every 2
    longer = run(problem, 240, checkpoint=path, **batches)  # would be every 4
    whole = run(problem, 240, record_every=2, **batches)
    for a, b in zip(jax.tree.leaves(longer), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_least_ratio_on_mini_batches_is_the_least_of_the_records(problem):
    found = run(problem, 60, batch_size=2, key=jr.key(2), record_every=3, method=Euler(2.0))
    ratios = found.slope**2 / found.risk
    least = np.minimum.accumulate(ratios)
    assert ratios[-1] > 1.01 * least[-1]  # the present one is not the least
    np.testing.assert_allclose(found.least_ratio, least, rtol=1e-6)
    assert found.ball().constant == pytest.approx(least[-1], rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The path is longer")
def test_an_absent_particle_that_holds_nan_changes_no_path_and_no_verdict(problem):
    net, data = problem
    points = jnp.pad(net.params.points, ((0, 0), (0, 1), (0, 0)), constant_values=jnp.nan)
    weights = jnp.pad(net.params.weights, ((0, 0), (0, 1)))
    padded = net.with_params(mf.ConditionalMeasure(points, weights, net.params.base))
    for step in (0.1, 40.0):  # the second is too large for a flow
        one, other = (
            mf.gradient_flow(each, SquaredError(), data, Euler(step), 6, throw=False)
            for each in (net, padded)
        )
        assert np.all(np.isfinite(other.path_length)) and other.result == one.result
        np.testing.assert_allclose(other.path_length, one.path_length, rtol=1e-5)
        np.testing.assert_allclose(other.distance, one.distance, rtol=1e-4, atol=1e-6)
    assert one.result != mf.RESULTS.successful
