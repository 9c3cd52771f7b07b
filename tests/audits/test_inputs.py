"""From texts and arrays to windows."""

import numpy as np
import pytest
from audit_toy import TEXT, toy

from meanfield.audits.inputs import InputError, windows
from meanfield.audits.settings import AuditSettings


MODEL = toy()


def cut(inputs, **settings):
    return windows(MODEL, inputs, AuditSettings(**settings))


def test_special_tokens_stay_at_both_ends_of_every_window_and_prefix():
    found = cut(TEXT, max_tokens=20, overflow="window")
    assert len(found) == 4 and sum(len(w.tokens) - 2 for w in found) == len(TEXT)
    for window in found:
        assert (window.tokens[0], window.tokens[-1]) == ("[CLS]", "[SEP]")
        assert window.frame == (1, 1)
    assert "".join(t for w in found for t in w.tokens[1:-1]) == TEXT
    short = found[0].prefix(6)
    assert MODEL.tokens(short) == ["[CLS]", *TEXT[:4], "[SEP]"]


def test_truncate_keeps_the_first_window_and_windows_limits_their_number():
    assert [w.start for w in cut(TEXT, max_tokens=20)] == [0]
    assert len(cut(TEXT, max_tokens=20, overflow="window", windows=2)) == 2


def test_the_model_limits_the_window():
    assert len(cut(TEXT * 3, max_tokens=500)[0].tokens) == MODEL.max_tokens


def test_names_come_from_the_mapping():
    assert [w.name for w in cut({"a.txt": "one", "b.txt": "two"})] == ["a.txt", "b.txt"]


def test_equal_inputs_have_equal_hashes_and_others_do_not():
    one, same, other = cut(["one", "one", "two"])
    assert one == same and hash(one) == hash(same) and one.sha256 != other.sha256


def test_hidden_states_of_the_right_shape_are_taken():
    states = np.ones((2, 7, 4), np.float32)
    (window,) = cut(states)
    assert window.kind == "hidden" and len(window.tokens) == 7


@pytest.mark.parametrize(
    "inputs, told",
    [
        ("", "empty"),
        ("  \n", "empty"),
        ([], "at least one"),
        (np.ones((2, 7, 5), np.float32), "(2 or 3, n, 4)"),
        (np.ones((5, 7, 4), np.float32), "(2 or 3, n, 4)"),
        (np.full((2, 7, 4), np.nan, np.float32), "finite"),
        (np.ones((2, 2), np.float32), "got float32 of shape (2, 2)"),
        (np.ones(3, np.float32), "got float32"),
    ],
)
def test_what_cannot_be_read_is_told(inputs, told):
    with pytest.raises(InputError) as error:
        cut(inputs)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_long_text_can_be_an_error():
    with pytest.raises(InputError, match="59 tokens exceed the limit of 20"):
        cut(TEXT, max_tokens=20, overflow="error")


@pytest.mark.parametrize(
    "inputs, told",
    [
        ([1, -1], "0 or more"),
        ([2**40], "0 or more"),
        (np.array([-1]), "0 or more"),
        (5, "got int"),
        (None, "got NoneType"),
        (b"text", "got bytes"),
        ([None], "text or an array of numbers"),
        ([[1], [2, 3]], ""),
        (["a", True], "array of numbers"),
        (np.array([1j]), "complex"),
        (np.array(["a"]), "array of numbers"),
        ([], "at least one"),
        (np.array([], int), "must be text"),
    ],
)
def test_what_cannot_be_an_input_is_refused_by_name(inputs, told):
    if told:
        with pytest.raises(InputError, match=told):
            windows(toy(), inputs, AuditSettings())
    else:
        assert [w.ids for w in windows(toy(), inputs, AuditSettings())] == [(1,), (2, 3)]


def test_a_list_of_token_ids_is_one_input():
    (window,) = windows(toy(), [3, 1, 2], AuditSettings())
    assert window.ids == (3, 1, 2)
