r"""Training as the gradient flow of the risk for the conditional transport distance (barboni2024).

$\partial_t \mu = \mathrm{div}_\theta(\mu\, g[\mu])$: every particle moves against the gradient
field, layers and particles keep their mass. Methods differ in how they follow this in steps.
"""

import os
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from meanfield.measure import RESULTS

from .checkpoint import digest, load, save
from .loss import Data, Loss, check_labels
from .method import AbstractMethod, Euler, Heun
from .problem import TrainingProblem, training_problem
from .progress import Report, reporting
from .record import Record, Row, row_of
from .resnet import MeanFieldResNet
from .run import Training, result_of
from .settings import check_method, checked_batches, checked_count
from .steps import Batches, FlowState, at_start, steps_until


Path = str | os.PathLike | None


class _Run(eqx.Module):
    """The arguments of a run, checked: all that its steps and records need."""

    problem: TrainingProblem
    method: AbstractMethod
    start: PyTree
    data: Data
    batches: Batches | None
    record: Record


def gradient_flow(
    net: MeanFieldResNet,
    loss: Loss,
    data: Data,
    method: AbstractMethod,
    steps: int,
    *,
    batch_size: int | None = None,
    key: PRNGKeyArray | None = None,
    record_every: int | None = None,
    record: Record = Record(),
    checkpoint: Path = None,
    progress: bool | Report = False,
    throw: bool = True,
) -> Training:
    r"""Trains a network by the gradient flow of its risk in the conditional transport distance.

    Between two records all steps run in one compiled loop. Where the path of `Euler` or `Heun` on
    all data is by a tenth longer than that of a flow with its slopes could be
    (`Training.path_bound`), the steps are too large to follow it, and `.result` says so.

    Args:
      net: the network at the start. Its particles move, and the arrays of its embedding and
        readout unless they are `Fixed`.
      loss: of one prediction and one target: `SquaredError()`, `CrossEntropy()` or a function.
        Data are taken in the precision of the particles, whole numbers too.
      data: (x, y), whose leading axis counts the N examples.
      method: `Euler(step)`, `Heun(step)`, `Proximal(step)` or `Optax(transformation)`.
      steps: how many, counted from the start of the run also where it resumes.
      batch_size: the number of examples a step sees, drawn without repetition within an epoch (the
        N mod batch_size examples that are left over sit out the epoch); all where it is None.
      key: for the mini-batches.
      record_every: the number of steps between records; by default a fiftieth of `steps`, or as
        the checkpoint has it.
      record: what to record beyond the risk and the slope.
      checkpoint: a file that holds the run, written at each record. If it exists, the run goes on
        where it ended, to the last bit as if it had not been interrupted. Its owner is known by
        the numbers of the network and the data, and by the code, constants and closures of the
        loss and the method.
      progress: True for a bar on stderr, or a function called as progress(done, steps, words).
      throw: whether to raise where the risk or its gradient ceases to be finite; otherwise
        `.result` says it, and the run ends at the last record before.

    Raises:
      ValueError: settings that do not fit, data of different lengths or of shapes that the network
        or the loss do not take, labels that are no classes, a risk or a gradient that is not
        finite at the start, a checkpoint of another run, or of one that cannot be told from others.
      TypeError: a method that is none.
      RuntimeError: the risk or its gradient ceased to be finite (with `throw=True`).

    Warns:
      RuntimeWarning: the path is too long for a gradient flow, or inner searches ended early.

    References: {cite}`barboni2024`.
    """
    steps = checked_count("steps", steps)
    every = None if record_every is None else checked_count("record_every", record_every)
    check_method(method)
    batches = checked_batches(_examples(data), batch_size, key)
    problem, start = training_problem(net, loss)
    method = _with_arrays(method, net.params.points.dtype)
    data = jax.tree.map(jnp.asarray, data)
    _check_fit(problem, start, data)
    check_labels(net, loss, data)
    run = _Run(problem, method, start, data, batches, record)
    with reporting(progress) as report:
        state, rows, ended = _followed(run, steps, every, checkpoint, report)
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    tested = isinstance(method, Euler | Heun) and batches is None
    result = result_of(columns, ended=ended, path_tested=tested)
    _tell(result, int(state.step), throw)
    return Training(
        net=problem.net(state.trained),
        particles=columns.pop("particles", None),
        result=result,
        **columns,
    )


def _followed(
    run: _Run, steps: int, every: int | None, checkpoint: Path, report: Report
) -> tuple[FlowState, list[Row], Any]:
    """The last state with a finite risk, all records, and how the run came to its end."""
    owner = "" if checkpoint is None else _owner(run)
    state, rows, every = _begun(run, steps, every, checkpoint, owner)
    while state.step < steps:
        report(int(state.step), steps, f"risk {float(rows[-1]['risk']):.3g}")
        until = min(steps, (int(state.step) // every + 1) * every)
        after = steps_until(run.problem, run.method, state, jnp.array(until), run.data, run.batches)
        row = _row(run, after, float(rows[-1]["least_ratio"]))
        ended = _ending(after, row)
        if ended != RESULTS.successful:
            return state, rows, ended
        state, rows = after, [*rows, row]
        if checkpoint is not None:
            save(checkpoint, owner, state, rows, every)
    return state, rows, RESULTS.successful


def _ending(state: FlowState, row: Row) -> Any:
    """Whether a run can go on."""
    if not state.differentiable or (np.isfinite(row["risk"]) and np.isnan(row["slope"])):
        return RESULTS.gradient_not_finite
    finite = state.finite and np.isfinite(row["risk"]) and np.isfinite(row["slope"])
    return RESULTS.successful if finite else RESULTS.risk_not_finite


def _begun(
    run: _Run, steps: int, every: int | None, checkpoint: Path, owner: str
) -> tuple[FlowState, list[Row], int]:
    """The start, or where the checkpoint ended; and the number of steps between records."""
    state = at_start(run.method, run.start, run.start.params.points.dtype)
    if checkpoint is None or not os.path.exists(checkpoint):
        row = _row(run, state, np.inf)
        _check_start(row)
        return state, [row], every or max(1, steps // 50)
    state, rows, kept = load(checkpoint, owner, state)
    if every not in (None, kept):
        raise ValueError(
            f"`checkpoint` {checkpoint} belongs to another run: it has a record every {kept} "
            f"steps, `record_every` is {every}. Leave `record_every` out, or give another path."
        )
    if state.step > steps:
        raise ValueError(
            f"`checkpoint` {checkpoint} is {state.step} steps far already, `steps` is {steps}. Ask "
            "for at least as many, or give another path to begin anew."
        )
    if state.step < steps:  # the record of the former end is none of a longer run
        rows = [row for row in rows if row["steps"] % kept == 0]
    return state, rows, kept


def _check_start(row: Row) -> None:
    for name, number in (("risk", row["risk"]), ("gradient of the risk", row["slope"])):
        if not np.isfinite(number):
            raise ValueError(
                f"the {name} must be finite at the start; got {number}. Look for NaN or infinity "
                "in `data` and in `net.params.points`, and at `loss` itself: a square root or a "
                "norm at zero has a finite value and no derivative."
            )


def _row(run: _Run, state: FlowState, least_before: float) -> Row:
    return row_of(run.problem, run.method, state, run.start, run.data, run.record, least_before)


def _owner(run: _Run) -> str:
    """What a checkpoint must belong to."""
    return digest(
        net=run.problem.net(run.start),
        loss=run.problem.loss,
        data=run.data,
        method=run.method,
        batches=run.batches,
        record=run.record,
    )


def _with_arrays(method: AbstractMethod, dtype: Any) -> AbstractMethod:
    """The method with its numbers as arguments of the program, in the precision of the run."""

    def convert(leaf):
        return jnp.asarray(leaf, dtype) if isinstance(leaf, float) else leaf

    return jax.tree.map(convert, method)


def _examples(data: Data) -> int:
    """The number of examples."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError(f"`data` must be a pair (x, y); got {type(data).__name__}.")
    lengths = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(lengths) == 1:
        return lengths.pop()
    raise ValueError(
        f"`data` must be (x, y) with as many examples in x as in y; got {sorted(lengths)}."
    )


def _check_fit(problem: TrainingProblem, start: PyTree, data: Data) -> None:
    """Raises ValueError, with the shapes, where the network or the loss do not take the data."""
    try:
        jax.eval_shape(problem.risk, start, data)
    except (TypeError, ValueError) as error:
        x, y = ([jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(part)] for part in data)
        raise ValueError(
            f"`net` and `loss` must take `data`; got inputs of shape {x} and targets of shape {y} "
            f"each, and particles of shape {start.params.points.shape}: {error}"
        ) from error


def _tell(result: Any, step: int, throw: bool) -> None:
    if result == RESULTS.successful:
        return
    if throw and result in (RESULTS.risk_not_finite, RESULTS.gradient_not_finite):
        raise RuntimeError(f"{RESULTS[result]} The last finite record is that of step {step}.")
    warnings.warn(RESULTS[result], RuntimeWarning, stacklevel=3)
