"""Thresholds are parsed, never evaluated; a missing value never passes."""

import dataclasses

import pytest
from audit_specimen import specimen

from meanfield.audits.record import Check
from meanfield.audits.thresholds import (
    ThresholdError,
    check,
    fraction,
    is_culprit,
    judge,
    parse,
)


AUDIT = specimen()  # local constants 4, 5, 6, 7 at the first input and a quarter more at the second


@pytest.mark.parametrize(
    "expression, value, passed",
    [
        ("local.max>50", 7.25, True),
        ("local.max > 7", 7.25, False),
        ("local.min<4.5", 4.25, False),
        ("local.median>=5.75", 5.75, False),
        ("local[3]>7.2", 7.25, False),
        ("local[3].max<=7.2", 7.25, True),
        ("smooth[1]>5", 5.25, False),
        ("split.max>3.7", 3.625, True),
        ("heads.max>3.6", 3.625, False),
        ("heads[3][0]>3.7", 3.625, True),
        ("heads[0][2].max>1", 1.0625, False),
        ("radius.max>12.5", 13.0, False),
        ("share[0]>0.5", 0.9, False),
        ("upper.min<1e1", 10.625, True),
        ("growth[1]>0.5", None, True),
    ],
)
def test_expressions_mean_what_they_say(expression, value, passed):
    found = check(parse(expression), AUDIT)
    assert found.passed is passed
    if value is not None:
        assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "local",
        "local.max",
        "local.max>",
        "local.max=5",
        "local.max>5>6",
        "local.max>nan",
        "local.max>inf",
        "locl.max>5",
        "local.mean>5",
        "local[-1]>5",
        "local[3][5]>5",
        "local.__class__>5",
        "__import__('os').system('true')>0",
        "local.max>5; print(1)",
        "local.max>5\nx",
        "split[0.01].max>500",
    ],
)
def test_everything_else_is_refused(expression):
    with pytest.raises(ThresholdError):
        parse(expression)


@pytest.mark.parametrize("expression", ["entropy[99]>0", "heads[0][9]>0", "entropy[0]>0.9"])
def test_a_missing_value_never_passes(expression):
    layers = tuple(dataclasses.replace(layer, entropy=None) for layer in AUDIT.layers)
    assert not check(parse(expression), dataclasses.replace(AUDIT, layers=layers)).passed


def test_a_baseline_allows_a_fraction_and_no_more():
    local = dataclasses.replace(AUDIT.layers[2].local, value=7.0)  # was 6.25
    layers = (*AUDIT.layers[:2], dataclasses.replace(AUDIT.layers[2], local=local), AUDIT.layers[3])
    worse = dataclasses.replace(AUDIT, layers=layers)
    assert judge(worse, baseline=AUDIT, regress=0.13).passed
    failed = [
        c.expression for c in judge(worse, baseline=AUDIT, regress=0.1).checks if not c.passed
    ]
    assert len(failed) == 1 and "[2]" in failed[0]


def test_a_layer_that_the_baseline_lacks_does_not_pass():
    old = dataclasses.replace(AUDIT, layers=AUDIT.layers[:3])
    assert [c.passed for c in judge(AUDIT, baseline=old).checks] == [True, True, True, False]


def test_fractions():
    assert fraction("10%") == pytest.approx(0.1) and fraction("0.25") == 0.25
    for text in ("", "ten", "-1%", "nan", "inf"):
        with pytest.raises(ThresholdError):
            fraction(text)


def test_layers_that_break_a_threshold_are_its_culprits():
    failed = judge(AUDIT, ["local.max>6", "local[0]>1"]).checks
    found = [[layer.layer for layer in AUDIT.layers if is_culprit(c, layer)] for c in failed]
    assert found == [[2, 3], [0]]
    baseline = Check("local[2] > baseline + 0.1", 9.0, 5.0, False)
    assert [is_culprit(baseline, layer) for layer in AUDIT.layers] == [False, False, True, False]
