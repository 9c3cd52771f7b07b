"""Weights without a config.json: what the tensors tell, what is assumed, what contradicts."""

import json
import shutil

import numpy as np
import pytest
from model_files import FAMILIES, GOLDEN, assert_one_line, copy_of, edit_config, edit_tensors

import meanfield as mf
from meanfield.models import Architecture, ModelError


_ROTARY = ("rms_norm_eps", "rope_parameters", "max_position_embeddings")
_INVISIBLE = {
    "gpt2": ("scale_attn_by_inverse_layer_idx",),
    "mistral": (*_ROTARY, "sliding_window"),
    **dict.fromkeys(("llama", "qwen2", "qwen3"), _ROTARY),
}


def bare(family, folder):
    """A golden model's weights alone, and its config."""
    config = json.loads((GOLDEN / family / "config.json").read_text())
    path = shutil.copy(GOLDEN / family / "model.safetensors", folder / "weights.safetensors")
    return path, config


def heads_of(config):
    return next(config[n] for n in ("num_attention_heads", "n_head", "n_heads") if n in config)


def told(config):
    """What a person who knows the model says: its heads and what has no shape."""
    kind = config["model_type"]
    names = _INVISIBLE.get(kind, ("layer_norm_eps",))
    if config.get("use_sliding_window"):
        names += ("use_sliding_window", "sliding_window", "layer_types")
    fields = {name: config[name] for name in names if name in config}
    return Architecture(kind, heads=heads_of(config), fields=fields)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_and_a_few_words_make_the_model_of_the_config(family, tmp_path):
    path, config = bare(family, tmp_path)
    found = mf.models.inspect(path, architecture=told(config))
    wanted = mf.models.inspect(GOLDEN / family)
    for name in ("family", "layers", "heads", "key_value_heads", "dim", "max_tokens", "bad"):
        assert getattr(found, name) == getattr(wanted, name), name


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_its_attention_is_that_of_the_config(family, tmp_path):
    path, config = bare(family, tmp_path)
    one, two = mf.models.load(path, architecture=told(config)), mf.models.load(GOLDEN / family)
    shape = getattr(two.embedding, "image_shape", None)
    inputs = np.arange(2, 12) if shape is None else np.ones(shape, np.float32)
    np.testing.assert_array_equal(one.hidden(inputs), two.hidden(inputs))


@pytest.mark.parametrize(
    "family, assumed",
    [
        ("bert", {"layer_norm_eps": 1e-12, "hidden_act": "gelu"}),
        ("mistral", {"rope_theta": 10_000.0, "rms_norm_eps": 1e-5, "sliding_window": None}),
        ("qwen3", {"rope_theta": 1_000_000.0}),
        ("vit", {"layer_norm_eps": 1e-12}),
    ],
)
def test_assumptions_are_named_and_what_was_told_is_none(family, assumed, tmp_path):
    path, config = bare(family, tmp_path)
    model = mf.models.load(path, architecture=Architecture(family, heads=heads_of(config)))
    assert assumed.items() <= model.assumed.items()
    assert not {"num_attention_heads", "hidden_size", "num_hidden_layers"} & set(model.assumed)
    assert mf.models.load(GOLDEN / family).assumed == {}


def test_tensors_that_know_their_heads_need_no_telling(tmp_path):
    for family in ("mpnet", "qwen3"):
        path, config = bare(family, tmp_path)
        facts = mf.models.inspect(path, architecture=Architecture(family))
        assert facts.heads == heads_of(config) and "num_attention_heads" not in facts.assumed


def test_usual_sizes_have_their_usual_heads():
    from meanfield.models.shapes import Shapes
    from meanfield.models.standards import standard_heads

    for family, dim, heads in (("bert", 384, 12), ("bert", 1024, 16), ("vit", 192, 3)):
        found = standard_heads(Shapes(family, {}, "x"), {"hidden_size": dim})
        assert found == {"num_attention_heads": heads}
    query = {"layers.0.self_attn.q_proj.weight": (4096, 4096)}
    assert standard_heads(Shapes("llama", query, "x"), {}) == {"num_attention_heads": 32}


def refused(path, architecture, told):
    for read in (mf.models.inspect, mf.models.load):
        with pytest.raises(ModelError, match=told) as error:
            read(path, architecture=architecture)
        assert_one_line(error.value)


@pytest.mark.parametrize(
    "architecture, told",
    [
        (None, "no config.json beside the weights; its tensors look like bert or roberta.*--arch"),
        (Architecture("gpt2"), "is no gpt2.*look like bert or roberta"),
        (Architecture("bert"), "how many heads a bert of dimension 16.*--head-count"),
        (Architecture("bert", 4, {"hidden_size": 32}), "hidden_size is 16, which contradicts"),
        (Architecture("bert", 4, {"num_hidden_layers": 9}), "num_hidden_layers is 2"),
        (Architecture("bert", 4, {"num_attention_heads": 8}), "Give one of them"),
    ],
)
def test_what_is_missing_or_contradicts_is_one_line(architecture, told, tmp_path):
    refused(bare("bert", tmp_path)[0], architecture, told)


def test_heads_that_do_not_divide_are_refused(tmp_path):
    path, _ = bare("bert", tmp_path)
    with pytest.raises(ModelError, match="num_attention_heads must be a divisor of 16; got 5"):
        mf.models.load(path, architecture=Architecture("bert", 5))
    refused(bare("llama", tmp_path)[0], Architecture("llama", 5), "do not divide")


def test_a_misspelt_field_is_refused(tmp_path):
    path, _ = bare("llama", tmp_path)
    with pytest.raises(ModelError, match="'rope_thta' means nothing.*rope_theta"):
        mf.models.load(path, architecture=Architecture("llama", 4, {"rope_thta": 1.0}))


@pytest.mark.parametrize(
    "arguments, told",
    [(("t5",), "must be one of bert"), (("bert", 0), "positive"), (("bert", True), "positive")],
)
def test_an_architecture_that_is_none_is_refused(arguments, told):
    with pytest.raises(ModelError, match=told):
        Architecture(*arguments)


def test_a_config_is_filled_in_and_may_not_be_contradicted(tmp_path):
    folder = edit_config(copy_of("bert", tmp_path), num_attention_heads=None)
    assert mf.models.inspect(folder, architecture=Architecture("bert", 4)).heads == 4
    refused(copy_of("gpt2", tmp_path), Architecture("gpt2", 8), "n_head is 4, which contradicts")
    refused(copy_of("vit", tmp_path), Architecture("bert"), "'vit', which contradicts --arch bert")


def test_a_relative_of_a_family_can_be_read_as_one(tmp_path):
    folder = edit_config(copy_of("roberta", tmp_path), model_type="roberta-of-ours")
    with pytest.raises(ModelError, match="is not supported"):
        mf.models.inspect(folder)
    assert mf.models.inspect(folder, architecture=Architecture("roberta")).family == "roberta"


def test_a_folder_without_config_is_read_too(tmp_path):
    folder = copy_of("bert", tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config.json.*--arch"):
        mf.models.inspect(folder)
    assert mf.models.inspect(folder, architecture=Architecture("bert", 4)).dim == 16


def test_images_must_be_squares_of_patches(tmp_path):
    folder = copy_of("vit", tmp_path)
    (folder / "config.json").unlink()

    def lengthen(tensors):
        name = next(n for n in tensors if n.endswith("position_embeddings"))
        tensors[name] = np.repeat(tensors[name], 2, axis=1)

    refused(edit_tensors(folder, lengthen), Architecture("vit", 4), "a square of patches")


def test_a_llama2c_file_needs_no_telling(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(64))
    refused(path, Architecture("llama"), "says what it is")
