"""Every tutorial runs from top to bottom in a process of its own, without a screen."""

import os
import pathlib
import subprocess
import sys

import pytest


ROOT = pathlib.Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))


def test_there_are_tutorials():
    assert TUTORIALS


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path):
    code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.iterdir()), "a tutorial leaves files behind"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/index.md", "README.md"])
def test_the_python_of_the_front_pages_runs(page):
    text = (ROOT / page).read_text()
    code = text.split("```python\n")[1].split("```")[0]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert ("Bound(" in run.stdout) == ("print(" in code)
