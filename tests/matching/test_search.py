"""What the search gives up: starts that met, optima that are zero, optima out of the sample's
error."""

import json
import os
import pathlib
import subprocess
import sys

import jax.random as jr
import numpy as np
import pytest
from matching_problems import random_measure, skewed_points
from numpy.testing import assert_allclose

from meanfield import Measure
from meanfield.matching import Alternation, CostRegularized
from meanfield.matching.descent import begun, completed, descend, objectives
from meanfield.matching.ladder import ladder
from meanfield.matching.optima import contenders, gap, grouped
from meanfield.matching.search import schedule_of
from meanfield.matching.starts import sign_starts
from meanfield.matching.turns import Way


ON_DEVICES = pathlib.Path(__file__).with_name("match_on_devices.py")


def test_transforms_that_are_zero_up_to_rounding_are_one_optimum(rng):
    """Relative distances between rounding errors say nothing: below the floor size is the floor."""
    zeros = 1e-9 * rng.normal(size=(5, 2, 3))
    objective = rng.normal(size=5)
    assert len(np.unique(grouped(zeros, objective, floor=0.0))) == 5
    assert len(np.unique(grouped(zeros, objective, floor=1e-6))) == 1
    apart = np.concatenate([zeros, np.ones((1, 2, 3))])
    assert len(np.unique(grouped(apart, np.append(objective, 0.0), floor=1e-6))) == 2


def test_optima_are_numbered_from_the_lowest_objective_up(rng):
    first, second = rng.normal(size=(2, 2, 3))
    transforms = np.stack([first, second, 1.01 * first, second])
    optimum = grouped(transforms, np.array([2.0, 1.0, 3.0, 1.5]), 1e-6)
    assert optimum.tolist() == [1, 0, 1, 0]
    assert_allclose(gap(np.array([2.0, 1.0, 3.0, 1.5]), optimum), 1.0)


def test_rungs_of_the_ladder_grow_to_all_atoms(rng):
    task = CostRegularized().task(random_measure(rng, 300, 3), random_measure(rng, 20, 2))
    sizes = [(len(t.a), len(t.b)) for t in ladder(task, 20, jr.key(0))]
    assert sizes == [(20, 20), (77, 20), (300, 20)]
    assert len(ladder(task, 200, jr.key(0))) == len(ladder(task, None, jr.key(0))) == 1


@pytest.mark.slow
def test_starts_that_meet_end_where_each_would_alone(rng):
    task = CostRegularized().task(random_measure(rng, 14, 3), random_measure(rng, 11, 2))
    schedule = schedule_of(task, Alternation(0.2), 2.0)
    starts = np.concatenate([sign_starts(task.moments, 2)] * 2)
    starts[4:] *= 1.5
    going = np.ones(8, bool)
    at = descend(task, begun(task, starts), schedule, Way("kept"), going)
    assert not at.alone.all() and (at.steps[~at.alone] < at.steps[at.alone].max()).all()
    for k in np.nonzero(~at.alone)[0][:2]:
        lone = descend(task, begun(task, starts), schedule, Way("kept"), np.arange(8) == k)
        assert_allclose(at.transforms[k], lone.transforms[k], atol=0.02 * np.abs(starts).max())


@pytest.mark.slow
def test_differences_on_a_sample_are_within_their_standard_error(rng):
    """The rule that gives optima up: standard scores of objectives on samples are about one, and
    the best one on all atoms is never lost."""
    x = skewed_points(rng, 150, 3)
    task = CostRegularized().task(Measure(x), Measure(x[:, :2]))
    schedule = schedule_of(task, Alternation(0.2), 2.0)
    starts = sign_starts(task.moments, 2)

    def settled(task, transforms, hottest):
        going = np.ones(len(transforms), bool)
        at = begun(task, transforms)
        at = descend(task, at, schedule._replace(hottest=hottest), Way("kept"), going)
        return completed(task, at, schedule.epsilon, 1e-5, 500, Way("kept"), at.alone)

    whole = settled(task, starts, 2.0)
    on_all = objectives(task, whole)
    best, scores = int(np.argmin(on_all)), []
    for k in range(12):
        small = ladder(task, 60, jr.key(k))[0]
        at = settled(small, whole.transforms, 1.0)
        found = objectives(small, at)
        assert contenders(small, task, at, found)[best]
        scores.append((found - found[best] - on_all + on_all[best]) / np.ptp(on_all))
    given_up = ~contenders(task, task, whole, on_all)  # all atoms: no error, one optimum is left
    assert given_up.sum() == np.sum(on_all > on_all.min() + 1e-12)
    assert np.abs(np.mean(scores)) < 0.3


def run(task: str):
    command = [sys.executable, str(ON_DEVICES), task]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    out = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert out.returncode == 0, out.stderr[-3000:]
    return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_devices_find_what_one_finds():
    one, two = run("agree")
    assert len(one) == 4 + 6 and np.isfinite(one).all()
    assert_allclose(two, one, rtol=1e-7)


@pytest.mark.slow
def test_a_blocked_match_never_holds_all_pairs():
    """7000 x 7000 float32 costs are 196 MB; one more program of another size takes about 60."""
    assert run("memory")["megabytes"] < 120
