"""A run on disk: it goes on to the last bit as if never interrupted, and knows what is its own."""

import jax
import jax.random as jr
import numpy as np
import optax
import pytest

import meanfield as mf
from meanfield.training import Euler, MeanFieldResNet, Optax, Proximal, Record, SquaredError


QUICK = Record(certificate=False, distance=False, particles=True)


@pytest.fixture(scope="module")
def problem():
    net_key, x_key, y_key = jr.split(jr.key(7), 3)
    net = MeanFieldResNet.random(dim=2, depth=3, width=6, key=net_key)
    x = jr.normal(x_key, (5, 2))
    return net, (x, x + 0.5 * jr.normal(y_key, (5, 2)))


def train(problem, steps, method=Euler(0.1), **settings):
    net, data = problem
    settings = {"record_every": 4, "record": QUICK} | settings
    return mf.gradient_flow(net, SquaredError(), data, method, steps, **settings)


def same_bits(one, other):
    leaves = [jax.tree.leaves(run) for run in (one, other)]
    assert len(leaves[0]) == len(leaves[1]) > 10
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "batches"),
    [
        (Euler(0.1), {}),
        (Euler(0.1), {"batch_size": 2, "key": jr.key(5)}),
        (Optax(optax.adam(0.01)), {"batch_size": 2, "key": jr.key(5)}),
        (Proximal(2.0), {}),
    ],
    ids=["euler", "batches", "adam", "proximal"],
)
def test_a_run_in_two_parts_is_the_run_in_one_to_the_last_bit(method, batches, problem, tmp_path):
    path = tmp_path / "run.npz"
    whole = train(problem, 12, method, **batches)
    train(problem, 8, method, checkpoint=path, **batches)
    same_bits(train(problem, 12, method, checkpoint=path, **batches), whole)
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.slow
def test_an_interrupted_run_computes_no_step_twice(problem, tmp_path, monkeypatch):
    path, seen = tmp_path / "run.npz", []

    def interrupt(done, steps, words):
        seen.append(done)
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(problem, 12, checkpoint=path, progress=interrupt)
    resumed = []
    run = train(problem, 12, checkpoint=path, progress=lambda done, *_: resumed.append(done))
    assert seen == [0, 4, 8] and resumed == [8]
    again = []
    same_bits(
        train(problem, 12, checkpoint=path, progress=lambda done, *_: again.append(done)), run
    )
    assert again == []


def test_a_torn_write_leaves_the_former_file(problem, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    train(problem, 4, checkpoint=path)
    before = path.read_bytes()

    def torn(stream, **arrays):
        stream.write(b"half a fi")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", torn)
    with pytest.raises(OSError, match="no space"):
        train(problem, 8, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"method": Euler(0.2)},
        {"record_every": 2},
        {"batch_size": 2, "key": jr.key(0)},
        {"record": Record(certificate=False, distance=False)},
    ],
    ids=["method", "records", "batches", "record"],
)
def test_the_checkpoint_of_another_run_is_refused(change, problem, tmp_path):
    path = tmp_path / "run.npz"
    train(problem, 4, checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(problem, 8, checkpoint=path, **change)


def test_other_data_and_other_starts_are_another_run(problem, tmp_path):
    path, (net, (x, y)) = tmp_path / "run.npz", problem
    train(problem, 4, checkpoint=path)
    elsewhere = net.with_points(net.params.points.at[0, 0, 0].add(1e-7))
    for other in ((net, (x, y.at[0, 0].add(1e-7))), (elsewhere, (x, y))):
        with pytest.raises(ValueError, match="belongs to another run"):
            train(other, 8, checkpoint=path)


def test_a_checkpoint_further_than_asked_and_a_file_of_something_else_are_refused(
    problem, tmp_path
):
    path = tmp_path / "run.npz"
    train(problem, 8, checkpoint=path)
    with pytest.raises(ValueError, match="8 steps far already"):
        train(problem, 4, checkpoint=path)
    path.write_bytes(b"not a run")
    with pytest.raises(ValueError, match="is not a training run"):
        train(problem, 4, checkpoint=path)
    np.savez(path, points=np.zeros(3))
    with pytest.raises(ValueError, match="is not a training run"):
        train(problem, 4, checkpoint=path)


def test_bad_settings_are_told_by_name(problem):
    net, (x, y) = problem
    for wrong, words in (
        ({"steps": 0}, "`steps` must be a whole number of at least 1; got 0"),
        ({"steps": 4, "record_every": 0}, "`record_every` must be a whole number of at least 1"),
        ({"steps": 4, "batch_size": 9, "key": jr.key(0)}, "`batch_size` must be from 1 to"),
        ({"steps": 4, "batch_size": 2}, "`key` must be given with `batch_size`"),
    ):
        with pytest.raises(ValueError, match=words):
            train(problem, **wrong)
    with pytest.raises(ValueError, match="as many examples in x as in y"):
        train((net, (x, y[:3])), 4)
    for data in ((x[:, :1], y), (x, y[:, :1].repeat(3, axis=1))):
        with pytest.raises(ValueError, match="`net` and `loss` must take `data`"):
            train((net, data), 4)
    for step in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`step` must be positive"):
            train(problem, 4, Euler(step))


def test_a_risk_that_is_not_finite_is_told_at_the_start(problem):
    net, (x, y) = problem
    with pytest.raises(ValueError, match="risk must be finite at the start"):
        train((net, (x, y.at[0, 0].set(np.nan))), 4)


@pytest.mark.slow
def test_a_run_that_diverges_ends_at_its_last_finite_record(problem):
    with pytest.raises(RuntimeError, match="ceased to be finite"):
        train(problem, 400, Euler(1e3))
    with pytest.warns(RuntimeWarning, match="ceased to be finite"):
        run = train(problem, 400, Euler(1e3), throw=False, record=Record(distance=True))
    assert run.result == mf.RESULTS.risk_not_finite and run.steps[-1] < 400
    assert np.all(np.isfinite(run.risk)) and np.all(np.isfinite(run.net.params.points))
