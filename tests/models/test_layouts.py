"""Names and fields as published files have them: one model, the same activations."""

import json

import numpy as np
import pytest
from model_files import GOLDEN, assert_one_line, copy_of, edit_config, edit_tensors, pack

from meanfield.models import ModelError, inspect, load


# what stands before the names of each family's tensors in files that people have
PREFIXES = {
    "bert": ("bert.", "model.", "module.bert.", "_orig_mod.", "0.auto_model.", "_orig_mod.module."),
    "roberta": ("roberta.", "model.roberta."),
    "distilbert": ("distilbert.", "module.distilbert."),
    "mpnet": ("mpnet.", "_orig_mod."),
}
WRAPPERS = ("module.", "_orig_mod.", "model.", "_orig_mod.module.")


def renamed(family, folder, rename):
    def change(tensors):
        old = dict(tensors)
        tensors.clear()
        tensors |= {rename(name): value for name, value in old.items()}

    return edit_tensors(copy_of(family, folder), change)


def computes_the_golden_states(folder, family):
    golden = np.load(GOLDEN / family / "reference.npz")
    model = load(folder)
    np.testing.assert_allclose(model.hidden(golden["inputs"]), golden["hidden"], atol=1e-5, rtol=0)
    assert inspect(folder).layers == len(model.layers)
    return model


@pytest.mark.parametrize(
    ("family", "prefix"), [(family, p) for family, some in PREFIXES.items() for p in some]
)
def test_encoders_load_behind_every_prefix(family, prefix, tmp_path):
    folder = renamed(family, tmp_path, lambda name: prefix + name)
    assert computes_the_golden_states(folder, family).ignored == ()


@pytest.mark.parametrize("family", ["gpt2", "llama", "vit", "dinov2"])
@pytest.mark.parametrize("prefix", WRAPPERS)
def test_models_with_heads_load_behind_wrappers(family, prefix, tmp_path):
    folder = renamed(family, tmp_path, lambda name: prefix + name)
    model, golden = computes_the_golden_states(folder, family), GOLDEN / family / "reference.npz"
    if model.head is not None:
        golden = np.load(golden)
        np.testing.assert_allclose(model.logits(golden["inputs"]), golden["logits"], atol=1e-5)


def test_bert_as_first_published_loads(tmp_path):
    def old(name):
        return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )

    def add_heads(tensors):
        tensors["cls.predictions.bias"] = np.zeros(64, np.float32)
        tensors["cls.predictions.transform.LayerNorm.gamma"] = np.ones(16, np.float32)
        tensors["cls.seq_relationship.weight"] = np.ones((2, 16), np.float32)

    folder = edit_tensors(renamed("bert", tmp_path, old), add_heads)
    model = computes_the_golden_states(folder, "bert")
    assert "cls.predictions.bias" in model.ignored
    assert len(model.ignored) == 3


@pytest.mark.parametrize(
    "head",
    ["classifier.weight", "crf.transitions", "linear.weight", "score.weight", "qa_outputs.bias",
     "lm_head.dense.weight", "classifier.out_proj.weight", "sparse_linear.weight"],
)  # fmt: skip
def test_heads_of_tasks_are_ignored_and_named(head, tmp_path):
    folder = renamed("roberta", tmp_path, lambda name: "roberta." + name)
    edit_tensors(folder, lambda tensors: tensors.update({head: np.ones((3, 16), np.float32)}))
    assert computes_the_golden_states(folder, "roberta").ignored == (head,)


@pytest.mark.parametrize(
    "name", ["encoder.layer.0.attention.self.query.lora_A.weight", "prompt_encoder.weight"]
)
def test_what_may_change_the_states_is_no_head(name, tmp_path):
    folder = edit_tensors(
        copy_of("bert", tmp_path), lambda t: t.update({name: np.ones((3, 16), np.float32)})
    )
    with pytest.raises(ModelError, match="has no place") as caught:
        load(folder)
    assert_one_line(caught.value)


def test_two_models_in_one_checkpoint_are_refused(tmp_path):
    def double(tensors):
        tensors |= {f"model.bert.{name}": value for name, value in tensors.items()}

    with pytest.raises(ModelError, match="holds several models"):
        load(edit_tensors(copy_of("bert", tmp_path), double))


@pytest.mark.parametrize("name", ["xlm-roberta", "camembert"])
def test_robertas_of_other_languages_are_robertas(name, tmp_path):
    folder = edit_config(copy_of("roberta", tmp_path), model_type=name)
    assert computes_the_golden_states(folder, "roberta").family == "roberta"


def test_masks_of_bytes_are_no_weights(tmp_path):
    folder = copy_of("gpt2", tmp_path)
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    header["transformer.h.0.attn.bias"] = {
        "dtype": "U8", "shape": [1, 1, 96, 96], "data_offsets": [len(data), len(data) + 96 * 96]
    }  # fmt: skip
    path.write_bytes(pack(header, data + bytes(96 * 96)))
    computes_the_golden_states(folder, "gpt2")


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path):
    path = copy_of("bert", tmp_path) / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    computes_the_golden_states(path.parent, "bert")
