"""Model folders that do not hang together, and architectures that are not supported."""

import json

import numpy as np
import pytest
from model_files import (
    FAMILIES,
    GOLDEN,
    assert_one_line,
    copy_of,
    edit_config,
    edit_tensors,
    unpack,
    write,
)

import meanfield as mf
from meanfield.models import ModelError


def refused(path, pattern):
    with pytest.raises(ModelError, match=pattern) as caught:
        mf.models.load(path)
    assert_one_line(caught.value)


def test_a_path_that_is_not_there_lists_the_shipped_models(tmp_path):
    refused(tmp_path / "nothing", "no such file or folder.*shakespeare-gpt, digits-vit")
    (tmp_path / "there").mkdir()
    refused(tmp_path / "thre", "has: there")
    refused(tmp_path / "no" / "model", "no folder .*no either")


def test_paths_that_no_system_takes_are_refused():
    refused("x" * 5000, "cannot be read|no such file")
    refused("a\0b", "no such file or folder|cannot be read")


def test_a_folder_without_config_says_what_is_there(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    refused(tmp_path, "no config.json in this folder; there is: weights.safetensors")


def test_a_folder_without_weights_says_what_is_there(tmp_path):
    folder = copy_of("bert", tmp_path)
    (folder / "model.safetensors").unlink()
    refused(folder, "no model.safetensors.*there is: config.json, reference.npz")


@pytest.mark.parametrize(
    "family", ["deberta-v2", "t5", "gemma3", "../bert", None, ["bert"], "A\x1b[2J"]
)
def test_other_families_are_refused_by_name_with_the_supported_ones(family, tmp_path):
    folder = edit_config(copy_of("bert", tmp_path), model_type=family)
    refused(folder, "is not supported; supported are bert, roberta, .*dinov2, and llama2.c")


def test_quantised_configs_are_refused(tmp_path):
    folder = edit_config(copy_of("llama", tmp_path), quantization_config={"bits": 4})
    refused(folder, "is quantised")


WRONG_FIELDS = [
    ("bert", {"num_attention_heads": 3}, "num_attention_heads must be a divisor of 16; got 3"),
    ("bert", {"num_attention_heads": 0}, "num_attention_heads must be an integer of at least 1"),
    ("bert", {"hidden_size": None}, "hidden_size must be an integer of at least 1; got nothing"),
    ("bert", {"hidden_size": 16.0}, "hidden_size must be an integer"),
    ("bert", {"hidden_size": True}, "hidden_size must be an integer"),
    ("bert", {"hidden_size": 32}, "must have shape .*32.* by config.json or --arch; got"),
    ("bert", {"vocab_size": 65}, "must have shape .65, 16. by config.json or --arch; got .64, 16."),
    ("bert", {"num_hidden_layers": 3}, "'encoder.layer.2.*is missing"),
    ("bert", {"num_hidden_layers": 1}, "'encoder.layer.1.*and 15 more has no place"),
    ("bert", {"hidden_act": "mish"}, "hidden_act must be one of gelu.*; got 'mish'"),
    ("bert", {"layer_norm_eps": -1.0}, "layer_norm_eps must be a positive number"),
    ("bert", {"layer_norm_eps": "1e-5"}, "layer_norm_eps must be a positive number"),
    ("bert", {"position_embedding_type": "relative_key"}, "must be 'absolute'"),
    ("bert", {"is_decoder": True}, "is_decoder must be False"),
    ("gpt2", {"n_head": 5}, "n_head must be a divisor of 16; got 5"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention must be False"),
    ("llama", {"num_key_value_heads": 3}, "num_key_value_heads must be a divisor of 4; got 3"),
    ("llama", {"head_dim": 3}, "even dimension; got 3"),
    (
        "llama",
        {"rope_parameters": {"rope_type": "longrope"}},
        "rope_type must be one of default, linear",
    ),
    ("llama", {"rope_parameters": "default"}, "rope_parameters must be an object"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1.0"),
    ("llama", {"attention_bias": True}, "q_proj.bias.*is missing"),
    ("qwen2", {"layer_types": ["chunked_attention"] * 2}, "layer_types must be a list of"),
    ("mistral", {"sliding_window": 0}, "sliding_window must be an integer of at least 1"),
    ("vit", {"patch_size": 5}, "patch_size must be a divisor of 12; got 5"),
    ("vit", {"image_size": [12, 12]}, "image_size must be an integer"),
    ("dinov2", {"use_swiglu_ffn": True}, "weights_in.weight.*is missing"),
]


@pytest.mark.parametrize(("family", "fields", "pattern"), WRONG_FIELDS)
def test_a_wrong_field_is_named_with_what_was_expected(family, fields, pattern, tmp_path):
    refused(edit_config(copy_of(family, tmp_path), **fields), pattern)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000]
)
def test_a_broken_config_is_refused(content, tmp_path):
    folder = copy_of("bert", tmp_path)
    (folder / "config.json").write_bytes(content)
    refused(folder, "config.json: (is not JSON|must hold|is nested|the name 'a' stands twice)")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tensor_without_a_place_is_named(family, tmp_path):
    def add(tensors):
        tensors["extra.adapter.weight"] = np.zeros((2, 2), np.float32)

    refused(edit_tensors(copy_of(family, tmp_path), add), "extra.adapter.weight.* has no place")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_tensor_is_named(family, tmp_path):
    names = [n for n in unpack(GOLDEN / family / "model.safetensors") if "layer" in n or "h." in n]
    name = names[len(names) // 2]
    folder = edit_tensors(copy_of(family, tmp_path), lambda tensors: tensors.pop(name))
    refused(folder, f"tensor '.*{name.rsplit('.', 2)[-2]}.*is missing")


def shards(folder, parts=2):
    """Writes the weights of a folder as shards with their index."""
    single = folder / "model.safetensors"
    items = list(unpack(single).items())
    single.unlink()
    places = {}
    for i in range(parts):
        name = f"model-{i + 1:05}-of-{parts:05}.safetensors"
        part = dict(items[i::parts])
        write(folder / name, part)
        places |= dict.fromkeys(part, name)
    return places


def index(folder, places):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def test_shards_are_read_as_one_checkpoint(tmp_path):
    folder = copy_of("bert", tmp_path)
    model = mf.models.load(index(folder, shards(folder, 3)))
    ids = np.arange(5)
    np.testing.assert_array_equal(model.hidden(ids), mf.models.load(GOLDEN / "bert").hidden(ids))
    assert len(model.hashes) == 4


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a\\b", "a\0"],
)
def test_shards_must_be_bare_names(name, tmp_path):
    folder = copy_of("bert", tmp_path)
    places = shards(folder) | {"extra": name}
    refused(index(folder, places), "only bare file names are followed")


def test_a_shard_that_links_out_of_the_folder_is_refused(tmp_path):
    folder = copy_of("bert", tmp_path)
    index(folder, shards(folder))
    outside = tmp_path / "outside.safetensors"
    first = folder / shards_of(folder)[0]
    first.rename(outside)
    first.symlink_to(outside)
    refused(folder, "is a link that leaves the folder")


def shards_of(folder):
    return sorted(path.name for path in folder.glob("model-*.safetensors"))


def test_the_links_of_a_hub_cache_are_followed(tmp_path):
    folder = copy_of("bert", tmp_path / "snapshots")
    index(folder, shards(folder))
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name in shards_of(folder):
        (folder / name).rename(blobs / name)
        (folder / name).symlink_to(blobs / name)
    assert mf.models.load(folder).family == "bert"


def test_an_absent_shard_is_named(tmp_path):
    folder = copy_of("bert", tmp_path)
    index(folder, shards(folder))
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "shard 'model-00002-of-00002.safetensors' of the index is absent")


def test_a_truncated_shard_is_named(tmp_path):
    folder = copy_of("bert", tmp_path)
    index(folder, shards(folder))
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, "model-00002-of-00002.safetensors: is truncated")


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    folder = copy_of("bert", tmp_path)
    places = shards(folder)
    first, second = shards_of(folder)
    write(folder / second, unpack(folder / second) | unpack(folder / first))
    refused(index(folder, places), "is in both")


@pytest.mark.slow
def test_an_index_that_does_not_match_its_shards_is_refused(tmp_path):
    folder = copy_of("bert", tmp_path)
    places = shards(folder)
    name, file = next(iter(places.items()))
    refused(index(folder, places | {"ghost": file}), "'ghost' is in the index but not in its shard")
    other = next(f for f in places.values() if f != file)
    refused(index(folder, places | {name: other}), f"puts tensor '{name}' in {other}")
    rest = {k: v for k, v in places.items() if k != name}
    refused(index(folder, rest), f"'{name}' is in a shard but not the index")
    refused(index(folder, ["a"]), "weight_map must map")


def test_names_with_and_without_prefix_are_refused_together(tmp_path):
    def double(tensors):
        name = "embeddings.word_embeddings.weight"
        tensors[f"bert.{name}"] = tensors[name]

    refused(edit_tensors(copy_of("bert", tmp_path), double), "has no place in this architecture")
