"""The table of laws holds every public name, or says why not."""

import ast
import importlib
import pathlib

import pytest
from law_outside import OUTSIDE, outside
from law_table import SUBJECTS

import meanfield


PACKAGE = pathlib.Path(meanfield.__file__).parent
# rooms whose problems are larger than a few clouds keep their laws beside their own tests
OF_THEIR_OWN = {"matching": "tests/matching", "training": "tests/training"}


def public(room: str) -> set[str]:
    """The names that a room's `__init__.py` imports as themselves."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
    aliases = [alias for node in ast.walk(tree) for alias in getattr(node, "names", [])]
    return {alias.name for alias in aliases if alias.name == alias.asname}


def covered(room: str) -> set[str]:
    paths = [name.split(".") for subject in SUBJECTS for name in subject.covers]
    return {path[1] for path in paths if path[0] == room}


@pytest.mark.parametrize("room", OUTSIDE)
def test_every_public_name_is_in_the_table_or_has_a_reason_not_to_be(room):
    assert public(room) - covered(room) - outside(room) == set()


@pytest.mark.parametrize("room", OUTSIDE)
def test_no_name_is_both_in_the_table_and_outside_of_it_or_gone(room):
    named = covered(room) | outside(room)
    allowed = {"check_any_measure", "check_measures", "check_map"}
    assert named - public(room) <= allowed
    assert covered(room) & outside(room) <= {"conditional_wasserstein"}


def test_what_the_table_names_exists():
    for subject in SUBJECTS:
        for name in subject.covers:
            room, *path = name.split(".")
            found = importlib.import_module(f"meanfield.{room}")
            for part in path:
                found = getattr(found, part)


def test_laws_of_rooms_of_their_own_are_where_they_are_said_to_be():
    here = pathlib.Path(__file__).parents[2]
    for room, folder in OF_THEIR_OWN.items():
        assert any("law" in path.read_text() for path in (here / folder).glob("test_*.py")), room


def test_every_exception_from_a_law_has_its_reason():
    laws = ("translates", "scales", "splits", "singles")
    reasons = {why for s in SUBJECTS for law in laws if isinstance(why := getattr(s, law), str)}
    assert reasons
    assert all(why.endswith(".") and len(why.split()) > 4 for why in reasons)
