"""The Python of the front pages runs as it stands. (Tutorials are executed where the documentation
is built, which fails where one of them does.)"""

import pathlib
import subprocess
import sys

import pytest


ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/index.md", "README.md"])
def test_the_python_of_the_front_pages_runs(page):
    text = (ROOT / page).read_text()
    code = text.split("```python\n")[1].split("```")[0]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert ("Bound(" in run.stdout) == ("print(" in code)
