"""Exponents of growth, their intervals, and jumps."""

import dataclasses

import numpy as np
import pytest
from audit_specimen import specimen

from meanfield.audits.growth import jumps, ladder, pooled_slope, summarise


ROW = specimen().rows[0]


def rows_of(curves):
    return [dataclasses.replace(ROW, lengths=n, constants=c) for n, c in curves]


def test_the_ladder_doubles_and_ends_at_the_whole():
    assert ladder(128) == (16, 32, 64, 128)
    assert ladder(200) == (16, 32, 64, 128, 200)
    assert ladder(130) == (16, 32, 64, 130)  # 128 and 130 would be one point twice
    assert ladder(16) == (16,) and ladder(5) == (5,)


@pytest.mark.parametrize("inputs, method", [(1, "residuals"), (2, "residuals"), (4, "bootstrap")])
def test_a_power_law_is_found_with_a_tight_interval(inputs, method):
    n = np.array([16, 32, 64, 128, 256])
    curves = [(tuple(n.tolist()), tuple(((1 + i) * n**0.3).tolist())) for i in range(inputs)]
    found = summarise(0, rows_of(curves), jump=1.8)
    assert found.exponent == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3, 0.3))
    assert found.method == method and found.jumps == ()


def test_the_interval_covers_the_exponent_of_noisy_curves(seed):
    rng = np.random.default_rng(seed)
    n = np.array([16, 32, 64, 128, 256])
    covered = 0
    for trial in range(40):
        curves = [
            (tuple(n.tolist()), tuple((n**0.25 * rng.lognormal(0, 0.1, 5)).tolist()))
            for _ in range(8)
        ]
        found = summarise(0, rows_of(curves), jump=10.0, seed=trial)
        covered += found.low <= 0.25 <= found.high
    assert covered >= 30  # 95 % nominal; eight inputs make the bootstrap a little short


def test_a_jump_is_found_where_it_is():
    found = jumps([((16, 32, 64, 128, 256), (4.0, 4.2, 4.5, 4.8, 13.3))], 1.8)
    assert [(jump.before, jump.after) for jump in found] == [(128, 256)]
    assert found[0].factor == pytest.approx(13.3 / 4.8)


def test_one_odd_input_among_many_is_not_a_jump():
    steady, odd = ((16, 32), (1.0, 1.2)), ((16, 32), (1.0, 2.5))
    assert jumps([odd], 1.8) and not jumps([odd, steady, steady], 1.8)


def test_missing_values_are_left_out_and_one_point_has_no_exponent():
    found = summarise(0, rows_of([((16, 32, 64), (2.0, None, 4.0))]), jump=9.0)
    assert found.lengths == (16, 64) and found.exponent == pytest.approx(0.5)
    assert found.low is None
    assert summarise(0, rows_of([((16,), (2.0,))]), jump=9.0).exponent is None


def test_the_slope_is_that_of_numpy(seed):
    rng = np.random.default_rng(seed)
    n, c = (8, 11, 30, 100), tuple(rng.lognormal(0, 1, 4).tolist())
    assert pooled_slope([(n, c)]) == pytest.approx(np.polyfit(np.log(n), np.log(c), 1)[0])
