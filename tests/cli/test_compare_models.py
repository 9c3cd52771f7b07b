"""`meanfield compare-models` on the shipped models, saved again with heads in another order."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import meanfield as mf
from meanfield.cli.main import app


ORDER = [2, 0, 3, 1]
RUNNER = CliRunner()


def compare_models(*arguments):
    with jax.enable_x64(False):
        return RUNNER.invoke(app, ["compare-models", *map(str, arguments), "--no-color"])


def changed(name, folder, change):
    """A shipped model saved again with other tensors."""
    shutil.copytree(mf.models.zoo.path(name), folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    return folder


def heads_of_gpt(tensors):
    """The heads of the last layer in another order; those of the first as they were."""
    at = next(name for name in tensors if "h.1.attn.c_attn.weight" in name)[: -len("c_attn.weight")]
    for name, axes in (("c_attn.weight", (64, 3, 4, 16)), ("c_attn.bias", (3, 4, 16))):
        parts = tensors[at + name].reshape(axes)
        tensors[at + name] = np.take(parts, ORDER, -2).reshape(tensors[at + name].shape)
    out = tensors[at + "c_proj.weight"]
    tensors[at + "c_proj.weight"] = out.reshape(4, 16, 64)[ORDER].reshape(64, 64)


def heads_of_vit(tensors):
    """The heads of the first layer in another order, and one of them twice as loud."""
    at = next(name for name in tensors if "layer.0.attention.attention.query.weight" in name)
    at = at[: -len("attention.query.weight")]
    for part in ("query", "key", "value"):
        for name in (f"{at}attention.{part}.weight", f"{at}attention.{part}.bias"):
            heads = tensors[name].reshape(4, -1)[ORDER]
            heads[1] *= 2 if part == "query" else 1
            tensors[name] = heads.reshape(tensors[name].shape)
    out = tensors[at + "output.dense.weight"]
    tensors[at + "output.dense.weight"] = out.reshape(32, 4, 8)[:, ORDER].reshape(32, 32)


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    return changed("shakespeare-gpt", tmp_path_factory.mktemp("gpt") / "copy", heads_of_gpt)


def test_permuted_heads_are_found_and_cost_nothing(gpt, tmp_path):
    path = tmp_path / "found.json"
    done = compare_models("shakespeare-gpt", gpt, "--json", path)
    assert done.exit_code == 0, done.output
    assert "0→1, 1→3, 2→0, 3→2" in done.stdout and "<0.001%" in done.stdout
    found = json.loads(path.read_text())
    assert found["schema"] == "meanfield.model_comparison/1"
    assert found["distance"] < 1e-12 < 1 < found["index_distance"]
    assert [layer["matching"] for layer in found["layers"]] == [[0, 1, 2, 3], [1, 3, 0, 2]]


@pytest.mark.slow
def test_the_head_that_changed_is_named(tmp_path):
    copy = changed("digits-vit", tmp_path / "vit", heads_of_vit)
    done = compare_models("digits-vit", copy, "--json", "-")
    first, second = json.loads(done.stdout)["layers"]
    assert first["matching"] == [1, 3, 0, 2] and second["distance"] < 1e-12
    assert np.flatnonzero(np.array(first["moves"]) > 0.1).tolist() == [0]


@pytest.mark.slow
def test_neurons_layers_and_a_figure_are_asked_for_by_options(gpt, tmp_path):
    sheet = tmp_path / "sheet.png"
    asked = ["--neurons", "--layers", "1", "--figure", sheet]
    done = compare_models("shakespeare-gpt", gpt, *asked)
    assert done.exit_code == 0 and "measures of neurons" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[5:7]] == ["1", "all"]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    again = compare_models("shakespeare-gpt", gpt, *asked)
    assert again.exit_code == 2 and "give --force" in again.stderr
    assert compare_models("shakespeare-gpt", gpt, *asked, "--force").exit_code == 0


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (("shakespeare-gpt", "digits-vit"), 3, "differ in the dimension: 64 and 32"),
        (("shakespeare-gpt", "no\x1b[31mwhere"), 3, r"no\x1b[31mwhere: no such file"),
        (("digits-vit", "digits-vit", "--layers", "0,7"), 2, "must be among 0-1"),
        (("digits-vit", "digits-vit", "--figure", "a.pdf"), 2, ".png or .svg"),
        (("digits-vit", "digits-vit", "--json", "nowhere/a.json"), 2, "there is no folder"),
    ],
)
def test_errors_are_one_line(arguments, code, words):
    done = compare_models(*arguments)
    assert done.exit_code == code and not done.stdout
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr


def test_its_help_loads_nothing():
    code = (
        "import sys\nfrom meanfield.cli.main import app\n"
        "try: app(['compare-models', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'jax', 'numpy', 'matplotlib', 'meanfield.audits'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "99"},
    )
    assert done.returncode == 0, done.stderr
    assert "--neurons" in done.stdout
