"""Damaged, foreign and hostile weight files end in one clear line."""

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from model_files import GOLDEN, assert_one_line, copy_of, edit_tensors, pack

import meanfield as mf
from meanfield.models import ModelError
from meanfield.models.checkpoint import open_checkpoint


UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FOUR = struct.pack("<4f", 1, 2, 3, 4)


def entry(begin=0, end=16, shape=(4,), dtype="F32", **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


def one(**changes):
    return {"w": entry() | changes}


HOSTILE = {
    "empty": (b"", "0 bytes are too few"),
    "four bytes": (b"abcd", "4 bytes are too few"),
    "header of 2^63 bytes": (pack(one(), FOUR, 2**63), "header has 9,223,372,036,854,775,808"),
    "header of 101 MB": (pack(one(), FOUR, 101_000_000), "header has 101,000,000"),
    "header longer than file": (pack(one(), FOUR, 1000), "header has 1,000"),
    "header of length 0": (pack(one(), FOUR, 0), "header has 0"),
    "not JSON": (pack(b"{not json}", FOUR), "is not JSON"),
    "bad UTF-8": (pack(b'{"\xff\xfe": 1}', FOUR), "is not JSON"),
    "leading space": (pack(b" " + json.dumps(one()).encode(), FOUR), "must begin with '{'"),
    "a list": (pack(b"[1, 2]", FOUR), "must begin with '{'"),
    "duplicate key": (
        pack(
            b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"w":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}',
            FOUR,
        ),
        "'w' stands twice",
    ),
    "duplicate field": (
        pack(b'{"w":{"dtype":"F32","dtype":"I64","shape":[4],"data_offsets":[0,16]}}', FOUR),
        "'dtype' stands twice",
    ),
    "overlap": (pack({"a": entry(0, 12, (3,)), "b": entry(8, 16, (2,))}, FOUR), "overlaps"),
    "two names on one range": (pack({"a": entry(), "b": entry()}, FOUR), "overlaps"),
    "hole": (pack({"a": entry(0, 4, (1,)), "b": entry(8, 16, (2,))}, FOUR), "leaves a hole"),
    "hole at the beginning": (pack({"a": entry(4, 16, (3,))}, FOUR), "leaves a hole"),
    "end before begin": (pack(one(data_offsets=[16, 0]), FOUR), "begin <= end"),
    "negative offset": (pack(one(data_offsets=[-16, 0]), FOUR), "begin <= end"),
    "three offsets": (pack(one(data_offsets=[0, 8, 16]), FOUR), "begin <= end"),
    "negative size": (pack(one(shape=[-2, -2]), FOUR), "nonnegative integers"),
    "float size": (pack(one(shape=[4.0]), FOUR), "nonnegative integers"),
    "true as size": (pack(one(shape=[True, 4]), FOUR), "nonnegative integers"),
    "rank 5": (pack(one(shape=[1, 1, 1, 1, 4]), FOUR), "at most 4 nonnegative integers"),
    "beyond the file": (pack(one(data_offsets=[0, 64], shape=[16]), FOUR), "is truncated"),
    "truncated data": (pack(one(), FOUR[:10]), "is truncated"),
    "trailing bytes": (pack(one(), FOUR + b"<html>"), "6 bytes follow the last tensor"),
    "shape does not match bytes": (pack(one(shape=[5]), FOUR), "takes 20 bytes, but 16"),
    "shape product overflows": (pack(one(shape=[2**62, 2**62]), FOUR), "bytes are reserved|takes"),
    "unknown dtype": (pack(one(dtype="F1337"), FOUR), "unknown dtype 'F1337'"),
    "dtype is a list": (pack(one(dtype=["F32"]), FOUR), "unknown dtype"),
    "float8": (pack(one(dtype="F8_E4M3", shape=[16]), FOUR), "quantised"),
    "int8": (pack(one(dtype="I8", shape=[16]), FOUR), "quantised"),
    "absmax tensors": (pack({"layer.weight.absmax": entry()}, FOUR), "quantised"),
    "GPTQ tensors": (pack({"layer.qweight": entry(dtype="I32")}, FOUR), "quantised"),
    "metadata of numbers": (pack({"__metadata__": {"a": 1}, **one()}, FOUR), "names to strings"),
    "metadata a list": (pack({"__metadata__": ["a"], **one()}, FOUR), "names to strings"),
    "unknown extra field": (pack({"w": entry(extra=1)}, FOUR), "nothing else"),
    "field missing": (pack({"w": {"dtype": "F32", "shape": [4]}}, FOUR), "must have dtype"),
    "entry a number": (pack({"w": 7}, FOUR), "must have dtype"),
    "nesting bomb": (pack(b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}", FOUR), "deeply|JSON"),
    "NaN in the header": (pack(b'{"w": NaN}', FOUR), "NaN, which is not JSON"),
    "control character in a name": (pack({"a\x1b[2J": entry()}, FOUR), "printable"),
    "lone surrogate in a name": (pack({"a\ud800": entry()}, FOUR), "printable"),
    "endless name": (pack({"a" * 513: entry()}, FOUR), "1 to 512 printable"),
    "empty name": (pack({"": entry()}, FOUR), "1 to 512 printable"),
    "a name that climbs": (pack({"../../x<script>": entry()}, FOUR), "missing"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "web page": (b"<!DOCTYPE html><html><body>Log in</body></html>", "HTML"),
    "web page after a newline": (b"\n  <html lang='en'>", "HTML"),
    "pickle": (pickle.dumps({"w": [1.0]}), "is a pickle"),
    "old pickle": (pickle.dumps({"w": [1.0]}, protocol=0), "header has"),
    "zip": (b"PK\x03\x04" + b"\0" * 40, "zip archive"),
    "gguf": (b"GGUF" + b"\0" * 40, "GGUF"),
    "gzip": (b"\x1f\x8b\x08" + b"\0" * 40, "gzip"),
}


@pytest.fixture
def folder(tmp_path):
    return copy_of("bert", tmp_path)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_weights_are_refused_in_one_line(case, folder):
    content, expected = HOSTILE[case]
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=expected) as caught:
        mf.models.load(folder)
    assert_one_line(caught.value)
    assert "bert" in str(caught.value)  # it says which file


@pytest.mark.slow
def test_half_a_million_tensors_are_refused_before_they_are_built(folder):
    text = ",".join(
        f'"t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(100_001)
    )
    (folder / "model.safetensors").write_bytes(pack(f"{{{text}}}".encode()))
    with pytest.raises(ModelError, match="100,001 tensors; at most 100,000"):
        mf.models.load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named_counted_and_placed(value, folder):
    name = "encoder.layer.1.output.dense.weight"

    def spoil(tensors):
        tensors[name] = tensors[name].copy()
        tensors[name][3, 5] = tensors[name][7, 1] = value

    edit_tensors(folder, spoil)
    with pytest.raises(ModelError, match=rf"{name}.*2 value.*\(3, 5\)"):
        mf.models.load(folder)
    assert mf.models.inspect(folder).bad == ((name, 2, 3 * 24 + 5),)


def test_values_of_unused_tensors_do_not_matter(folder):
    def spoil(tensors):
        tensors["pooler.dense.bias"] = np.full(16, np.nan, np.float32)

    assert mf.models.load(edit_tensors(folder, spoil)).family == "bert"


def test_a_layer_of_zeros_is_refused(folder):
    def clear(tensors):
        for name in tensors:
            if name.startswith("encoder.layer.1.attention"):
                tensors[name] = np.zeros_like(tensors[name])

    with pytest.raises(ModelError, match="every attention weight of a layer is zero"):
        mf.models.load(edit_tensors(folder, clear))


def test_pickles_are_never_opened(folder, tmp_path):
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return open, (str(canary), "w")

    weights = folder / "model.safetensors"
    pickled = pickle.dumps(Payload())
    weights.write_bytes(pickled)
    with pytest.raises(ModelError, match="never loaded, because they can run code"):
        mf.models.load(folder)
    weights.unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    with pytest.raises(ModelError, match="weights are in pytorch_model.bin.*save_pretrained"):
        mf.models.load(folder)
    with pytest.raises(ModelError, match="zip archive"):
        mf.models.load(folder / "pytorch_model.bin")
    (folder / "model.pt").write_bytes(pickled)
    with pytest.raises(ModelError, match="is a pickle"):
        mf.models.load(folder / "model.pt")
    assert not canary.exists()


def test_a_file_that_shrinks_after_its_header_was_read_is_refused(folder):
    path = folder / "model.safetensors"
    checkpoint = open_checkpoint(folder)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="changed while it was read"):
        checkpoint.take("embeddings.word_embeddings.weight", 64, 16)


@pytest.mark.slow
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes_and_truncations_raise_nothing_else(data, tmp_path):
    raw = bytearray((GOLDEN / "distilbert" / "model.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        # most of them in the header, where they matter
        highest = data.draw(st.sampled_from([16, 3000, len(raw)])) - 1
        raw[data.draw(st.integers(0, highest))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    )
    try:
        checkpoint = open_checkpoint(path)
        for name, tensor in checkpoint.tensors.items():
            checkpoint.take(name, *tensor.shape)
    except ModelError as error:
        assert_one_line(error)


@pytest.mark.slow
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), family=st.sampled_from(["bert", "llama3", "vit"]))
def test_flipped_bytes_in_the_config_raise_nothing_else(data, family, tmp_path_factory):
    folder = copy_of(family, tmp_path_factory.mktemp("flip"))
    raw = bytearray((folder / "config.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(32, 126))
    (folder / "config.json").write_bytes(raw)
    try:
        mf.models.load(folder)
    except ModelError as error:
        assert_one_line(error)
