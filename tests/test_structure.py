"""The house: who may import whom, what may be imported at all, and what stays unloaded."""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest

import meanfield


ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "meanfield"
FLOORS = {
    "implicit": 1,
    "measure": 1,
    "transport": 2,
    "attention": 2,
    "spectrum": 3,
    "flow": 3,
    "matching": 3,
    "training": 3,
    "models": 3,
    "lipschitz": 4,
    "attacks": 5,
    "audits": 6,
    "plot": 7,
    "report": 8,
    "cli": 9,
}
FOREIGN = {"torch", "transformers", "flax", "haiku", "jaxopt", "requests", "socket", "urllib"}
HEAVY = {"ot", "ott", "matplotlib", "typer", "tokenizers", "sklearn", "diffrax", "optimistix"}
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def imported(node: ast.AST, path: pathlib.Path) -> list[str]:
    """The dotted names of the modules that a statement imports, relative ones resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    package = ("meanfield", *path.relative_to(PACKAGE).parent.parts)
    home = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
    return [f"{home}.{alias.name}" for alias in node.names]


def imports(path: pathlib.Path) -> list[str]:
    """Everything a file imports, inside functions too."""
    return [name for node in ast.walk(ast.parse(path.read_text())) for name in imported(node, path)]


def imports_on_loading(path: pathlib.Path) -> list[str]:
    """What is imported when the file is: statements outside functions and `if TYPE_CHECKING`."""
    names, todo = [], list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        names += imported(node, path)
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not guarded and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return names


def folder(name: str) -> str | None:
    """The folder of the package that a dotted name lives in."""
    root, _, rest = name.partition(".")
    return rest.split(".")[0] if root == "meanfield" and rest else None


def faults(path: pathlib.Path) -> list[str]:
    """The imports of a file that go up the house, or into another room of its floor."""
    home = path.relative_to(PACKAGE).parts[0]
    if home not in FLOORS:
        return []
    rooms = {name: folder(name) for name in imports(path)}
    return [
        name
        for name, room in rooms.items()
        if room in FLOORS and room != home and FLOORS[room] >= FLOORS[home]
    ]


def by_file(found) -> dict[str, list[str]]:
    """What `found(path)` finds in each file of the package, files without findings left out."""
    each = {str(path.relative_to(PACKAGE)): sorted(found(path)) for path in FILES}
    return {path: names for path, names in each.items() if names}


def roots(names: list[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_a_file_imports_only_from_its_own_room_or_from_floors_below():
    assert by_file(faults) == {}


def test_the_floors_test_sees_an_import_that_goes_up(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "transport" / "exact.py"
    path.parent.mkdir()
    path.write_text("from ..measure import Measure\ndef f():\n    from ..lipschitz import local\n")
    assert faults(path) == ["meanfield.lipschitz.local"]
    path.write_text("import meanfield.attention.map\nfrom . import line\n")
    assert faults(path) == ["meanfield.attention.map"]


def test_every_folder_has_a_floor():
    assert set(FOLDERS) <= FLOORS.keys()


def test_no_foreign_framework_and_no_network_is_imported():
    assert by_file(lambda path: roots(imports(path)) & FOREIGN) == {}


def test_heavy_modules_are_imported_where_they_are_used():
    def heavy(path):
        allowed = {"typer"} if path.relative_to(PACKAGE).parts[0] == "cli" else set()
        return roots(imports_on_loading(path)) & (HEAVY - allowed)

    assert by_file(heavy) == {}


def test_the_package_tells_type_checkers_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_annotations_are_not_strings():
    assert by_file(lambda path: {"__future__.annotations"} & set(imports(path))) == {}


def test_every_file_has_a_name_of_its_own():
    nowhere = {"utils", "util", "misc", "helpers", "common"}
    assert by_file(lambda path: {path.stem.strip("_")} & nowhere) == {}


def test_every_file_begins_with_a_sentence_and_ends_before_line_300():
    def odd(path):
        text = path.read_text()
        silent = ["no docstring"] if not ast.get_docstring(ast.parse(text)) else []
        return silent + ["too long"] * (len(text.splitlines()) > 300)

    assert by_file(odd) == {}


@pytest.mark.parametrize("name", meanfield.__all__)
def test_every_public_name_is_there(name):
    assert getattr(meanfield, name) is not None
    assert name in dir(meanfield)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_is_a_public_namespace_with_a_docstring(name):
    module = importlib.import_module(f"meanfield.{name}")
    assert module.__doc__
    if name != "cli":  # the command line is run, not imported
        assert getattr(meanfield, name) is module


def reexported(name: str) -> set[str]:
    """The public names of a folder: those its `__init__.py` imports as themselves."""
    tree = ast.parse((PACKAGE / name / "__init__.py").read_text())
    aliases = [alias for node in ast.walk(tree) for alias in getattr(node, "names", [])]
    return {alias.name for alias in aliases if alias.name == alias.asname}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_public_name_has_a_place_in_the_reference(name):
    page = (ROOT / "docs" / "api" / f"{name}.md").read_text()
    if ":imported-members:" not in page:
        absent = {public for public in reexported(name) if f"meanfield.{name}.{public}" not in page}
        assert absent == set()


def loaded_after(statement: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_after("import meanfield")
    assert not loaded & (HEAVY | FOREIGN - {"socket", "urllib"} | {"jax"})


@pytest.mark.slow
def test_using_the_core_loads_no_peer_and_no_plotting():
    core = "mf.Measure, mf.wasserstein, mf.SelfAttention, mf.local_lipschitz, mf.audit"
    loaded = loaded_after(f"import meanfield as mf; {core}")
    assert "jax" in loaded
    assert not loaded & (HEAVY | FOREIGN - {"socket", "urllib"})


@pytest.mark.slow
def test_importing_the_package_changes_no_jax_setting():
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import jax; before = dict(jax.config.values); import meanfield as mf; mf.audit, "
            "mf.Measure([[1.0]]); assert dict(jax.config.values) == before",
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
