"""The journal: nothing lost, nothing twice, nothing of another audit."""

import pytest

from meanfield.audits.resume import Journal, ResumeError, digest


def row(i, layer):
    return {"input": i, "layer": layer, "value": 0.1 * layer}


def filled(path):
    book = Journal(path, "k")
    for layer in range(3):
        book.add(row(0, layer))
    return path.read_bytes()


def test_rows_survive_and_are_not_written_twice(tmp_path):
    path = tmp_path / "deep" / "partial.jsonl"
    before = filled(path)
    book = Journal(path, "k", resume=True)
    assert set(book.rows) == {(0, 0), (0, 1), (0, 2)}
    book.add(row(0, 1))
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_costs_that_row_only(tmp_path, cut):
    path = tmp_path / "partial.jsonl"
    path.write_bytes(filled(path)[:-cut])
    book = Journal(path, "k", resume=True)
    lost = {(0, 0), (0, 1), (0, 2)} - set(book.rows)
    assert lost == {(0, 2)}
    book.add(row(0, 2))
    assert Journal(path, "k", resume=True).rows[0, 2] == row(0, 2)


def test_a_journal_of_another_audit_is_refused(tmp_path):
    path = tmp_path / "partial.jsonl"
    filled(path)
    with pytest.raises(ResumeError, match="another audit"):
        Journal(path, "other", resume=True)


def test_an_unfinished_audit_is_not_written_over(tmp_path):
    path = tmp_path / "partial.jsonl"
    before = filled(path)
    with pytest.raises(ResumeError, match="--resume"):
        Journal(path, "k")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"\n", b"not json\n", b"[1]\n", b'{"x": 1}\n', b"torn"])
def test_a_damaged_header_is_refused(tmp_path, content):
    path = tmp_path / "partial.jsonl"
    path.write_bytes(content)
    with pytest.raises(ResumeError):
        Journal(path, "k", resume=True)


def test_the_digest_tells_parts_apart():
    one = digest({"a": "1"}, ["x"], (1, 2))
    assert one == digest({"a": "1"}, ["x"], (1, 2))
    assert len({one, digest({"a": "2"}, ["x"], (1, 2)), digest({"a": "1"}, ["y"], (1, 2))}) == 3
