"""Runs that end early, places that cannot be written, streams in any locale."""

import errno
import io
import os
import signal
import sys

import pytest
from audit_specimen import specimen
from typer.testing import CliRunner

from meanfield.audits import document
from meanfield.cli.exits import code_of, complain, stop_on_terminate
from meanfield.cli.main import app
from meanfield.cli.outputs import FORMATS, render
from meanfield.cli.sources import SourceError, read_text


def meanfield(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize("kind", FORMATS)
def test_an_audit_without_any_row_is_written_in_every_format(kind):
    empty = specimen(layers=0, status="partial", checks=())
    assert render(empty, kind)


def test_a_finished_folder_is_not_audited_again(tmp_path):
    document.write(specimen(), tmp_path / "audit.json")
    result = meanfield("audit", "nowhere", "--resume", "--out", tmp_path)
    assert result.exit_code == 0 and "complete: nothing to do" in result.stdout
    failed = meanfield(
        "audit", "nowhere", "--resume", "--out", tmp_path, "--fail-on", "local.max>1"
    )
    assert failed.exit_code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["audit.json"]


@pytest.mark.parametrize("out, told", [("a.txt/new", "is a file"), ("a\0b", "null byte")])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_computed(tmp_path, out, told):
    (tmp_path / "a.txt").write_text("x")
    result = meanfield("audit", "nowhere", "--out", tmp_path / out)
    assert result.exit_code == 2 and told in result.stderr and result.stderr.count("\n") == 1


def test_a_full_disk_names_the_file_and_the_way_on(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as caught:
        document.write(specimen(), tmp_path / "audit.json")
    complain(caught.value)
    told = capsys.readouterr().err
    assert str(tmp_path / "audit.json") in told and "--resume" in told and told.count("\n") == 1
    assert code_of(caught.value) == 3 and not list(tmp_path.iterdir())


def test_stdin_is_utf8_in_every_locale(monkeypatch):
    def stdin(data):
        stream = io.TextIOWrapper(io.BytesIO(data), encoding="ascii", errors="surrogateescape")
        monkeypatch.setattr(sys, "stdin", stream)

    stdin("naïve 中文\r\nx".encode())
    assert read_text("-") == "naïve 中文\nx"
    stdin(b"caf\xe9")
    with pytest.raises(SourceError, match="not UTF-8"):
        read_text("-")


def test_sigterm_is_an_interrupt():
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop_on_terminate()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
    finally:
        signal.signal(signal.SIGTERM, before)
