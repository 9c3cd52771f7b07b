"""Certificates on balls, beside what a general verifier certifies and what attacks reach.

    python benchmarks/certificates.py --peers DIR [--checkpoint DIR] [--tokens 64]

DIR of --peers holds `instances.npz` and `figures.json`: attention instances, and for each the
per-token tightness of CROWN (auto_LiRPA) by radius, the linear limit, ||J|| and what projected
gradient ascent reached; `minilm_*` are layer 1, head 11 of all-MiniLM-L6-v2. The instances that
need the checkpoint are skipped without --checkpoint; `--hidden` is the array of hidden states the
shorter ones are cut from. With a checkpoint, every layer is certified on real text too.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import meanfield as mf
from meanfield.lipschitz import certificate_curve, displacement_bound


RADII = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def instances(folder: Path, model, hidden):
    """(name, the peer's figures, the attention, the measure) of each instance at hand."""
    arrays = np.load(folder / "instances.npz")
    for name, figures in json.loads((folder / "figures.json").read_text()).items():
        if name.startswith("toy"):
            X, A, V = (jnp.asarray(arrays[f"{name}_{part}"]) for part in "XAV")
            yield name, figures, mf.SelfAttention(A, V), mf.Measure(X)
            continue
        n = int(name.split("_")[1])
        points = arrays[f"{name}_X"] if f"{name}_X" in arrays else None
        if points is None and hidden is not None:
            points = np.asarray(hidden[1][:n], np.float64)
        if model is not None and points is not None:
            yield (
                name,
                figures,
                before_output(model.layers[1].attention.heads[11]),
                mf.Measure(points),
            )


def before_output(head):
    """A head of MiniLM whose output is the average of its values."""
    values = jnp.eye(head.value_proj.shape[1])[None]
    return mf.MultiheadAttention(
        head.query_proj,
        head.key_proj,
        head.value_proj,
        values,
        query_bias=head.query_bias,
        key_bias=head.key_bias,
        scale=head.score_scale,
    )


def against_peers(folder: Path, model, hidden) -> None:
    print("tightness of one token's displacement (moved tokens / split tokens / CROWN / attack)")
    for name, figures, f, mu in instances(folder, model, hidden):
        exact = figures["norm_J"]
        whole = mf.certify(f, mu, 1e-3, splitting=False)
        print(
            f"{name}: limit {figures['linear_limit']:.3f}, ||J|| {exact:.3f}; constant of the ball "
            f"of radius 1e-3: {whole.value:.3f} = {whole.value / exact:.3f} ||J||"
        )
        for radius in RADII:
            started = time.perf_counter()
            ours = displacement_bound(f, mu, radius, splitting=False).value
            seconds = time.perf_counter() - started
            split = displacement_bound(f, mu, radius).value
            crown = figures["crown"].get(f"{radius:g}", float("nan"))
            print(
                f"  {radius:<6g} {ours:8.3f} {split:8.3f} {crown:8.3f} "
                f"{figures['pgd'][f'{radius:g}']:8.3f}   {seconds:5.2f} s"
                f"{'   ABOVE CROWN' if ours > crown else ''}"
            )


def layers(model, tokens: int) -> None:
    text = (Path(__file__).parent.parent / "LICENSE").read_text()
    print(f"layers of MiniLM, n = {tokens}: certificate / exact constant at the measure")
    for number, (layer, mu) in enumerate(
        zip(model.layers, model.contexts(model.tokenize(text)[:tokens]), strict=True)
    ):
        f, key = layer.attention, jr.key(number)
        exact = float(mf.local_lipschitz(f, mu, key=key, rtol=1e-3, upper=False).value)
        everywhere = mf.lipschitz_bound(f, mf.Ball(float(mu.radius) + 0.03))
        for radius in (1e-3, 3e-2):
            started, busy = time.perf_counter(), time.process_time()
            bound = mf.certify(f, mu, radius, key=key)
            seconds, busy = time.perf_counter() - started, time.process_time() - busy
            print(
                f"  layer {number}, radius {radius:g}: {bound.value:8.3f} / {exact:.3f} = "
                f"{bound.value / exact:6.3f}  {bound.theorem}  {seconds:.2f} s "
                f"({busy:.2f} s of processor time)  "
                f"(on the domain: 10^{everywhere.log10_value:.0f})"
            )
        heads = [worst_head(head, mu) for head in f.heads]
        print(f"    heads at 1e-3: {min(heads):.3f} to {max(heads):.3f} times the exact constant")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def blocks(model, tokens: int) -> None:
    text = (Path(__file__).parent.parent / "LICENSE").read_text()
    states = model.hidden(model.tokenize(text)[:tokens])
    radii = (0.0, 1e-4, 1e-3, 3e-3)
    print(f"blocks of MiniLM, n = {tokens}: certificates at {radii}")
    for number, layer in enumerate(model.layers):
        mu = mf.Measure(jnp.asarray(np.asarray(states[number]), jnp.float64))
        busy = time.process_time()
        found = certificate_curve(layer.block, mu, radii, key=jr.key(number))
        busy = time.process_time() - busy
        print(f"  block {number}: {', '.join(f'{b.value:.4g}' for b in found)}  ({busy:.1f} s)")


def worst_head(head, mu) -> float:
    """The certificate of one head at radius 1e-3 over its value at radius zero, exact to 1e-3."""
    return mf.certify(head, mu, 1e-3).value / mf.certify(head, mu, 0.0).value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="folder with instances.npz and figures.json")
    parser.add_argument("--checkpoint", help="directory of all-MiniLM-L6-v2")
    parser.add_argument("--hidden", type=Path, help="hidden states (layers, n, d), .npy")
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    model = mf.models.load(arguments.checkpoint) if arguments.checkpoint else None
    hidden = np.load(arguments.hidden) if arguments.hidden else None
    if arguments.peers:
        against_peers(arguments.peers, model, hidden)
    if model is not None:
        layers(model, arguments.tokens)
        blocks(model, min(arguments.tokens, 32))


if __name__ == "__main__":
    main()
