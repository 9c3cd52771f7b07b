"""Attacks and certificates in an audit: the numbers are those of the library, and they agree."""

import concurrent.futures
import dataclasses
import json
import pickle

import jax.numpy as jnp
import jax.random as jr
import jsonschema
import numpy as np
import pytest
from audit_toy import TEXT, toy

import meanfield as mf
from meanfield.attention import MLP, Composition, LayerNorm, Residual
from meanfield.audits import AuditSettings, InputError, ResumeError, document
from meanfield.audits.attacked import separation
from meanfield.audits.domains import holds, norm_range
from meanfield.audits.limits import live
from meanfield.audits.schema import schema
from meanfield.audits.task import run_task
from meanfield.measure import ConditionalMeasure, Measure


slow = pytest.mark.slow

KEY = jr.key(0)
ATTACKED = AuditSettings(
    dtype="f64",
    max_tokens=12,
    metrics=("local", "attack", "certify", "whole"),
    fractions=(0.5, 0.05),
    radii=(1e-3, 3e-2),
    attack_steps=24,
    attack_starts=1,
)


def deep():
    """The toy with blocks, a norm before the first of them and one after each: post-norm."""
    model = toy()
    keys = jr.split(jr.key(8), 2)
    norm = LayerNorm(jnp.linspace(0.5, 1.5, 4), 0.1 * jnp.ones(4))
    perceptrons = [
        MLP(jr.normal(key, (6, 4)) / 4, jnp.zeros(6), jr.normal(key, (4, 6)) / 4, jnp.zeros(4))
        for key in keys
    ]
    for layer, perceptron in zip(model.layers, perceptrons, strict=True):
        layer.block = Composition([Residual(layer.attention), norm, Residual(perceptron), norm])
    model.entry, embedded = norm, model.contexts

    def contexts(ids):
        mu = norm(embedded(ids)[0])
        return mu, model.layers[0].block(mu)

    model.contexts = contexts
    model.hidden = lambda ids: jnp.stack([mu.points for mu in contexts(ids)])
    return model


def audited(model=None, settings=ATTACKED, **more):
    return mf.audit(model or deep(), TEXT, key=KEY, settings=settings, **more)


@pytest.fixture(scope="module")
def audit():
    return audited()


@slow
def test_attacks_are_below_certificates_and_exact_ratios_below_those_of_couplings(audit):
    assert audit.complete and len(audit.rows) == 2 and len(audit.whole) == 1
    for row in audit.rows:
        assert [p.radius for p in row.radii] == [1e-3, 3e-2] and all(p.separated for p in row.radii)
        for point in row.radii:
            assert point.attack <= 10**point.certificate.log10
        assert row.radii[0].attack == pytest.approx(row.local.smooth, rel=0.02)
        assert 10 ** row.radii[0].certificate.log10 >= row.local.value
        for point in row.peeling.points:
            assert point.ratio <= point.coupling_ratio * (1 + 1e-9)
            assert point.ratio == pytest.approx(point.distance_out / point.distance_in)


@slow
def test_the_curve_is_that_of_the_library(audit):
    from meanfield.attacks import MassPeeling, attack

    task_key = jr.fold_in(jr.fold_in(KEY, 0), 1)
    model, row = deep(), audit.rows[1]
    ids = np.append(model.tokenize(TEXT)[:11], model.tokenize(TEXT)[-1])
    mu, f = model.contexts(ids)[1], model.layers[1].attention
    method = MassPeeling((0.5, 0.05), norm_range(model, 1, "f64"), starts=1, steps=24)
    found = attack(f, mu, method, key=jr.fold_in(task_key, 101))
    assert [p.ratio for p in row.peeling.points] == pytest.approx(np.asarray(found.ratio), rel=1e-6)
    assert row.peeling.domain == "layernorm"
    assert row.peeling.index == int(found.stats["atom"])


@slow
def test_all_blocks_are_one_map(audit):
    model, whole = deep(), audit.whole[0]
    ids = np.append(model.tokenize(TEXT)[:11], model.tokenize(TEXT)[-1])
    mu = Measure(model.hidden(ids)[0])
    f = Composition(layer.block for layer in model.layers)
    settings = {"rtol": 1e-8, "max_steps": 100, "upper": False, "throw": False}  # as in the audit
    exact = mf.local_lipschitz(f, mu, key=jr.key(1), **settings)
    assert whole.local.value == pytest.approx(float(exact.value), rel=1e-3)
    assert whole.local.split == pytest.approx(float(exact.split), rel=1e-3)
    assert whole.local.lower <= whole.local.value and whole.local.upper is None
    dense = np.asarray(jnp.asarray(_dense(f, mu)))
    assert whole.local.smooth == pytest.approx(np.linalg.norm(dense, 2), rel=1e-3)
    assert whole.peeling is not None and whole.radii[0].attack > 0
    assert whole.radii[0].certificate is None


def _dense(f, mu):
    import jax

    jacobian = jax.jacobian(lambda x: f(Measure(x)).points)(mu.points)
    return jacobian.reshape(mu.points.size, mu.points.size)  # equal masses: no weights


@slow
def test_the_record_is_valid_and_comes_back(audit):
    text = document.to_json(audit)
    jsonschema.validate(json.loads(text), schema())
    assert document.from_json(text) == audit


@slow
def test_tasks_are_pickled_and_give_the_same_rows_whoever_runs_them(audit):
    class Pickling(concurrent.futures.Executor):
        def submit(self, fn, task):
            future = concurrent.futures.Future()
            future.set_result(pickle.loads(pickle.dumps(fn(pickle.loads(pickle.dumps(task))))))
            return future

    settings = dataclasses.replace(ATTACKED, layers=(0,))
    there = audited(settings=settings, executor=Pickling())
    assert there.rows == audit.rows[:1] and there.whole == audit.whole


@slow
def test_an_audit_that_was_stopped_before_the_blocks_goes_on(audit, tmp_path, monkeypatch):
    import sys

    ran, path = [], tmp_path / "partial.jsonl"

    def counted(task):
        ran.append(task.layer)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return run_task(task)

    monkeypatch.setattr(sys.modules["meanfield.audits.audit"], "run_task", counted)
    partial = audited(journal=path)
    assert partial.status == "partial" and not partial.whole and len(partial.rows) == 2
    with pytest.raises(ResumeError):
        more = dataclasses.replace(ATTACKED, fractions=(0.5,))
        audited(settings=more, journal=path, resume=True)
    resumed = audited(journal=path, resume=True)
    assert resumed.rows == audit.rows and resumed.whole == audit.whole
    assert ran == [0, 1, None, None]


@slow
def test_a_plain_audit_has_the_same_numbers_and_none_of_these(audit):
    plain = audited(settings=dataclasses.replace(ATTACKED, metrics=("local",)))
    assert [row.local for row in plain.rows] == [row.local for row in audit.rows]
    assert not plain.whole and plain.rows[0].peeling is None and plain.rows[0].radii == ()


@slow
def test_a_certificate_that_is_not_to_be_had_is_a_warning_not_a_number(monkeypatch):
    def refuse(*args, **kwargs):
        raise TypeError("`f` has no certificate on a ball")

    monkeypatch.setattr("meanfield.audits.attacked.certificate_curve", refuse)
    settings = dataclasses.replace(ATTACKED, metrics=("local", "certify"), layers=(0,))
    found = audited(settings=settings)
    assert found.complete and found.rows[0].radii[0].certificate.log10 is None
    assert any("no certificate" in warning.message for warning in found.warnings)


def test_blocks_are_asked_for_before_anything_is_computed():
    with pytest.raises(InputError, match="blocks"):
        audited(toy())


@slow
def test_domains_are_ranges_of_the_norms_before_layers():
    model = deep()
    for layer in (0, 1, None):
        domain = norm_range(model, layer, "f64")
        ids = model.tokenize(TEXT)
        mu = model.contexts(ids)[layer or 0]
        assert domain is not None and holds(domain, mu)
        assert not holds(domain, Measure(3 * mu.points))
    assert norm_range(toy(), 0, "f64") is None


def test_the_separation_ignores_copies_and_absent_atoms():
    x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.1, 0.0]])
    assert separation(Measure(x, [0.5, 0.25, 0.25, 0.0])) == pytest.approx(5.0)
    assert separation(Measure(x[:1])) == np.inf
    assert separation(ConditionalMeasure.from_sequence(x)) == np.inf


def test_attacks_need_more_memory_than_constants_and_settings_are_checked():
    assert live(AuditSettings(), 6) == 1 < live(ATTACKED, 6)
    for wrong in ({"fractions": (0.0,)}, {"fractions": ()}, {"radii": (-1.0,)}, {"domain": "cube"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            dataclasses.replace(ATTACKED, **wrong)
