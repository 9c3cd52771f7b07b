"""How the documentation is built: `sphinx-build -W -b html docs docs/_build`, without a network."""

import importlib.metadata
import pathlib
import shutil
import sys


HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))


def copy_tutorials() -> None:
    """Tutorials live beside the package; Sphinx reads only below this folder."""
    source, target = HERE.parent / "tutorials", HERE / "tutorials"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__*"), dirs_exist_ok=True)
    for path in target.iterdir():
        if not (source / path.name).exists():
            path.unlink()


copy_tutorials()

project = "meanfield"
author = "The meanfield developers"
copyright = author
release = version = importlib.metadata.version("meanfield")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
    "myst_nb",
    "docstrings",
    "leftovers",
    "mathml",
    "unrendered",
]
exclude_patterns = ["_build", "extensions", "jupyter_execute", "conf.py"]
smartquotes = False  # `--resume` keeps its hyphens

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "alpha"
bibtex_reference_style = "author_year"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"  # every build, so that no page rots; outputs are never committed
nb_execution_timeout = 900  # seconds a cell, for busy machines
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # jaxtyping shapes are not reST
default_role = "code"  # `mu.points` in a docstring

html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"meanfield {version}"
html_show_sourcelink = False
html_copy_source = False
