"""Trains the vision transformer that ships with meanfield: `digits-vit`, 18,218 parameters.

    python recipes/train_digits_vit.py OUT

Scikit-learn's handwritten digits (8 x 8 pixels, values 0 to 16, read as x / 8 - 1), patches of
2 x 2, a class token, 2 layers of 4 heads in dimension 32. Plain JAX and optax, a few seconds of
CPU. OUT receives config.json and model.safetensors in the naming of Hugging Face's ViT (readable
by `meanfield.models.load` and by `transformers`) and samples.npy, 16 images of the test fifth,
which is never trained on.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


SIDE, PATCH, DIM, HIDDEN, HEADS, LAYERS, BATCH, STEPS = 8, 2, 32, 64, 4, 2, 64, 1200
PATCHES = (SIDE // PATCH) ** 2
CLASSES = 10


def initial(key) -> dict:
    """Every matrix normal with variance 1 / inputs, positions with variance 1; names of ViT."""
    linear = {"classifier": (CLASSES, DIM)}
    for l in range(LAYERS):
        at = f"vit.encoder.layer.{l}"
        linear |= {
            f"{at}.attention.attention.{part}": (DIM, DIM) for part in ("query", "key", "value")
        }
        linear |= {
            f"{at}.attention.output.dense": (DIM, DIM),
            f"{at}.intermediate.dense": (HIDDEN, DIM),
            f"{at}.output.dense": (DIM, HIDDEN),
        }
    patch_key, class_key, place_key, *keys = jr.split(key, 3 + len(linear))
    at = "vit.embeddings"
    params = {
        f"{at}.cls_token": jr.normal(class_key, (1, 1, DIM)),
        f"{at}.position_embeddings": jr.normal(place_key, (1, PATCHES + 1, DIM)),
        f"{at}.patch_embeddings.projection.weight": jr.normal(patch_key, (DIM, 1, PATCH, PATCH))
        / PATCH,
        f"{at}.patch_embeddings.projection.bias": jnp.zeros(DIM),
    }
    for (name, shape), k in zip(linear.items(), keys, strict=True):
        params[f"{name}.weight"] = jr.normal(k, shape) / jnp.sqrt(shape[1])
        params[f"{name}.bias"] = jnp.zeros(shape[0])
    norms = [
        f"vit.encoder.layer.{l}.layernorm_{side}"
        for l in range(LAYERS)
        for side in ("before", "after")
    ]
    for norm in [*norms, "vit.layernorm"]:
        params |= {f"{norm}.weight": jnp.ones(DIM), f"{norm}.bias": jnp.zeros(DIM)}
    return params


def affine(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def layer_norm(p, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p, name, x):
    n = x.shape[0]
    q, k, v = (
        affine(p, f"{name}.attention.{part}", x).reshape(n, HEADS, -1)
        for part in ("query", "key", "value")
    )
    weights = jax.nn.softmax(jnp.einsum("ihk,jhk->hij", q, k) / jnp.sqrt(DIM // HEADS))
    out = jnp.einsum("hij,jhv->ihv", weights, v).reshape(n, DIM)
    return affine(p, f"{name}.output.dense", out)


def logits(p, image):
    at = "vit.embeddings"
    cells = image.reshape(1, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
    kernel = p[f"{at}.patch_embeddings.projection.weight"]
    x = jnp.einsum("cipjq,dcpq->ijd", cells, kernel).reshape(PATCHES, DIM)
    x = x + p[f"{at}.patch_embeddings.projection.bias"]
    x = jnp.concatenate([p[f"{at}.cls_token"][0], x]) + p[f"{at}.position_embeddings"][0]
    for l in range(LAYERS):
        at = f"vit.encoder.layer.{l}"
        x = x + attention(p, f"{at}.attention", layer_norm(p, f"{at}.layernorm_before", x))
        hidden = affine(p, f"{at}.intermediate.dense", layer_norm(p, f"{at}.layernorm_after", x))
        x = x + affine(p, f"{at}.output.dense", jax.nn.gelu(hidden, approximate=False))
    return affine(p, "classifier", layer_norm(p, "vit.layernorm", x)[0])


def loss(p, images, labels):
    out = jax.vmap(logits, (None, 0))(p, images)
    return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()


def train(images, labels, seed: int) -> dict:
    descent = optax.adamw(optax.cosine_decay_schedule(2e-3, STEPS), weight_decay=0.1)
    params = initial(jr.key(seed))
    state = descent.init(params)

    @jax.jit
    def step(params, state, images, labels):
        slope = jax.grad(loss)(params, images, labels)
        move, state = descent.update(slope, state, params)
        return optax.apply_updates(params, move), state

    draw = np.random.default_rng(seed)
    for _ in range(STEPS):
        chosen = draw.integers(len(images), size=BATCH)
        params, state = step(params, state, images[chosen], labels[chosen])
    return params


def accuracy(params: dict, images, labels) -> float:
    out = jax.jit(jax.vmap(logits, (None, 0)))(params, images)
    return float((out.argmax(-1) == labels).mean())


def configuration() -> dict:
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_act": "gelu",
        "hidden_size": DIM,
        "image_size": SIDE,
        "intermediate_size": HIDDEN,
        "layer_norm_eps": 1e-6,
        "num_attention_heads": HEADS,
        "num_channels": 1,
        "num_hidden_layers": LAYERS,
        "patch_size": PATCH,
        "qkv_bias": True,
        "id2label": {str(digit): str(digit) for digit in range(CLASSES)},
        "label2id": {str(digit): digit for digit in range(CLASSES)},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    digits = load_digits()
    images = (digits.images[:, None] / 8 - 1).astype(np.float32)
    images, test_images, labels, test_labels = train_test_split(
        images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    start = time.process_time()
    params = train(images, labels, chosen.seed)
    print(f"trained in {time.process_time() - start:.0f} CPU-seconds")
    print(f"accuracy {accuracy(params, images, labels):.4f} on {len(labels)} training images")
    print(f"accuracy {accuracy(params, test_images, test_labels):.4f} on {len(test_labels)} others")
    chosen.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.asarray(value) for name, value in params.items()},
        chosen.out / "model.safetensors",
        metadata={"format": "pt"},
    )
    (chosen.out / "model.safetensors").chmod(0o644)
    (chosen.out / "config.json").write_text(json.dumps(configuration(), indent=2) + "\n")
    np.save(chosen.out / "samples.npy", test_images[:16])


if __name__ == "__main__":
    main()
