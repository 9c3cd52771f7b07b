"""What `inspect` says of a model is what `load` makes of it."""

import pytest
from model_files import FAMILIES, GOLDEN

import meanfield as mf
from meanfield.models import ModelError


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_agree_with_the_model(family):
    facts, model = mf.models.inspect(GOLDEN / family), mf.models.load(GOLDEN / family)
    attention = getattr(model.layers[0].attention, "attention", model.layers[0].attention)
    assert (facts.family, facts.layers) == (model.family, len(model.layers))
    assert (facts.dim, facts.max_tokens) == (model.dim, model.max_tokens)
    assert (facts.heads, facts.key_value_heads) == (
        attention.query_proj.shape[0],
        attention.key_proj.shape[0],
    )
    assert facts.parameters >= model.parameters  # poolers and mask tokens are not used
    assert facts.bytes == 4 * facts.parameters
    assert [file.name for file in facts.files] == ["model.safetensors"]


def test_memory_grows_with_the_square_of_the_length():
    facts = mf.models.inspect("shakespeare-gpt")
    weights = 4 * facts.parameters
    assert facts.memory(2000) - weights == 100 * (facts.memory(200) - weights)


def test_a_safetensors_file_finds_its_config():
    path = GOLDEN / "bert" / "model.safetensors"
    assert mf.models.inspect(path).family == mf.models.load(path).family == "bert"


def test_facts_are_refused_as_models_are(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="no model.safetensors"):
        mf.models.inspect(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(
        (GOLDEN / "bert" / "model.safetensors").read_bytes()
    )
    with pytest.raises(ModelError, match="num_attention_heads is missing"):
        mf.models.inspect(tmp_path)
