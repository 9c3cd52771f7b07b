"""Audits of weights that came without a config.json, and of two models under one path."""

import concurrent.futures
import multiprocessing
import shutil

import equinox as eqx
import jax.random as jr
import numpy as np
import pytest

import meanfield as mf
from meanfield.audits import ResumeError
from meanfield.audits.settings import AuditSettings
from meanfield.models import Architecture, zoo


pytestmark = pytest.mark.slow
SETTINGS = AuditSettings(metrics=("local",), rtol=1e-5)
IDS = np.arange(12) % 7


@pytest.fixture
def bare(tmp_path):
    return shutil.copy(
        zoo.path("shakespeare-gpt") / "model.safetensors", tmp_path / "w.safetensors"
    )


def audited(model, **more):
    return mf.audit(model, IDS, key=jr.key(0), settings=SETTINGS, **more)


def test_bare_weights_have_the_constants_of_the_model(bare):
    told = audited(mf.models.load(bare, architecture=Architecture("gpt2", heads=4)))
    whole = audited("shakespeare-gpt")
    assert [row.local.value for row in told.rows] == [row.local.value for row in whole.rows]
    assert told.model.assumed["activation_function"] == "gelu_new"
    assert "n_head" not in told.model.assumed and not whole.model.assumed


def test_another_process_is_told_too(bare):
    model = mf.models.load(bare, architecture=Architecture("gpt2", heads=4))
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as executor:
        away = audited(model, executor=executor)
    assert [row.local.value for row in away.rows] == pytest.approx(
        [row.local.value for row in audited(model).rows], rel=1e-5
    )


def test_two_tellings_of_one_file_are_two_models(bare, tmp_path):
    four, two = (
        mf.models.load(bare, architecture=Architecture("gpt2", heads=heads)) for heads in (4, 2)
    )
    journal = tmp_path / "rows.jsonl"
    first = audited(four, journal=journal)
    with pytest.raises(ResumeError, match="another audit"):
        audited(two, journal=journal, resume=True)
    second = audited(two)
    assert len(second.rows[0].heads) == 2
    assert first.rows[0].local.value != second.rows[0].local.value


def test_a_model_that_was_changed_is_measured_anew():
    model = mf.models.load("shakespeare-gpt")
    before = audited(model).rows[0].local.value
    where = lambda m: m.layers[0].attention.attention.output_proj  # noqa: E731
    doubled = eqx.tree_at(where, model, 2 * where(model))
    assert audited(doubled).rows[0].local.value == pytest.approx(2 * before, rel=1e-3)
