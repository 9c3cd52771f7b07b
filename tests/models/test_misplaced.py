"""Paths near a model are told where it is, and what is no model is told what to make of it."""

import shutil

import pytest
from model_files import GOLDEN, assert_one_line, copy_of

from meanfield.models import ModelError, inspect, load


def refused(path, pattern):
    for read in (load, inspect):
        with pytest.raises(ModelError, match=pattern) as caught:
            read(path)
        assert_one_line(caught.value)


def test_a_config_is_not_its_model(tmp_path):
    refused(copy_of("bert", tmp_path) / "config.json", "Give its folder")


@pytest.mark.parametrize("inner", ["snapshots/0123abc", "0_Transformer"])
def test_the_folder_within_is_named(inner, tmp_path):
    shutil.copytree(GOLDEN / "bert", tmp_path / inner)
    refused(tmp_path, f"give .*{inner}")


def test_an_adapter_is_to_be_merged(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    refused(tmp_path, "Merge the adapter first")


def test_onnx_is_not_read(tmp_path):
    folder = copy_of("bert", tmp_path)
    (folder / "model.safetensors").rename(folder / "model.onnx")
    refused(folder, "holds ONNX files")
    refused(folder / "model.onnx", "is an ONNX file")


def test_shards_may_be_links_into_a_folder_of_blobs(tmp_path):
    folder, blobs = copy_of("bert", tmp_path), tmp_path / "store" / "blobs"
    blobs.mkdir(parents=True)
    (folder / "model.safetensors").rename(blobs / ("ab" * 32))
    (folder / "model-00001-of-00001.safetensors").symlink_to(blobs / ("ab" * 32))
    names = inspect_names(blobs / ("ab" * 32))
    places = ", ".join(f'"{name}": "model-00001-of-00001.safetensors"' for name in names)
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{places}}}}}')
    assert load(folder).family == "bert"


def inspect_names(path):
    from meanfield.models.files import open_tensors

    return [tensor.name for tensor in open_tensors(path)]
