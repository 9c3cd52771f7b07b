"""The audit of a small model: numbers, summaries, resuming, limits, executors."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import jsonschema
import numpy as np
import pytest
from audit_toy import TEXT, toy

import meanfield as mf
from meanfield.audits import LimitError, ResumeError, document
from meanfield.audits.attending import head_facts, stack_heads
from meanfield.audits.inputs import InputError
from meanfield.audits.schema import schema
from meanfield.audits.settings import METRICS, AuditSettings
from meanfield.audits.task import run_task
from meanfield.lipschitz import local_lipschitz
from meanfield.models import zoo


pytestmark = pytest.mark.slow  # compiling

KEY = jr.key(0)
QUICK = AuditSettings(dtype="f64", max_tokens=32, rtol=1e-7, metrics=("local", "heads", "entropy"))


def audited(model=None, inputs=TEXT, settings=QUICK, **more):
    return mf.audit(model or toy(), inputs, key=KEY, settings=settings, **more)


@pytest.fixture(scope="module")
def whole():
    return audited(settings=dataclasses.replace(QUICK, metrics=METRICS))


def test_the_numbers_are_those_of_local_lipschitz(whole):
    model = toy()
    ids = model.tokenize(TEXT)
    ids = np.append(ids[:31], ids[-1])
    for row, layer, mu in zip(whole.rows, model.layers, model.contexts(ids), strict=True):
        exact = local_lipschitz(layer.attention, mu, key=jr.key(1), rtol=1e-8)
        assert row.local.value == pytest.approx(float(exact.value), rel=1e-6)
        assert row.local.split == pytest.approx(float(exact.split), rel=1e-6)
        assert row.local.lower <= row.local.value <= row.local.upper
        assert row.radius == pytest.approx(float(mu.radius))
        for head, alone in zip(row.heads, layer.attention.heads, strict=True):
            one = local_lipschitz(alone, mu, key=jr.key(2), rtol=1e-8)
            assert head.smooth == pytest.approx(float(one.smooth), rel=1e-6)
            assert head.value == pytest.approx(float(one.value), rel=1e-6)


def test_entropy_and_scores_are_those_of_numpy(whole):
    model = toy()
    ids = np.append(model.tokenize(TEXT)[:31], model.tokenize(TEXT)[-1])
    mu, attention = model.contexts(ids)[0], model.layers[0].attention
    shares, scores = np.asarray(attention.weights(mu)), np.asarray(attention.scores(mu))
    entropy = -(shares * np.log(shares)).sum(-1).mean(-1) / np.log(len(ids))
    for h, head in enumerate(whole.rows[0].heads):
        assert head.entropy == pytest.approx(entropy[h])
        assert head.max_attention == pytest.approx(shares[h].max())
        assert head.sink == pytest.approx(shares[h].mean(0).max())
        assert (head.score_min, head.score_max) == pytest.approx((scores[h].min(), scores[h].max()))


def test_the_causal_entropy_counts_what_each_query_sees():
    model = toy(causal=True)
    ids = np.append(model.tokenize(TEXT)[:31], model.tokenize(TEXT)[-1])
    mu, attention = model.contexts(ids)[0], model.layers[0].attention
    stack = stack_heads(attention.heads)
    found = head_facts(stack.arrays, stack.rest, mu.pad(40), jnp.asarray(32.0))
    shares = np.asarray(attention.weights(mu))[0][1:]
    seen = np.arange(2, 33)
    logs = np.log(np.where(shares > 0, shares, 1))
    expected = (-(shares * logs).sum(-1) / np.log(seen)).mean()
    assert float(found.entropy[0]) == pytest.approx(expected)


def test_the_bounds_are_above_and_the_record_is_valid(whole):
    for row in whole.rows:
        logs = [row.bounds.tokens.log10, row.bounds.mean_field.log10, row.bounds.uniform.log10]
        assert min(logs[:2]) >= np.log10(row.local.value)
        assert all(head.bounds.tokens.log10 >= np.log10(head.value) for head in row.heads)
        assert sum(row.shares) == pytest.approx(1, abs=1e-4)
        assert row.worst_tokens[0].share == max(row.shares)
    jsonschema.validate(json.loads(document.to_json(whole)), schema())
    assert whole.complete and not whole.warnings


def test_the_prefixes_of_the_growth_curve_are_read_again_by_the_model(whole):
    model = toy()
    row = whole.rows[1]
    assert row.lengths == (16, 32) and row.constants[-1] == row.local.value
    ids = model.tokenize(TEXT)
    prefix = np.append(ids[:15], ids[-1])
    mu = model.contexts(prefix)[1]
    value = local_lipschitz(model.layers[1].attention, mu, key=KEY, rtol=1e-8).value
    assert row.constants[0] == pytest.approx(float(value), rel=1e-6)


def test_a_position_at_which_behaviour_changes_is_flagged():
    settings = dataclasses.replace(QUICK, metrics=("local", "growth"))
    audit = audited(toy(strange=16), settings=settings)
    (jump,) = audit.growth[0].jumps
    assert (jump.before, jump.after) == (16, 32)
    assert any("near position 16" in warning.message for warning in audit.warnings)
    assert not audited(settings=settings).growth[0].jumps


def test_merging_equal_tokens_changes_no_number():
    states = np.asarray(jr.normal(KEY, (2, 9, 4), jnp.float32))
    states = np.concatenate([states, states[:, :5]], axis=1)
    plain, merged = (
        audited(inputs=states, settings=dataclasses.replace(QUICK, dedup=dedup))
        for dedup in (False, True)
    )
    for one, other in zip(plain.rows, merged.rows, strict=True):
        assert (one.atoms, other.atoms) == (14, 9)
        assert one.local.value == pytest.approx(other.local.value, rel=1e-6)
        assert one.heads[0].entropy == pytest.approx(other.heads[0].entropy)


def test_a_killed_audit_goes_on_with_nothing_lost_and_nothing_twice(tmp_path, monkeypatch):
    inputs, path, ran = ["one two", "three four", "five six"], tmp_path / "partial.jsonl", []
    reference = audited(inputs=inputs)

    def counted(one):
        ran.append((one.input, one.layer))
        if len(ran) == 4:
            raise KeyboardInterrupt
        return run_task(one)

    monkeypatch.setattr(sys.modules["meanfield.audits.audit"], "run_task", counted)
    partial = audited(inputs=inputs, journal=path)
    assert partial.status == "partial" and len(partial.rows) == 3
    resumed = audited(inputs=inputs, journal=path, resume=True)
    assert resumed.rows == reference.rows and resumed.complete
    assert len(ran) == 7 and len(set(ran)) == 6  # only the row that was cut short ran again


def test_a_journal_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "partial.jsonl"
    limit = dataclasses.replace(QUICK, time_limit=0.0)
    audited(settings=limit, journal=path)
    with pytest.raises(ResumeError):
        audited(settings=dataclasses.replace(QUICK, rtol=1e-2), journal=path, resume=True)
    assert audited(journal=path, resume=True).complete  # limits change no number


def test_no_row_is_started_after_the_time_limit():
    audit = audited(settings=dataclasses.replace(QUICK, time_limit=0.0))
    assert audit.status == "partial" and not audit.rows and not audit.layers


def test_the_memory_estimate_names_the_length_that_fits():
    with pytest.raises(LimitError) as error:
        audited(settings=dataclasses.replace(QUICK, memory_limit=100_000))
    fits = int(str(error.value).split("--max-tokens ")[1].split()[0])
    assert 2 <= fits < 32
    audited(settings=dataclasses.replace(QUICK, memory_limit=100_000, max_tokens=fits, layers=(0,)))


def test_layers_are_chosen_and_checked():
    assert [r.layer for r in audited(settings=dataclasses.replace(QUICK, layers=(1,))).rows] == [1]
    with pytest.raises(InputError, match=r"among 0\.\.1"):
        audited(settings=dataclasses.replace(QUICK, layers=(2,)))


def test_a_measurement_that_fails_costs_a_warning_not_the_row(monkeypatch):
    def refuse(*args, **kwargs):
        raise TypeError("no theorem covers this map")

    monkeypatch.setattr("meanfield.audits.bounds.lipschitz_bound", refuse)
    audit = audited(settings=dataclasses.replace(QUICK, metrics=("local", "bounds")))
    assert audit.complete and audit.rows[0].bounds.tokens.log10 is None
    assert audit.rows[0].local.value > 0
    assert any("no theorem" in warning.message for warning in audit.warnings)


def test_threads_give_the_same_rows():
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        assert audited(executor=executor).rows == audited().rows


def test_processes_give_the_same_rows():
    settings = AuditSettings(metrics=("local", "entropy"))
    images = zoo.sample_images()[:2]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as executor:
        there = mf.audit("digits-vit", images, key=KEY, settings=settings, executor=executor)
    with jax.enable_x64(False):
        here = mf.audit("digits-vit", images, key=KEY, settings=settings)
    assert there.rows == here.rows and len(here.rows) == 4


def test_progress_is_told_after_every_row():
    told = []
    audited(progress=lambda done, total, what: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_the_printed_audit_says_what_is_asked_first(whole):
    assert "worst layer" in repr(whole) and "complete" in repr(whole) and len(repr(whole)) < 100


class _Dying(concurrent.futures.ThreadPoolExecutor):
    """An executor whose workers die after the first row."""

    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        if args[0].layer == 0:
            return future
        broken = concurrent.futures.Future()
        broken.set_exception(concurrent.futures.BrokenExecutor("died"))
        return broken


def test_a_worker_that_dies_does_not_cost_the_run():
    with _Dying(1) as executor, pytest.warns(RuntimeWarning, match="1 rows"):
        found = audited(executor=executor)
    assert found.complete and found.rows == audited().rows


def test_rows_are_kept_when_memory_runs_out_after_them(monkeypatch):
    def short(task):
        if task.layer == 1:
            raise MemoryError("out of memory")
        return run_task(task)

    monkeypatch.setattr(sys.modules["meanfield.audits.audit"], "run_task", short)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        found = audited()
    assert found.status == "partial" and [row.layer for row in found.rows] == [0]
