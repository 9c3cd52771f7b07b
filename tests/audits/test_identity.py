"""What is audited is identified by its tensors, not by the file that they once came from."""

import concurrent.futures
import multiprocessing

import equinox as eqx
import jax
import jax.random as jr
import pytest

import meanfield as mf
from meanfield.audits import ResumeError
from meanfield.audits.identity import hashes_of, name_of, tensor_hash
from meanfield.audits.inputs import InputError
from meanfield.audits.settings import AuditSettings


KEY = jr.key(0)
QUICK = AuditSettings(metrics=("local",), layers=(0,), max_tokens=16)
TEXT = "the quick brown fox"


def _changed(model, factor=1.5):
    """The model with the values of its first layer scaled."""

    def scaled(leaf):
        return leaf * factor if eqx.is_inexact_array_like(leaf) else leaf

    return eqx.tree_at(
        lambda m: m.layers[0].attention, model, jax.tree.map(scaled, model.layers[0].attention)
    )


@pytest.fixture(scope="module")
def model():
    return mf.models.load("shakespeare-gpt")


def test_the_hashes_are_of_the_files_only_where_the_tensors_are_theirs(model):
    own, other = hashes_of(model), hashes_of(_changed(model))
    assert set(own) == {*model.hashes, "tensors"}
    assert set(other) == {"tensors"} and other["tensors"] != own["tensors"]
    assert name_of(model, own) == str(model.path) and str(model.path) not in name_of(model, other)
    assert tensor_hash(mf.models.load("shakespeare-gpt")) == own["tensors"]
    assert tensor_hash(_changed(model)) == other["tensors"]


@pytest.mark.slow
def test_a_model_changed_in_memory_does_not_take_up_the_journal_of_the_file(model, tmp_path):
    with jax.enable_x64(False):
        told = mf.audit(model, TEXT, key=KEY, settings=QUICK, journal=tmp_path / "a.jsonl")
        other = _changed(model)
        with pytest.raises(ResumeError, match="model"):
            mf.audit(
                other, TEXT, key=KEY, settings=QUICK, journal=tmp_path / "a.jsonl", resume=True
            )
        changed = mf.audit(other, TEXT, key=KEY, settings=QUICK)
        again = mf.audit(model, TEXT, key=KEY, settings=QUICK)
    assert changed.rows[0].local.value != told.rows[0].local.value
    assert again.rows == told.rows
    assert "tensors" in changed.model.hashes and len(changed.model.hashes) == 1


@pytest.mark.slow
def test_processes_do_not_audit_the_file_in_place_of_the_model(model):
    spawn = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as executor,
        pytest.raises(InputError, match="in memory only"),
    ):
        mf.audit(_changed(model), TEXT, key=KEY, settings=QUICK, executor=executor)
