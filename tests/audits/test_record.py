"""The record of an audit: its JSON, its schema, its refusal of what is not one."""

import dataclasses
import json

import jsonschema
import pytest
from audit_specimen import HOSTILE, attacked, specimen

from meanfield.audits import document
from meanfield.audits.schema import schema


def test_every_audit_satisfies_the_schema():
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    for audit in (specimen(), specimen(HOSTILE), specimen(layers=1, heads=1, inputs=1)):
        jsonschema.validate(json.loads(document.to_json(audit)), made)


@pytest.mark.parametrize("break_it", ["schema", "status", "rows", "unknown"])
def test_the_schema_refuses_a_damaged_audit(break_it):
    audit = json.loads(document.to_json(specimen()))
    damage = {"schema": "meanfield.audit/0", "status": "fine", "rows": None, "unknown": 1}
    audit[break_it] = damage[break_it]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(audit, schema())


def test_json_is_read_back_as_the_same_audit():
    for audit in (specimen(), specimen(HOSTILE)):
        assert document.from_json(document.to_json(audit)) == audit


def test_json_is_ascii_and_has_a_stable_order():
    text = document.to_json(specimen(HOSTILE))
    assert text.isascii()
    assert text == document.to_json(document.from_json(text))


def test_numbers_that_are_not_finite_are_refused():
    audit = specimen()
    local = dataclasses.replace(audit.rows[0].local, value=float("nan"))
    broken = dataclasses.replace(audit, rows=(dataclasses.replace(audit.rows[0], local=local),))
    with pytest.raises(ValueError, match="finite"):
        document.to_json(broken)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"schema": "other/1"}', '{"schema": "meanfield.audit/1"}', "[" * 10**5],
)
def test_what_is_not_an_audit_is_refused_in_one_line(text):
    with pytest.raises(document.RecordError) as error:
        document.from_json(text, "x.json")
    assert "x.json" in str(error.value) and "\n" not in str(error.value)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "audit.json"
    document.write(specimen(), path)
    before = path.read_text()
    with pytest.raises(TypeError):
        document.write_atomically(path, 3)  # pyright: ignore
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["audit.json"]


def _with(path, value):
    """The specimen's JSON with one value changed."""
    made = json.loads(document.to_json(attacked()))
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return made


@pytest.mark.parametrize(
    "path, value, told",
    [
        (("rows",), [], "point at"),
        (("rows", 0, "local", "value"), "7", "rows[0].local.value must be a finite number"),
        (("rows", 0, "local", "value"), float("nan"), "finite"),
        (("rows", 0, "local", "value"), -1.0, "zero or more"),
        (("rows", 0, "local", "iterations"), True, "whole number"),
        (("rows", 0, "input"), 9, "rows point at 9"),
        (("rows", 0, "layer"), 10**400, "huge"),
        (("rows", 0, "radii", 0, "radius"), 0, "positive"),
        (("layers", 0, "layer"), 77, "layers point at"),
        (("layers", 1), None, "layers[1] must be an object"),
        (("growth", 0, "lengths"), [], "as many constants"),
        (("growth", 0, "jumps", 0, "after"), 3, "jumps of layer 0"),
        (("status",), "fine", "'complete' or 'partial'"),
        (("model", "heads"), 2.5, "whole number"),
        (("model", "hashes"), [], "an object"),
        (("run", "settings", "x"), {}, "run.settings.x"),
        (("inputs", 0, "tokens"), "abc", "a list"),
        (("unknown",), 1, "unknown field"),
    ],
)
def test_a_damaged_audit_is_refused_by_the_name_of_its_field(path, value, told):
    with pytest.raises(document.RecordError) as error:
        document.from_json(json.dumps(_with(path, value)), "x.json")
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("made", [specimen(), attacked(), specimen(HOSTILE), specimen(inputs=1)])
def test_an_audit_that_is_not_damaged_is_read(made):
    assert document.from_json(document.to_json(made)) == made


def test_whole_numbers_stand_for_floats():
    assert document.from_json(json.dumps(_with(("run", "elapsed"), 3))).run.elapsed == 3.0
