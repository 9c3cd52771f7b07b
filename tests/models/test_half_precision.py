"""Weights in half precision are made float32 before any product, whatever was imported before."""

import subprocess
import sys

import numpy as np
import pytest
from model_files import GOLDEN, copy_of, unpack, write

import meanfield as mf
from meanfield.models import ModelError


def as_bfloat16(values):
    """The 16 upper bits of float32."""
    return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)


def back(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def stored(folder, dtype, change):
    tensors = unpack(folder / "model.safetensors")
    write(folder / "model.safetensors", {n: change(v) for n, v in tensors.items()}, dtype)
    return folder


@pytest.mark.parametrize("family", ["bert", "llama", "vit"])
def test_bfloat16_weights_are_the_rounded_float32_ones(family, tmp_path):
    half = stored(copy_of(family, tmp_path / "half"), "BF16", as_bfloat16)
    full = stored(copy_of(family, tmp_path / "full"), "F32", lambda v: back(as_bfloat16(v)))
    inputs = np.load(GOLDEN / family / "reference.npz")["inputs"]
    model = mf.models.load(half)
    np.testing.assert_array_equal(model.hidden(inputs), mf.models.load(full).hidden(inputs))
    assert model.layers[0].attention.heads


def test_float16_products_do_not_overflow(tmp_path):
    def large(values):
        return (values * (300 if values.ndim == 2 else 1)).astype(np.float16)

    folder = stored(copy_of("gpt2", tmp_path), "F16", large)
    hidden = mf.models.load(folder).hidden(np.arange(9))
    assert np.all(np.isfinite(hidden))
    assert np.abs(hidden).max() > 65504  # beyond float16


def test_float64_weights_too_large_for_float32_are_refused(tmp_path):
    folder = stored(copy_of("gpt2", tmp_path), "F64", lambda v: v.astype(np.float64) * 1e39)
    with pytest.raises(ModelError, match="NaN or infinite"):
        mf.models.load(folder)


@pytest.mark.parametrize("first", ["", "import ml_dtypes;"])
def test_bfloat16_does_not_depend_on_what_was_imported(first, tmp_path):
    folder = stored(copy_of("bert", tmp_path), "BF16", as_bfloat16)
    name = "embeddings.word_embeddings.weight"
    code = (
        f"{first}import sys; from pathlib import Path;"
        "from meanfield.models.checkpoint import open_checkpoint;"
        f"c = open_checkpoint(Path({str(folder)!r})); x = c.take({name!r}, 64, 16);"
        f"assert x.dtype == 'float32'; assert ('ml_dtypes' in sys.modules) == {bool(first)};"
        "print(x.sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = back(as_bfloat16(unpack(GOLDEN / "bert" / "model.safetensors")[name])).sum()
    assert float(done.stdout) == pytest.approx(expected)
