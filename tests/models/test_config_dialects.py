"""Old and new ways of saying the same thing in config.json give the same model."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from model_files import GOLDEN, copy_of, edit_config

import meanfield as mf
from meanfield.attention import Rotary
from meanfield.models import ModelError
from meanfield.models.config import Config
from meanfield.models.rope import read_rotary


def hidden(folder):
    return mf.models.load(folder).hidden(np.load(GOLDEN / folder.name / "reference.npz")["inputs"])


def test_windows_are_found_without_a_list_of_layers(tmp_path):
    folder = edit_config(copy_of("qwen2", tmp_path), layer_types=None)
    np.testing.assert_array_equal(hidden(folder), hidden(GOLDEN / "qwen2"))
    windows = [layer.attention.window for layer in mf.models.load(folder).layers]
    assert windows == [None, 5]


def test_a_window_that_is_not_used_is_none(tmp_path):
    folder = edit_config(copy_of("qwen2", tmp_path), use_sliding_window=False, layer_types=None)
    assert [layer.attention.window for layer in mf.models.load(folder).layers] == [None, None]


@pytest.mark.parametrize("kind", ["rope_type", "type"])
def test_old_files_say_rope_scaling(kind, tmp_path):
    folder = copy_of("llama3", tmp_path)
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    theta = rope.pop("rope_theta")
    rope[kind] = rope.pop("rope_type")
    edit_config(folder, rope_parameters=None, rope_scaling=rope, rope_theta=theta)
    np.testing.assert_array_equal(hidden(folder), hidden(GOLDEN / "llama3"))


def test_an_old_file_without_scaling_is_the_default(tmp_path):
    folder = copy_of("llama", tmp_path)
    edit_config(folder, rope_parameters=None, rope_theta=10000.0, rope_scaling=None)
    np.testing.assert_array_equal(hidden(folder), hidden(GOLDEN / "llama"))


def test_theta_matters(tmp_path):
    folder = edit_config(copy_of("llama", tmp_path), rope_parameters={"rope_theta": 500.0})
    assert np.abs(hidden(folder) - hidden(GOLDEN / "llama")).max() > 1e-2


def rotary(**fields):
    return read_rotary(Config({"rope_scaling": fields}, "config.json"), head_dim=8)


def test_linear_scaling_divides_positions():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 8)), jnp.float32)
    places = jnp.arange(5)
    scaled = rotary(type="linear", factor=4.0).rotate(x, 4 * places)
    np.testing.assert_allclose(scaled, Rotary().rotate(x, places), atol=1e-5)


@pytest.mark.parametrize("kind", ["longrope", "su", "mrope"])
def test_other_scalings_are_refused_by_name(kind):
    with pytest.raises(
        ModelError, match=f"one of default, linear, llama3, dynamic, yarn; got '{kind}'"
    ):
        rotary(rope_type=kind, factor=2.0)


def test_a_scaling_without_factor_is_refused():
    with pytest.raises(ModelError, match="factor must be a positive number; got nothing"):
        rotary(rope_type="linear")
