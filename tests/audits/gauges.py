"""Small models of every family, and other weights for the same function: heads and neurons
permuted, factors that cancel."""

import dataclasses
from pathlib import Path

import equinox as eqx
import gauge_changes
import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield.attention import MLP, MultiheadAttention


GOLDEN = Path(__file__).parents[1] / "models" / "golden"
FAMILIES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


def load(family: str):
    """A small random model of a family, in float64."""
    return in_double(GOLDEN / family)


def in_double(path: Path):
    """A model in float64; the test skips in the lane of float32, where gauges round."""
    if not jax.config.read("jax_enable_x64"):
        pytest.skip("gauges are changed in float64")
    return mf.models.load(path, dtype="float64")


def everywhere(model, kind, change):
    """The model with `change` applied to the i-th different part of a kind, wherever it is used."""
    changed, parts = {}, []

    def new(part):
        if not isinstance(part, kind):
            return part
        name = id(jax.tree.leaves(part)[0])
        if name not in changed:
            parts.append(part)  # keeps it alive, and with it the name
            changed[name] = change(part, len(changed))
        return changed[name]

    return jax.tree.map(new, model, is_leaf=lambda part: isinstance(part, kind))


def with_fields(module, **fields):
    names = list(fields)
    return eqx.tree_at(
        lambda m: [getattr(m, name) for name in names],
        module,
        [jax.numpy.asarray(fields[name]) for name in names],
        is_leaf=lambda x: x is None,
    )


def head_order(f: MultiheadAttention, rng) -> np.ndarray:
    """A permutation of the heads that keeps those of one key/value head together."""
    groups = np.arange(f.query_proj.shape[0]).reshape(-1, f.group)
    return np.concatenate([rng.permutation(group) for group in rng.permutation(groups)])


def permuted(f: MultiheadAttention, order: np.ndarray) -> MultiheadAttention:
    """The same map with head order[i] in place i."""
    shared = order[:: f.group] // f.group
    own = {"query_proj": order, "output_proj": order, "query_bias": order}
    groups = dict.fromkeys(("key_proj", "value_proj", "key_bias", "value_bias"), shared)
    there = {n: i for n, i in {**own, **groups}.items() if getattr(f, n) is not None}
    f = with_fields(f, **{name: getattr(f, name)[index] for name, index in there.items()})
    if f.score_bias is None:
        return f
    return eqx.tree_at(lambda m: m.score_bias.table, f, f.score_bias.table[:, order])


def regauged(f: MultiheadAttention, rng) -> MultiheadAttention:
    """The same map with other factors, and other biases where shares that sum to one hide them."""
    g = gauge_changes.regauged(f, rng)
    groups = f.value_proj.shape[:2]
    if f.key_bias is not None and f.rotary is None and f.key_norm is None:
        g = with_fields(g, key_bias=g.key_bias + rng.normal(size=f.key_bias.shape))
    if f.value_bias is None or f.output_bias is None:
        return g
    g = with_fields(g, value_bias=g.value_bias + rng.normal(size=groups))
    return with_fields(g, output_bias=f.output_bias - (_constant(g) - _constant(f)))


def _constant(f: MultiheadAttention) -> np.ndarray:
    return np.einsum("hev,hv->e", f.output_proj, np.repeat(f.value_bias, f.group, axis=0))


def permuted_neurons(f: MLP, order: np.ndarray, rng) -> MLP:
    """The same perceptron with neuron order[i] in place i; gated ones with other factors too."""
    factor = np.ones(len(order)) if f.gate is None else rng.normal(size=len(order))
    fields = {
        "weight_in": factor[:, None] * f.weight_in[order],
        "weight_out": f.weight_out[:, order] / factor,
    }
    if f.bias_in is not None:
        fields["bias_in"] = factor * f.bias_in[order]
    for name in ("gate", "gate_bias"):
        if getattr(f, name) is not None:
            fields[name] = getattr(f, name)[order]
    return with_fields(f, **fields)


def louder(model, layer: int, head: int, factor: float):
    """The model with the queries of one head multiplied."""

    def change(f, l):
        if l != layer:
            return f
        query = f.query_proj.at[head].multiply(factor)
        bias = f.query_bias if f.query_bias is None else f.query_bias.at[head].multiply(factor)
        return dataclasses.replace(f, query_proj=query, query_bias=bias)

    return everywhere(model, MultiheadAttention, change)
