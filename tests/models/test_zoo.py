"""The shipped models load, do what their card says, and need nothing but the package."""

import re
import subprocess
import sys

import numpy as np
import pytest
from model_files import shared_data

import meanfield as mf


CARD = (mf.models.zoo.path("digits-vit").parent / "MODEL_CARD.md").read_text()


def from_card(pattern):
    return float(re.search(pattern, CARD)[1].replace(",", ""))


def next_character_loss(model, ids):
    """Mean cross-entropy over consecutive windows, each character predicted once."""
    losses = []
    for start in range(0, len(ids) - 1, model.max_tokens):
        window = ids[start : start + model.max_tokens + 1]
        logits = model.logits(window[:-1]).astype(np.float64)
        top = logits.max(-1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(logits - top).sum(-1))
        losses.append(total - logits[np.arange(len(logits)), window[1:]])
    return np.concatenate(losses).mean()


def test_the_gpt_predicts_text_it_never_saw():
    model = mf.models.load("shakespeare-gpt")
    assert model.parameters == from_card(r"parameters \| ([\d,]+) \(float32\)")
    ids = model.tokenize(mf.models.zoo.sample_text())
    assert next_character_loss(model, ids) < from_card(r"loss \| ([\d.]+) nats") + 0.2


@pytest.mark.slow
def test_the_gpt_has_the_loss_of_its_card():
    text = shared_data("text", "tinyshakespeare.txt").read_text(encoding="utf-8")
    model = mf.models.load("shakespeare-gpt")
    ids = model.tokenize(text[len(text) * 9 // 10 :])
    assert next_character_loss(model, ids) == pytest.approx(
        from_card(r"loss \| ([\d.]+) nats"), abs=2e-3
    )


def test_the_sample_text_was_held_out():
    text = shared_data("text", "tinyshakespeare.txt").read_text(encoding="utf-8")
    assert mf.models.zoo.sample_text().strip() in text[len(text) * 9 // 10 :]


def test_characters_come_back_and_unknown_ones_become_spaces():
    model = mf.models.load("shakespeare-gpt")
    text = "To be, or not to be:\nthat is the question"
    ids = model.tokenize(text)
    assert model.decode(ids) == text
    assert model.tokens(ids[:3]) == ["T", "o", " "]
    assert model.decode(model.tokenize("na\u00efve 42\u2019s \u4e2d")) == "naive   's  "


@pytest.mark.slow
def test_the_vit_has_the_accuracy_of_its_card():
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    images = (digits.images[:, None] / 8 - 1).astype(np.float32)
    _, images, _, labels = train_test_split(
        images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    model = mf.models.load("digits-vit")
    named = np.array([model.logits(image).argmax() for image in images])
    assert np.mean(named == labels) == pytest.approx(from_card(r"accuracy \| ([\d.]+)"), abs=5e-5)
    np.testing.assert_array_equal(mf.models.zoo.sample_images(), images[:16])


def test_the_vit_names_its_cells():
    model, images = mf.models.load("digits-vit"), mf.models.zoo.sample_images()
    names = model.tokens(images[0])
    assert model.max_tokens == len(names) == model.contexts(images[0])[0].size == 17
    assert names[:2] == ["[CLS]", "0,0"]


@pytest.mark.parametrize("name", mf.models.zoo.NAMES)
def test_hashes_are_those_of_the_files(name):
    import hashlib

    model = mf.models.load(name)
    assert "config.json" in model.hashes
    for file, digest in model.hashes.items():
        assert hashlib.sha256((model.path / file).read_bytes()).hexdigest() == digest


def test_printing_a_model_says_what_it_is():
    assert repr(mf.models.load("shakespeare-gpt")) == (
        "Transformer(gpt2, 2 layers, d=64, 108,352 parameters, shakespeare-gpt)"
    )


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="shakespeare-gpt, digits-vit; got 'gpt-5'"):
        mf.models.zoo.path("gpt-5")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_facts_need_no_jax():
    done = run(
        "import sys; import meanfield.models as m; f = m.inspect('shakespeare-gpt');"
        "assert (f.family, f.layers, f.heads, f.dim, f.max_tokens) == ('gpt2', 2, 4, 64, 64), f;"
        "assert f.parameters == 108352 and f.dtypes == {'F32': 108352} and not f.bad;"
        "assert f.memory(2048) > 400e6;"
        "assert not {'jax', 'torch', 'ml_dtypes'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr


NO_NETWORK = """
import sys, socket
import jax  # its profiler needs a socket class to inherit from
sys.modules["torch"] = None

class Refused:
    def __init__(self, *args, **named):
        raise AssertionError("network")

socket.socket = socket.create_connection = socket.getaddrinfo = Refused
import meanfield as mf

gpt, vit = mf.models.load("shakespeare-gpt"), mf.models.load("digits-vit")
gpt.hidden(gpt.tokenize("My lord"))
vit.hidden(mf.models.zoo.sample_images()[0])
assert len(gpt.hashes) == 3
assert "transformers" not in sys.modules
"""


@pytest.mark.slow
def test_nothing_touches_the_network_or_torch():
    done = run(NO_NETWORK)
    assert done.returncode == 0, done.stderr
