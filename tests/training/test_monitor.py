"""What every step of training adds to a law, exactly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import meanfield as mf
from meanfield.training import LawMonitor, attention_laws, law_terms, layer_laws


pytestmark = pytest.mark.float64  # identities up to rounding


def problem(key):
    """A small attention, 6 points in R^3 and what a loss wants of them."""
    keys = jr.split(key, 4)
    f = mf.MultiheadAttention.random(dim=3, heads=2, head_dim=2, key=keys[0])
    biases = [jr.normal(k, (2, 2)) for k in jr.split(keys[3], 3)]
    names = ("query_bias", "key_bias", "value_bias")
    f = mf.MultiheadAttention(
        *[getattr(f, f"{part}_proj") for part in ("query", "key", "value", "output")],
        **dict(zip(names, biases, strict=True)),
    )
    mu, target = mf.Measure(jr.normal(keys[1], (6, 3))), jr.normal(keys[2], (6, 3))
    return f, lambda f: 3 * jnp.mean((f(mu).points - target) ** 2)


def trained(f, loss, optimizer, steps):
    """The parameters and the monitor after some steps, in one compiled loop."""

    def step(carry, _):
        f, state, monitor = carry
        gradient = jax.grad(loss)(f)
        updates, state = optimizer.update(gradient, state, f)
        monitor = monitor.update(f, updates)
        return (optax.apply_updates(f, updates), state, monitor), gradient

    start = (f, optimizer.init(f), LawMonitor.start(attention_laws, f))
    (f, _, monitor), gradients = jax.jit(
        lambda carry: jax.lax.scan(step, carry, None, length=steps)
    )(start)
    return f, monitor, gradients


def largest(laws):
    return max(float(jnp.max(jnp.abs(law))) for law in laws.values())


@pytest.mark.slow
def test_descent_adds_the_law_of_the_gradient_times_the_square_of_the_step(key):
    f, loss = problem(key)
    eta = 0.1
    after, monitor, gradients = trained(f, loss, optax.sgd(eta), 40)
    added = jax.tree.map(lambda h: eta**2 * h.sum(0), jax.vmap(attention_laws)(gradients))
    drift = jax.tree.map(jnp.subtract, attention_laws(after), attention_laws(f))
    assert largest(drift) > 1e-3 and monitor.steps == 40
    for name in drift:
        np.testing.assert_allclose(drift[name], added[name], atol=1e-12)
        np.testing.assert_allclose(monitor.drift[name], drift[name], atol=1e-13)
        np.testing.assert_allclose(monitor.added[name], added[name], atol=1e-12)
    assert largest(monitor.turned) < 1e-12
    assert largest({"key_bias": drift["key_bias"]}) < 1e-13


@pytest.mark.slow
def test_drift_at_a_fixed_time_is_proportional_to_the_step(key):
    f, loss = problem(key)
    drifts = [largest(trained(f, loss, optax.sgd(0.5 / n), n)[1].drift) for n in (200, 400, 800)]
    assert drifts[0] / drifts[1] == pytest.approx(2, rel=0.1)
    assert drifts[1] / drifts[2] == pytest.approx(2, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [optax.adam(0.05), optax.sgd(0.1, momentum=0.9)], ids=["adam", "momentum"]
)
def test_other_optimizers_turn_the_laws_and_the_prediction_stays_exact(optimizer, key):
    f, loss = problem(key)
    _, monitor, _ = trained(f, loss, optimizer, 40)
    for name, drift in monitor.drift.items():
        np.testing.assert_allclose(monitor.predicted[name], drift, atol=1e-12)
    assert largest(monitor.turned) > 0.05
    assert largest(trained(f, loss, optax.sgd(0.1), 40)[1].turned) < 1e-12


@pytest.mark.slow
def test_weight_decay_makes_the_laws_decay_at_twice_its_rate(key):
    f, loss = problem(key)
    eta, decay, steps = 0.01, 0.05, 400
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(eta))
    _, monitor, _ = trained(f, loss, optimizer, steps)
    expected = np.exp(-2 * decay * eta * steps)
    for name in ("query_key", "value_output"):
        ratio = jnp.linalg.norm(monitor.current[name]) / jnp.linalg.norm(monitor.initial[name])
        assert float(ratio) == pytest.approx(expected, rel=0.02)
    after = jnp.linalg.norm(monitor.current["key_bias"] / monitor.initial["key_bias"] - 0) / 2
    assert float(after) == pytest.approx((1 - decay * eta) ** steps, rel=1e-9)


def test_terms_of_a_law_with_a_linear_part():
    def laws(x):
        return {"h": x @ jnp.array([[1.0, 2.0], [0.0, -1.0]]) @ x + 3 * x[0] + 5}

    x, u = jnp.array([0.5, -1.0]), jnp.array([2.0, 0.3])
    turned, added = law_terms(laws, x, u)
    assert float(added["h"]) == pytest.approx(float(u[0] ** 2 + 2 * u[0] * u[1] - u[1] ** 2))
    assert float(laws(x + u)["h"]) == pytest.approx(
        float(laws(x)["h"] + turned["h"] + added["h"]), rel=1e-14
    )


@pytest.mark.slow
def test_the_monitor_follows_the_shipped_transformer_for_a_few_steps():
    model = mf.models.load("shakespeare-gpt")
    blocks = tuple(layer.block for layer in model.layers)
    blocks = jax.tree.map(lambda x: x.astype(float) if eqx.is_inexact_array(x) else x, blocks)
    params, fixed = eqx.partition(blocks, eqx.is_inexact_array)
    ids = model.tokenize(mf.models.zoo.sample_text())[:17]
    states = jnp.asarray(model.embedding(ids), float)
    table = jnp.asarray(model.embedding.word.rows(np.arange(model.embedding.word.shape[0])), float)

    def laws(params):
        each = map(layer_laws, eqx.combine(params, fixed))
        return {f"{l}.{name}": law for l, found in enumerate(each) for name, law in found.items()}

    def loss(params):
        mu = mf.ConditionalMeasure.from_sequence(states)
        for block in eqx.combine(params, fixed):
            mu = block(mu)
        logits = model.final_norm(mu).points[:-1, 0] @ table.T
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(16), jnp.asarray(ids[1:])])

    monitor, eta, risks = LawMonitor.start(laws, params), 0.05, []
    step = eqx.filter_jit(jax.value_and_grad(loss))
    for _ in range(4):
        risk, gradient = step(params)
        updates = jax.tree.map(lambda g: -eta * g, gradient)
        monitor = monitor.update(params, updates)
        params, risks = eqx.apply_updates(params, updates), [*risks, float(risk)]
    assert risks[-1] < risks[0]
    assert {"0.0.0.norm_columns", "0.0.1.query_key", "1.0.1.value_output"} <= set(monitor.drift)
    for name, drift in monitor.drift.items():
        np.testing.assert_allclose(monitor.added[name], drift, atol=1e-12)
        assert np.max(np.abs(monitor.turned[name])) < 1e-12
