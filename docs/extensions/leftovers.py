"""A tutorial that leaves files behind, where it was executed, fails the build."""

import pathlib

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def setup(app: Sphinx) -> dict[str, bool]:
    folder = pathlib.Path(app.srcdir) / "tutorials"
    before = set(folder.rglob("*"))

    def compare(app: Sphinx, exception: Exception | None) -> None:
        left = sorted(path.name for path in set(folder.rglob("*")) - before)
        if left and exception is None:
            raise ExtensionError(f"tutorials leave files behind: {', '.join(left)}")

    app.connect("build-finished", compare)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
