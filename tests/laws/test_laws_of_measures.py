"""Laws of every public function of measures: the measure counts, not how it is written."""

import os

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from law_draws import Case, Rewriting, cases, rewritings
from law_subject import Subject
from law_table import SUBJECTS


DTYPES = ["float64", "float32"] if jax.config.read("jax_enable_x64") else ["float32"]
# A nightly command tries every law on so many draws, MEANFIELD_SEED=random on fresh ones; every
# program is compiled in both precisions, so that even a few draws take longer than all other tests.
DRAWS = int(os.environ.get("MEANFIELD_LAW_DRAWS", "0"))
SHIFTS = (1.0, 1e3, 1e6)

many_draws = pytest.mark.skipif(DRAWS == 0, reason="MEANFIELD_LAW_DRAWS=4 runs it")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def those(wanted):
    """The subjects of which a law is asked."""
    return pytest.mark.parametrize("subject", [s for s in SUBJECTS if wanted(s)], ids=repr)


QUICK = [s if s.quick else pytest.param(s, marks=pytest.mark.slow) for s in SUBJECTS]


def over(strategy, draws: int, seed: int, law) -> None:
    """The law on so many draws, the same ones for the same seed."""
    run = hypothesis.given(strategy)(law)
    run = hypothesis.seed(seed)(run)
    hypothesis.settings(
        max_examples=draws,
        deadline=None,
        phases=[hypothesis.Phase.generate],  # a seed is small enough
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )(run)()


def answers(subject: Subject, case: Case, dtype: str, unit: float = 1.0) -> dict[str, np.ndarray]:
    found = subject.call(case.measures(dtype), unit)
    assert found.keys() == subject.answers.keys()
    return {name: np.asarray(value, float) for name, value in found.items()}


def agree(subject: Subject, name: str, got, expected, dtype: str, unit: float = 1.0, size=1.0):
    """Equal up to `slack` units in the last place of the numbers or of the cloud."""
    kind = subject.answers[name]
    rounding = subject.slack * float(jnp.finfo(dtype).eps) + subject.tolerance
    np.testing.assert_allclose(
        got, expected, rtol=rounding, atol=rounding * size * unit**kind.degree, err_msg=name
    )


@pytest.mark.parametrize("subject", QUICK, ids=repr)
def test_absent_split_and_permuted_atoms_change_nothing(subject, seed):
    over(cases(subject), 1, seed, lambda case: _however_written(subject, case, DTYPES[0]))


@pytest.mark.exhaustive
@many_draws
@every_dtype
@those(lambda subject: True)
def test_however_a_measure_is_written_the_answer_is_the_same(subject, dtype, seed):
    over(cases(subject), DRAWS, seed, lambda case: _however_written(subject, case, dtype))


def _however_written(subject, case, dtype):
    plain = answers(subject, case, dtype)
    for which in range(len(subject.sizes)):
        ways = rewritings(subject.sizes[which], case.rng, subject.splits is True)
        for word, rewriting in ways.items():
            hypothesis.note(f"measure {which} {word}")
            _same_when_rewritten(subject, case, which, rewriting, plain, dtype)


def _same_when_rewritten(subject, case, which, rewriting: Rewriting, plain, dtype):
    clouds = list(case.clouds)
    clouds[which] = rewriting.of(clouds[which])
    found = answers(subject, Case(tuple(clouds), case.trait, case.seed), dtype)
    for name, kind in subject.answers.items():
        if not kind.unique and case.trait != "generic":
            continue
        before, after = plain[name], found[name]
        if getattr(kind, "of", which) == which:
            before, after = kind.before(before, rewriting), kind.after(after, rewriting)
        agree(subject, name, after, before, dtype)


@pytest.mark.exhaustive
@many_draws
@every_dtype
@those(lambda subject: subject.translates is True)
def test_a_common_shift_moves_only_what_lives_in_space(subject, dtype, seed):
    def law(case):
        coarse = case.changed(
            lambda one: type(one)(np.round(one.points * 8) / 8, one.weights, one.base)
        )
        plain = answers(subject, coarse, dtype)
        for shift in SHIFTS:
            hypothesis.note(f"shifted by {shift}")
            along = shift * np.eye(subject.dim)[0]
            found = answers(subject, coarse.changed(lambda one, a=along: one.moved(a)), dtype)
            for name, kind in subject.answers.items():
                moves = along if getattr(kind, "follows", False) else 0.0
                size = 1 + shift * bool(np.any(moves))
                if kind.unique:
                    agree(subject, name, found[name], plain[name] + moves, dtype, size=size)

    over(cases(subject, tuple(t for t in subject.traits if t != "far")), DRAWS, seed, law)


@pytest.mark.exhaustive
@many_draws
@every_dtype
@those(lambda subject: subject.scales is True)
def test_a_change_of_units_changes_the_units(subject, dtype, seed):
    def law(case):
        plain = answers(subject, case, dtype)
        for power in subject.powers:
            hypothesis.note(f"times 2^{power}")
            unit = 2.0**power
            found = answers(
                subject, case.changed(lambda one, u=unit: one.moved(scale=u)), dtype, unit
            )
            for name, kind in subject.answers.items():
                if abs(power * kind.degree) <= 120 and (kind.unique or case.trait == "generic"):
                    expected = plain[name] * unit**kind.degree
                    agree(subject, name, found[name], expected, dtype, unit)

    over(cases(subject), DRAWS, seed, law)


@pytest.mark.exhaustive
@many_draws
@pytest.mark.float64
@those(lambda subject: subject.singles is True)
def test_single_precision_agrees_with_double(subject, seed):
    def law(case):
        double, single = (answers(subject, case, dtype) for dtype in ("float64", "float32"))
        for name, kind in subject.answers.items():
            if kind.unique or case.trait == "generic":
                agree(subject, name, single[name], double[name], "float32")

    over(cases(subject), DRAWS, seed, law)
