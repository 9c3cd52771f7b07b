"""BERT and its relatives: RoBERTa, DistilBERT, MPNet (and MiniLM, which is a BERT).

    x_0 = LN(word + position + segment)
    y = LN(x + attention(x)),  x' = LN(y + W_2 gelu(W_1 y))        in each layer (post-norm)

The input of an attention is the output of the previous norm, so contexts are plain measures;
MPNet's scores carry a bias of the relative position, so its contexts keep their positions.
"""

import dataclasses

import jax.numpy as jnp

from meanfield.attention import RelativeBias

from .embedding import AfterPadding, TokenEmbedding
from .layer import Layer, post_norm_layer
from .parts import Parts
from .reader import Reader


@dataclasses.dataclass(frozen=True)
class Names:
    """What a family calls its tensors and its fields of config.json."""

    layer: str
    query: str
    key: str
    value: str
    output: str
    attention_norm: str
    mlp_in: str
    mlp_out: str
    mlp_norm: str
    dim: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    hidden: str = "intermediate_size"
    activation: str = "hidden_act"


_BERT = Names(
    layer="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    mlp_in="intermediate.dense",
    mlp_out="output.dense",
    mlp_norm="output.LayerNorm",
)
_NAMES = {
    "bert": _BERT,
    "roberta": _BERT,
    "mpnet": dataclasses.replace(
        _BERT,
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        output="attention.attn.o",
        attention_norm="attention.LayerNorm",
    ),
    "distilbert": Names(
        layer="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        attention_norm="sa_layer_norm",
        mlp_in="ffn.lin1",
        mlp_out="ffn.lin2",
        mlp_norm="output_layer_norm",
        dim="dim",
        layers="n_layers",
        heads="n_heads",
        hidden="hidden_dim",
        activation="activation",
    ),
}
FAMILIES = tuple(_NAMES)
# buffers and poolers: nothing that a hidden state depends on
IGNORABLE = (
    r"embeddings\.(position_ids|token_type_ids)",
    r"pooler\..*",
)


def read(reader: Reader, family: str) -> Parts:
    """The embeddings and layers of a BERT-like checkpoint."""
    config, names = reader.config, _NAMES[family]
    config.expect("position_embedding_type", "absolute")
    config.expect("is_decoder", False)
    dim = config.integer(names.dim)
    heads = config.divisor(names.heads, dim)
    epsilon = 1e-12 if family == "distilbert" else config.number("layer_norm_eps", 1e-12)
    score_bias = _relative(reader, heads) if family == "mpnet" else None
    layers = tuple(
        _layer(reader, names, f"{names.layer}.{l}", (dim, heads), epsilon, score_bias)
        for l in range(config.integer(names.layers))
    )
    return Parts(
        embedding=_embedding(reader, family, dim),
        entry=reader.layer_norm("embeddings.LayerNorm", dim, epsilon),
        layers=layers,
        ordered=score_bias is not None,
        ignorable=IGNORABLE,
    )


def _embedding(reader: Reader, family: str, dim: int) -> TokenEmbedding:
    config, checkpoint = reader.config, reader.checkpoint
    rows = config.integer("max_position_embeddings")
    word = checkpoint.table("embeddings.word_embeddings.weight", config.integer("vocab_size"), dim)
    position = checkpoint.table("embeddings.position_embeddings.weight", rows, dim)
    segment = None
    if family in ("bert", "roberta"):
        kinds = config.integer("type_vocab_size", 2)
        segment = checkpoint.take("embeddings.token_type_embeddings.weight", kinds, dim)[0]
    if family in ("bert", "distilbert"):
        return TokenEmbedding(word, rows, position, constant=segment)
    if family == "mpnet":
        config.expect("pad_token_id", 1)  # its positions are built on it
    padding = config.integer("pad_token_id", 1, low=0)
    return TokenEmbedding(word, rows - padding - 1, position, AfterPadding(padding), segment)


def _relative(reader: Reader, heads: int) -> RelativeBias:
    buckets = reader.config.integer("relative_attention_num_buckets", 32)
    name = "encoder.relative_attention_bias.weight"
    return RelativeBias(jnp.asarray(reader.checkpoint.take(name, buckets, heads)))


def _layer(
    reader: Reader,
    names: Names,
    at: str,
    shape: tuple[int, int],
    epsilon: float,
    score_bias: RelativeBias | None,
) -> Layer:
    (dim, heads), config = shape, reader.config
    hidden = config.integer(names.hidden)
    mlp = reader.mlp(
        reader.linear(f"{at}.{names.mlp_in}", hidden, dim),
        reader.linear(f"{at}.{names.mlp_out}", dim, hidden),
        reader.activation(names.activation, "gelu"),
    )
    four = (names.query, names.key, names.value, names.output)
    *inner, output = (reader.linear(f"{at}.{name}", dim, dim) for name in four)
    return post_norm_layer(
        reader.attention(inner, output, heads, score_bias=score_bias),
        reader.layer_norm(f"{at}.{names.attention_norm}", dim, epsilon),
        mlp,
        reader.layer_norm(f"{at}.{names.mlp_norm}", dim, epsilon),
    )
