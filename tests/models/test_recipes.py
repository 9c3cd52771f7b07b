"""The training recipes write folders that load, and their own forward pass is ours."""

import importlib.util
import sys

import jax
import numpy as np
import pytest
from model_files import REPOSITORY

import meanfield as mf


pytestmark = pytest.mark.slow


def recipe(name, monkeypatch):
    """A recipe as a module that takes three steps only."""
    pytest.importorskip("optax")
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "recipes" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STEPS", 3)
    return module


def parameters(recipe, prefix, folder):
    from safetensors.numpy import load_file

    return {
        name.removeprefix(prefix): value
        for name, value in load_file(folder / "model.safetensors").items()
    }


def test_the_gpt_of_the_recipe_is_the_gpt_that_loads(tmp_path, monkeypatch):
    train = recipe("train_shakespeare_gpt", monkeypatch)
    monkeypatch.setattr(train.optax, "warmup_cosine_decay_schedule", lambda *_, **__: 3e-3)
    text, out = tmp_path / "text.txt", tmp_path / "gpt"
    text.write_text(12 * mf.models.zoo.sample_text())
    monkeypatch.setattr(sys, "argv", ["train", str(text), str(out)])
    train.main()
    model = mf.models.load(out)
    ids = model.tokenize((out / "sample.txt").read_text())[:50]
    expected = train.logits(parameters(train, "transformer.", out), ids)
    np.testing.assert_allclose(model.logits(ids), expected, atol=1e-5)


def test_the_vit_of_the_recipe_is_the_vit_that_loads(tmp_path, monkeypatch):
    train = recipe("train_digits_vit", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path / "vit")])
    train.main()
    model = mf.models.load(tmp_path / "vit")
    images = np.load(tmp_path / "vit" / "samples.npy")
    expected = jax.vmap(train.logits, (None, 0))(parameters(train, "", tmp_path / "vit"), images)
    logits = np.stack([model.logits(image) for image in images])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
