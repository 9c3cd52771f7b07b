"""Data that fit are read, whatever their dtype; data that do not fit are told by name."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from random_maps import as_installed

import meanfield as mf
from meanfield.measure import Measure
from meanfield.training import CrossEntropy, Euler, MeanFieldResNet, Record, SquaredError, risk


QUICK = Record(certificate=False, distance=False)


@pytest.fixture(scope="module")
def net():
    return MeanFieldResNet.random(dim=3, depth=2, width=4, key=jr.key(0))


X = jr.normal(jr.key(1), (8, 3))
LABELS = jnp.array([0, 1, 2, 0, 1, 2, 0, 1])


@pytest.mark.parametrize("shape", [(8, 1), (8,), (8, 3, 3)])
@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()], ids=["squared", "entropy"])
def test_targets_of_another_shape_are_refused(net, loss, shape):
    y = jnp.ones(shape)
    with as_installed(), pytest.raises(ValueError, match=r"must have the shape \(3,\)"):
        risk(net, loss, (X, y))
    with as_installed(), pytest.raises(ValueError, match="`net` and `loss` must take `data`"):
        mf.gradient_flow(net, loss, (X, y), Euler(0.1), 1, record=QUICK)


def test_targets_of_tokens_have_the_shape_of_the_tokens():
    tokens = Measure(jnp.ones((4, 3)))
    assert SquaredError()(tokens, jnp.zeros((4, 3))) == 1.5
    with as_installed(), pytest.raises(ValueError, match=r"must have the shape \(4, 3\)"):
        SquaredError()(tokens, jnp.zeros(3))


def test_labels_outside_the_classes_are_told(net):
    wrong = LABELS.at[2].set(-1).at[5].set(99)
    for call in (risk, mf.training.gradient_field):
        with pytest.raises(ValueError, match=r"labels from 0 to 2, .*; got -1, 99\."):
            call(net, CrossEntropy(), (X, wrong))
    with pytest.raises(ValueError, match="labels from 0 to 2"):
        mf.gradient_flow(net, CrossEntropy(), (X, wrong), Euler(0.1), 1, record=QUICK)
    assert np.isnan(jax.jit(lambda y: risk(net, CrossEntropy(), (X, y)))(wrong))


def test_cross_entropy_of_labels_is_that_of_their_unit_vectors(net):
    targets = (LABELS, jnp.eye(3)[LABELS], jnp.eye(3, dtype=int)[LABELS])
    values = [risk(net, CrossEntropy(), (X, y)) for y in targets]
    expected = -np.mean(np.asarray(jax.nn.log_softmax(net.outputs(X)))[np.arange(8), LABELS])
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_class_ruled_out_costs_nothing_where_it_has_no_probability():
    loss, logits = CrossEntropy(), jnp.array([0.0, -jnp.inf, 0.0])
    value, slope = jax.value_and_grad(loss)(logits, jnp.array([0.5, 0.0, 0.5]))
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, bool, jnp.float16])
def test_whole_and_half_numbers_train_as_the_same_numbers(net, dtype):
    x = jnp.arange(24).reshape(8, 3) % 2
    y = (x + 1) % 2
    real = net.params.points.dtype
    runs = [
        mf.gradient_flow(net, SquaredError(), data, Euler(0.1), 3, record=QUICK)
        for data in ((x.astype(dtype), y.astype(dtype)), (x.astype(real), y.astype(real)))
    ]
    if dtype == jnp.float16:  # of targets this is the precision of the difference
        np.testing.assert_allclose(runs[0].risk, runs[1].risk, rtol=1e-6)
    else:
        np.testing.assert_array_equal(runs[0].risk, runs[1].risk)


def test_complex_states_are_refused(net):
    with as_installed(), pytest.raises(TypeError, match="states must be real; got complex"):
        net(X[0].astype(complex))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 5.5}, "`steps` must be a whole number of at least 1; got 5.5"),
        ({"steps": True}, "`steps` must be a whole number"),
        ({"record_every": 1.5}, "`record_every` must be a whole number"),
        ({"batch_size": 2.5, "key": jr.key(0)}, "`batch_size` must be a whole number"),
        ({"data": (X,)}, r"`data` must be a pair \(x, y\)"),
        ({"method": Euler(np.inf)}, "`step` must be positive and finite"),
    ],
    ids=["steps", "bool", "records", "batch", "pair", "step"],
)
def test_settings_are_told_by_name(net, settings, words):
    given = {"data": (X, X), "method": Euler(0.1), "steps": 4} | settings
    with as_installed(), pytest.raises(ValueError, match=words):
        mf.gradient_flow(net, SquaredError(), **given)


def test_a_gradient_that_does_not_exist_is_told_from_steps_that_are_too_large(net):
    def distance(z, y):
        return jnp.sqrt(jnp.sum(jnp.square(z - y)))

    with pytest.raises(ValueError, match="gradient of the risk must be finite at the start"):
        mf.gradient_flow(net, distance, (X, net.outputs(X)), Euler(0.1), 3, record=QUICK)


def torn(z, y):
    """A risk that is finite and without a slope once the first number falls to a half."""
    return jnp.sqrt(jnp.maximum(z[0] - y[0] - 0.5, 0)) + 0.1


@pytest.mark.parametrize("batches", [{}, {"batch_size": 1, "key": jr.key(0)}], ids=["all", "batch"])
def test_a_gradient_that_is_lost_on_the_way_is_told(net, batches):
    data = (jnp.array([[0.7, 0.0, 0.0]]), jnp.zeros((1, 3)))
    with pytest.raises(RuntimeError, match="gradient of the risk is NaN where the risk is finite"):
        mf.gradient_flow(net, torn, data, Euler(0.05), 100, record=QUICK, **batches)
    with pytest.warns(RuntimeWarning, match="gradient of the risk is NaN"):
        run = mf.gradient_flow(
            net, torn, data, Euler(0.05), 100, record=QUICK, throw=False, **batches
        )
    assert run.result == mf.RESULTS.gradient_not_finite
    assert np.all(np.isfinite(run.slope)) and np.all(np.isfinite(run.net.params.points))


@pytest.mark.filterwarnings("error")
def test_a_risk_of_zero_at_the_start_stays_and_is_drawn(net):
    run = mf.gradient_flow(net, SquaredError(), (X, net.outputs(X)), Euler(0.1), 3)
    assert run.result == mf.RESULTS.successful and np.all(run.risk == 0)
    ball = run.ball()
    assert ball.inside and ball.radius == ball.travelled == 0 and ball.excess == -np.inf
    np.testing.assert_array_equal(run.path_bound, 0)
    mf.plot.polyak_lojasiewicz(run)
    mf.plot.step_sizes({"still": run})
