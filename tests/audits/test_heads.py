"""Auditing some heads only: their rows, and nothing else, are those of the whole audit."""

import dataclasses
import re

import jax.random as jr
import pytest
from audit_toy import TEXT, toy

import meanfield as mf
from meanfield.audits.inputs import InputError
from meanfield.audits.settings import AuditSettings
from meanfield.report import heads_csv, html, markdown


SETTINGS = AuditSettings(
    dtype="f64", max_tokens=32, rtol=1e-7, metrics=("local", "heads", "entropy")
)


def audited(heads=None):
    settings = dataclasses.replace(SETTINGS, heads=heads)
    return mf.audit(toy(heads=4), TEXT, key=jr.key(0), settings=settings)


@pytest.fixture(scope="module")
def pair():
    return audited(), audited((3, 1))


@pytest.mark.slow
def test_chosen_heads_have_the_rows_that_they_have_among_all(pair):
    whole, some = pair
    for one, other in zip(whole.rows, some.rows, strict=True):
        assert [head.head for head in other.heads] == [1, 3]
        for head in other.heads:
            alike = one.heads[head.head]
            assert head.value == pytest.approx(alike.value, rel=1e-6)
            assert head.entropy == pytest.approx(alike.entropy)
            assert (head.score_min, head.score_max) == pytest.approx(
                (alike.score_min, alike.score_max)
            )


@pytest.mark.slow
def test_a_layer_is_still_all_its_heads_together(pair):
    whole, some = pair
    for one, other in zip(whole.layers, some.layers, strict=True):
        assert one.local.value == other.local.value
        assert one.heads_sum is not None and other.heads_sum is None
        assert other.worst_head in (1, 3)


@pytest.mark.slow
def test_reports_show_the_chosen_heads_alone(pair):
    _, some = pair
    page = html(some)
    assert set(re.findall(r'<th scope="col">h(\d)</th>', page)) == {"1", "3"}
    assert "heads 1, 3 of 4" in page and "heads 1, 3 of 4" in markdown(some)
    lines = [line.split(",")[2] for line in heads_csv(some).splitlines()[1:]]
    assert lines == ["", "1", "3"] * 2


@pytest.mark.parametrize("heads", [(), (4,), (-1,), (0, 9)])
def test_heads_that_are_not_there_are_refused(heads):
    with pytest.raises(InputError, match=r"`heads` must be among 0\.\.3"):
        audited(heads)
