"""GPT-2: a causal transformer with norms before attention and perceptron.

    x_0 = word + position
    y = x + attention(LN(x)),  x' = y + W_2 gelu(W_1 LN(y))        in each layer (pre-norm)

Its matrices are stored (in, out), and query, key and value share one of width 3 d.
"""

import numpy as np

from meanfield.attention import CausalAttention, MultiheadAttention

from .embedding import TokenEmbedding
from .layer import Layer, pre_norm_layer
from .parts import Parts
from .reader import Linear, Reader


# masks that old files carry
IGNORABLE = (r"h\.\d+\.attn\.(bias|masked_bias)",)


def read(reader: Reader, family: str) -> Parts:
    """The embeddings, layers and head of a GPT-2 checkpoint."""
    config, checkpoint = reader.config, reader.checkpoint
    config.expect("add_cross_attention", False)
    dim, words = config.integer("n_embd"), config.integer("vocab_size")
    epsilon = config.number("layer_norm_epsilon", 1e-5)
    longest = config.integer("n_positions", 1024)
    word = checkpoint.table("wte.weight", words, dim)
    head = (
        checkpoint.table("lm_head.weight", words, dim) if "lm_head.weight" in checkpoint else word
    )
    return Parts(
        embedding=TokenEmbedding(word, longest, checkpoint.table("wpe.weight", longest, dim)),
        layers=tuple(_layer(reader, l, dim, epsilon) for l in range(config.integer("n_layer"))),
        final_norm=reader.layer_norm("ln_f", dim, epsilon),
        head=head.scores,
        causal=True,
        ordered=True,
        ignorable=IGNORABLE,
    )


def _layer(reader: Reader, l: int, dim: int, epsilon: float) -> Layer:
    config, at = reader.config, f"h.{l}"
    hidden = config.integer("n_inner", 4 * dim)
    mlp = reader.mlp(
        _transposed(reader, f"{at}.mlp.c_fc", hidden, dim),
        _transposed(reader, f"{at}.mlp.c_proj", dim, hidden),
        reader.activation("activation_function", "gelu_new"),
    )
    return pre_norm_layer(
        reader.layer_norm(f"{at}.ln_1", dim, epsilon),
        CausalAttention(_attention(reader, l, dim)),
        reader.layer_norm(f"{at}.ln_2", dim, epsilon),
        mlp,
    )


def _attention(reader: Reader, l: int, dim: int) -> MultiheadAttention:
    config, at = reader.config, f"h.{l}.attn"
    heads = config.divisor("n_head", dim)
    scale = (heads / dim) ** 0.5 if config.flag("scale_attn_weights", True) else 1.0
    if config.flag("scale_attn_by_inverse_layer_idx", False):
        scale /= l + 1
    fused = _transposed(reader, f"{at}.c_attn", 3 * dim, dim)
    bias = np.split(np.zeros(3 * dim) if fused.bias is None else fused.bias, 3)
    inner = [Linear(*part) for part in zip(np.split(fused.weight, 3), bias, strict=True)]
    output = _transposed(reader, f"{at}.c_proj", dim, dim)
    return reader.attention(inner, output, heads, scale=scale)


def _transposed(reader: Reader, name: str, out: int, into: int) -> Linear:
    """A Conv1D of GPT-2: y = x W + b with W of shape (in, out)."""
    weight = reader.checkpoint.take(f"{name}.weight", into, out)
    return Linear(np.ascontiguousarray(weight.T), reader.checkpoint.take(f"{name}.bias", out))
