"""Llama and its relatives: Mistral, Qwen2, Qwen3 (and llama2.c files).

    y = x + attention(RMS(x)),  x' = y + W_2 (silu(W_g z) * W_1 z)  with z = RMS(y)

Causal, rotary positions, several query heads to one key/value head. Mistral sees a window of past
positions, Qwen2 has biases on query, key and value, Qwen3 norms each query and key.
"""

from meanfield.attention import CausalAttention

from .config import Config
from .embedding import TokenEmbedding
from .error import ModelError
from .layer import Layer, pre_norm_layer
from .parts import Parts
from .reader import Reader
from .rope import read_rotary, sharpening


# rotary tables and caches that some files carry
IGNORABLE = (
    r"(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)",
    r"layers\.\d+\.self_attn\.(bias|masked_bias)",
)


def read(reader: Reader, family: str) -> Parts:
    """The embeddings, layers and head of a Llama-like checkpoint."""
    config, checkpoint = reader.config, reader.checkpoint
    dim, words = config.integer("hidden_size"), config.integer("vocab_size")
    epsilon = config.number("rms_norm_eps", 1e-6)
    word = checkpoint.table("embed_tokens.weight", words, dim)
    head = word if config.flag("tie_word_embeddings", False) else None
    if "lm_head.weight" in checkpoint:
        head = checkpoint.table("lm_head.weight", words, dim)
    count = config.integer("num_hidden_layers")
    return Parts(
        embedding=TokenEmbedding(word, config.integer("max_position_embeddings", 2048)),
        layers=tuple(_layer(reader, family, l, dim, epsilon) for l in range(count)),
        final_norm=reader.rms_norm("norm", dim, epsilon),
        head=None if head is None else head.scores,
        causal=True,
        ordered=True,
        ignorable=IGNORABLE,
    )


def _layer(reader: Reader, family: str, l: int, dim: int, epsilon: float) -> Layer:
    config, at = reader.config, f"layers.{l}"
    hidden, bias = config.integer("intermediate_size"), config.flag("mlp_bias", False)
    mlp = reader.mlp(
        reader.linear(f"{at}.mlp.up_proj", hidden, dim, bias=bias),
        reader.linear(f"{at}.mlp.down_proj", dim, hidden, bias=bias),
        reader.activation("hidden_act", "silu"),
        gate=reader.linear(f"{at}.mlp.gate_proj", hidden, dim, bias=bias),
    )
    return pre_norm_layer(
        reader.rms_norm(f"{at}.input_layernorm", dim, epsilon),
        _attention(reader, family, l, dim, epsilon),
        reader.rms_norm(f"{at}.post_attention_layernorm", dim, epsilon),
        mlp,
    )


def _attention(reader: Reader, family: str, l: int, dim: int, epsilon: float) -> CausalAttention:
    config, at = reader.config, f"layers.{l}.self_attn"
    heads = config.integer("num_attention_heads")
    groups = config.divisor("num_key_value_heads", heads, default=heads)
    k = _head_dim(config, dim)
    biased = config.flag("attention_bias", False) or family == "qwen2"
    outer = biased and family != "qwen2"
    query_norm = key_norm = None
    if family == "qwen3":
        query_norm, key_norm = (
            reader.rms_norm(f"{at}.{name}", k, epsilon) for name in ("q_norm", "k_norm")
        )
    wide, narrow = heads * k, groups * k
    inner = [
        reader.linear(f"{at}.{name}", out, dim, bias=biased)
        for name, out in (("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow))
    ]
    attention = reader.attention(
        inner,
        reader.linear(f"{at}.o_proj", dim, wide, bias=outer),
        heads,
        groups,
        rotary=read_rotary(config, k),
        scale=sharpening(config) * k**-0.5,
        query_norm=query_norm,
        key_norm=key_norm,
    )
    return CausalAttention(attention, _window(config, family, l))


def _head_dim(config: Config, dim: int) -> int:
    if "head_dim" in config:
        k = config.integer("head_dim")
    else:
        k = dim // config.divisor("num_attention_heads", dim)
    if k % 2:
        raise ModelError(f"{config.where}: rotary heads must have an even dimension; got {k}.")
    return k


def _window(config: Config, family: str, l: int) -> int | None:
    """How many positions layer l sees, its own included; None for all."""
    if family == "llama" or "sliding_window" not in config:
        return None
    if family != "mistral" and not config.flag("use_sliding_window", False):
        return None
    kinds = config.fields.get("layer_types")
    if kinds is not None:
        slides = config.layer_type(l) == "sliding_attention"
    else:
        slides = family == "mistral" or l >= config.integer("max_window_layers", 28, low=0)
    return config.integer("sliding_window") if slides else None
