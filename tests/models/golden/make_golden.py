"""Writes the golden checkpoints: a tiny random model of each family and what it computes.

    python -m venv golden && golden/bin/pip install torch==2.13.0 transformers
    golden/bin/python tests/models/golden/make_golden.py [NAME ...]

Made with transformers and torch, which neither the package nor its tests need. Each folder holds
config.json, model.safetensors and reference.npz: the input, what enters each block and what leaves
the last one, recorded by hooks, and the logits where the model has a head, all computed in float64
(rotary angles and some softmaxes excepted, which transformers takes in float32). All weights and
biases are random (norms too), so that a part that is left out or exchanged shows.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as tf


HERE = Path(__file__).parent
BASE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
TEXT = BASE | {"intermediate_size": 24, "max_position_embeddings": 96}
LLAMA = TEXT | {"num_key_value_heads": 2, "tie_word_embeddings": False}
IMAGE = BASE | {"intermediate_size": 24, "image_size": 12, "patch_size": 4, "num_channels": 3}
del IMAGE["vocab_size"]
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "beta_fast": 4.0,
    "original_max_position_embeddings": 32,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}

MODELS = {
    "bert": (tf.BertModel, tf.BertConfig(**TEXT)),
    "roberta": (tf.RobertaModel, tf.RobertaConfig(**TEXT, pad_token_id=1, type_vocab_size=1)),
    "distilbert": (
        tf.DistilBertModel,
        tf.DistilBertConfig(
            dim=16, n_layers=2, n_heads=4, hidden_dim=24, vocab_size=64, max_position_embeddings=96
        ),
    ),
    "mpnet": (tf.MPNetModel, tf.MPNetConfig(**TEXT, pad_token_id=1)),
    "gpt2": (
        tf.GPT2LMHeadModel,
        tf.GPT2Config(
            n_embd=16,
            n_layer=2,
            n_head=4,
            n_positions=96,
            vocab_size=64,
            scale_attn_by_inverse_layer_idx=True,
        ),
    ),
    "llama": (tf.LlamaForCausalLM, tf.LlamaConfig(**LLAMA, head_dim=4)),
    "llama3": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig(
            **LLAMA, head_dim=8, attention_bias=True, mlp_bias=True, rope_parameters=SCALED
        ),
    ),
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig(**LLAMA, head_dim=4, sliding_window=7)),
    "qwen2": (
        tf.Qwen2ForCausalLM,
        tf.Qwen2Config(**LLAMA, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    ),
    "qwen3": (
        tf.Qwen3ForCausalLM,
        tf.Qwen3Config(**LLAMA | {"tie_word_embeddings": True}, head_dim=8),
    ),
    "vit": (tf.ViTForImageClassification, tf.ViTConfig(**IMAGE, num_labels=5)),
    "dinov2": (tf.Dinov2Model, tf.Dinov2Config(**IMAGE, mlp_ratio=2)),
    "dinov2-swiglu": (
        tf.Dinov2Model,
        tf.Dinov2Config(**IMAGE, mlp_ratio=2, use_swiglu_ffn=True),
    ),
    # new ones come last: the place of a model is its seed
    "llama-yarn": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig(**LLAMA, head_dim=8, rope_parameters=YARN),
    ),
    "llama-dynamic": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig(**LLAMA, head_dim=8, rope_parameters=DYNAMIC),
    ),
    "xlm-roberta": (
        tf.XLMRobertaForTokenClassification,
        tf.XLMRobertaConfig(**TEXT, pad_token_id=1, type_vocab_size=1, num_labels=3),
    ),
    "camembert": (
        tf.CamembertForMaskedLM,
        tf.CamembertConfig(**TEXT, pad_token_id=1, type_vocab_size=1),
    ),
}
BLOCKS = (
    "encoder.layer",
    "transformer.layer",
    "transformer.h",
    "model.layers",
    "layers",
    "vit.layers",
    "vit.encoder.layer",
    "encoder.layers",
    "roberta.encoder.layer",
)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Random weights large enough that scores, gates and norms all matter."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            draw = torch.randn(value.shape, generator=noise)
            norm = value.ndim == 1 and name.endswith("weight") or "lambda1" in name
            value.copy_(1 + 0.2 * draw if norm else (0.3 if value.ndim > 1 else 0.2) * draw)


def blocks_of(model: torch.nn.Module):
    modules = dict(model.named_modules())
    return next(modules[name] for name in BLOCKS if name in modules)


def first(value):
    return value[0] if isinstance(value, tuple) else value


def record(model: torch.nn.Module, inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    """What enters each block and leaves the last, and the logits."""
    seen, blocks = [], blocks_of(model)

    def before(_, args, named):
        seen.append(args[0] if args else named["hidden_states"])

    hooks = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks]
    hooks.append(blocks[-1].register_forward_hook(lambda _, __, out: seen.append(first(out))))
    with torch.no_grad():
        out = model(inputs[None])
    for hook in hooks:
        hook.remove()
    logits = out.logits[0].numpy() if "logits" in out else None
    return torch.stack([state[0] for state in seen]).numpy(), logits


def write(name: str, seed: int) -> None:
    kind, config = MODELS[name]
    config._attn_implementation = "eager"
    model = kind(config).eval()
    randomise(model, seed)
    draw = np.random.default_rng(seed)
    if "vit" in name or "dino" in name:
        inputs = draw.normal(size=(3, 12, 12)).astype(np.float32)
    else:
        inputs = draw.integers(2, 64, size=70)
    folder = HERE / name
    model.save_pretrained(folder)
    exact = torch.from_numpy(inputs)
    hidden, logits = record(model.double(), exact.double() if exact.is_floating_point() else exact)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)
    arrays = {"inputs": inputs, "hidden": hidden}
    if logits is not None and "roberta" not in name and name != "camembert":  # heads of tasks
        arrays["logits"] = logits
    np.savez_compressed(folder / "reference.npz", **arrays)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {size / 1e3:.0f} kB, hidden {hidden.shape}, size {abs(hidden).max():.1f}")


if __name__ == "__main__":
    for seed, name in enumerate(MODELS):
        if name in (sys.argv[1:] or MODELS):
            write(name, seed)
    versions = {"torch": torch.__version__, "transformers": tf.__version__}
    (HERE / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")
