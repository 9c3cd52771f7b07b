"""Trains the character GPT that ships with meanfield: `shakespeare-gpt`, 108,352 parameters.

    python recipes/train_shakespeare_gpt.py TEXT OUT

TEXT is the tiny Shakespeare text of the char-rnn repository (1,115,394 characters, public domain;
any text will do), OUT the folder to write. Plain JAX and optax, about 100 seconds of CPU. The
folder holds config.json, model.safetensors and tokenizer.json in the naming of Hugging Face's
GPT-2, so that `meanfield.models.load` and `transformers` both read it, and sample.txt, a page of
the last tenth of the text, which is held out and never trained on.
"""

import argparse
import json
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers


DIM, HEADS, LAYERS, CONTEXT, BATCH, STEPS = 64, 4, 2, 64, 16, 3330


def initial(vocab: int, key) -> dict:
    """Every matrix normal with standard deviation 0.02, under the names of GPT-2."""
    shapes = {"wte.weight": (vocab, DIM), "wpe.weight": (CONTEXT, DIM)}
    for l in range(LAYERS):
        shapes |= {
            f"h.{l}.attn.c_attn.weight": (DIM, 3 * DIM),
            f"h.{l}.attn.c_proj.weight": (DIM, DIM),
            f"h.{l}.mlp.c_fc.weight": (DIM, 4 * DIM),
            f"h.{l}.mlp.c_proj.weight": (4 * DIM, DIM),
        }
    keys = jr.split(key, len(shapes))
    params = {n: 0.02 * jr.normal(k, s) for (n, s), k in zip(shapes.items(), keys, strict=True)}
    for name, shape in shapes.items():
        if name.startswith("h."):
            params[name.replace("weight", "bias")] = jnp.zeros(shape[1])
    norms = [f"h.{l}.ln_{i}" for l in range(LAYERS) for i in (1, 2)] + ["ln_f"]
    for norm in norms:
        params |= {f"{norm}.weight": jnp.ones(DIM), f"{norm}.bias": jnp.zeros(DIM)}
    return params


def affine(p, name, x):
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def layer_norm(p, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p, name, x):
    n = x.shape[0]
    q, k, v = jnp.split(affine(p, f"{name}.c_attn", x).reshape(n, 3 * HEADS, -1), 3, axis=1)
    scores = jnp.einsum("ihk,jhk->hij", q, k) / jnp.sqrt(DIM // HEADS)
    past = jnp.tril(jnp.ones((n, n), bool))
    weights = jax.nn.softmax(jnp.where(past, scores, -jnp.inf))
    return affine(p, f"{name}.c_proj", jnp.einsum("hij,jhv->ihv", weights, v).reshape(n, DIM))


def logits(p, ids):
    x = p["wte.weight"][ids] + p["wpe.weight"][: len(ids)]
    for l in range(LAYERS):
        x = x + attention(p, f"h.{l}.attn", layer_norm(p, f"h.{l}.ln_1", x))
        hidden = jax.nn.gelu(affine(p, f"h.{l}.mlp.c_fc", layer_norm(p, f"h.{l}.ln_2", x)))
        x = x + affine(p, f"h.{l}.mlp.c_proj", hidden)
    return layer_norm(p, "ln_f", x) @ p["wte.weight"].T


def loss(p, windows):
    """Mean cross-entropy of the next character, in nats; windows (batch, CONTEXT + 1)."""
    out = jax.vmap(logits, (None, 0))(p, windows[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(out, windows[:, 1:]).mean()


def train(ids: np.ndarray, vocab: int, seed: int) -> dict:
    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 60, STEPS, end_value=1.5e-4)
    descent = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, 0.9, 0.99))
    params = initial(vocab, jr.key(seed))
    state = descent.init(params)

    @jax.jit
    def step(params, state, windows):
        value, slope = jax.value_and_grad(loss)(params, windows)
        move, state = descent.update(slope, state)
        return optax.apply_updates(params, move), state, value

    draw = np.random.default_rng(seed)
    for count in range(STEPS):
        starts = draw.integers(len(ids) - CONTEXT, size=BATCH)
        params, state, value = step(params, state, ids[starts[:, None] + np.arange(CONTEXT + 1)])
        if count % 500 == 0:
            print(f"step {count}: {value:.3f} nats a character", flush=True)
    return params


def held_out_loss(params: dict, ids: np.ndarray) -> float:
    """The loss over consecutive windows of the held-out text, each character predicted once."""
    count = (len(ids) - 1) // CONTEXT
    starts = CONTEXT * np.arange(count)
    windows = ids[starts[:, None] + np.arange(CONTEXT + 1)]
    values = [
        (float(jax.jit(loss)(params, part)), len(part))
        for part in (windows[i : i + 100] for i in range(0, count, 100))
    ]
    return sum(value * size for value, size in values) / count


def characters(letters: list[str]) -> Tokenizer:
    """One token a character; a character the text never had is read as a space."""
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    known = "".join(re.escape(c) for c in letters)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("\u2019", "'"),
            normalizers.Replace("\u2014", "-"),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Replace(Regex(f"[^{known}]"), " "),
        ]
    )
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def page(text: str, length: int = 2500) -> str:
    """Whole paragraphs from the beginning of a text, about a page."""
    start = text.index("\n\n") + 2
    return text[start : text.rindex("\n\n", start, start + length)] + "\n"


def configuration(vocab: int) -> dict:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_embd": DIM,
        "n_head": HEADS,
        "n_layer": LAYERS,
        "n_positions": CONTEXT,
        "vocab_size": vocab,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    text = chosen.text.read_text(encoding="utf-8")
    letters = sorted(set(text))
    ids = np.searchsorted(np.array(letters), np.array(list(text)))
    split = len(ids) * 9 // 10
    start = time.process_time()
    params = train(ids[:split], len(letters), chosen.seed)
    print(f"trained in {time.process_time() - start:.0f} CPU-seconds")
    print(f"held-out loss {held_out_loss(params, ids[split:]):.4f} nats a character")
    chosen.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"transformer.{name}": np.asarray(value) for name, value in params.items()},
        chosen.out / "model.safetensors",
        metadata={"format": "pt"},
    )
    (chosen.out / "model.safetensors").chmod(0o644)
    (chosen.out / "sample.txt").write_text(page(text[split:]), encoding="utf-8")
    (chosen.out / "config.json").write_text(
        json.dumps(configuration(len(letters)), indent=2) + "\n"
    )
    characters(letters).save(str(chosen.out / "tokenizer.json"))


if __name__ == "__main__":
    main()
