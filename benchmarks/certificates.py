"""Certificates on balls, beside what a general verifier certifies and what attacks reach.

    python benchmarks/certificates.py --peers DIR [--checkpoint DIR] [--hidden FILE] [--tokens 64]

DIR of --peers holds `instances.npz` and `figures.json`: attention instances, and for each the
per-token tightness of CROWN (auto_LiRPA) by radius, the linear limit, ||J|| and what projected
gradient ascent reached; `minilm_*` are layer 1, head 11 of all-MiniLM-L6-v2. The instances that
need the checkpoint are skipped without --checkpoint; `--hidden` is the array of hidden states the
shorter ones are cut from. Where auto_LiRPA is installed it is run here too, on the instances of at
most --crown-tokens tokens: 64 take a minute or more a radius and 7 GB, and are run in float32. The
script fails where one of our figures is above a verifier's or the trivial radius or below what is
reached. With a checkpoint, every layer is certified on real text of --tokens tokens too (0: none).
"""

import argparse
import importlib.util
import json
import math
import resource
import time
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
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
            yield name, figures, mf.SelfAttention(A=A, V=V), mf.Measure(X)
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


def before_output(head: mf.MultiheadAttention) -> mf.MultiheadAttention:
    """A head whose output is the average of its values."""
    projection = jnp.eye(head.value_proj.shape[1])[None]
    return eqx.tree_at(lambda h: h.output_proj, head, projection)


class Row(NamedTuple):
    """The figures of one instance at one radius, each a displacement of one token over epsilon."""

    ours: float
    split: float
    crown: float
    stored: float
    intervals: float
    attack: float
    trivial: float

    def failures(self, limit: float, radius: float) -> list[str]:
        """What must not be. The attack is known to six digits; ours are rounded outwards."""
        wrong = {
            "above CROWN": self.ours > np.fmin(self.crown, self.stored),
            "above the trivial radius": self.ours > self.trivial * (1 + 1e-5),
            "below the attack": self.ours < self.attack * (1 - 1e-5),
            "moved tokens above split ones": self.ours > self.split * (1 + 1e-9),
            "above 1.1 of the linear limit": radius <= 1e-3 and self.ours > 1.1 * limit,
            "CROWN is not what is stored": abs(self.crown / self.stored - 1) > 1e-2,
        }
        return [what for what, holds in wrong.items() if holds]


def against_peers(folder: Path, model, hidden, crown_tokens: int) -> list[str]:
    """Prints what everybody certifies; returns what should not be."""
    print("displacement of one token over the radius: tokens moved / split; CROWN run here and")
    print("as stored, interval propagation; an attack; the radius of the values\n")
    failures = []
    for name, figures, f, mu in instances(folder, model, hidden):
        peer, exact = peer_of(f, mu, crown_tokens), figures["norm_J"]
        whole = mf.certify(f, mu, 1e-3, splitting=False).value
        theirs = peer.whole(1e-3) if peer else math.nan
        print(
            f"{name}: limit {figures['linear_limit']:.3f}, ||J|| {exact:.3f}; constant of the ball "
            f"of radius 1e-3 over it: {whole / exact:.3f}, CROWN: {shown(theirs / exact)}"
        )
        if not exact * (1 - 1e-5) <= whole <= 1.3 * exact:
            failures.append(f"{name}: the constant of the ball is {whole / exact:.3f} ||J||")
        names = "  ".join(f"{field:>9}" for field in Row._fields)
        print(f"  radius {names}  seconds, and those of CROWN")
        for radius in RADII:
            row, ours, theirs = one_row(f, mu, radius, figures, peer)
            columns = "  ".join(shown(value) for value in row)
            wrong = row.failures(figures["linear_limit"], radius)
            failures += [f"{name} at {radius:g}: {what}" for what in wrong]
            shout = "".join(f"  !!! {what.upper()}" for what in wrong)
            times = f"{shown(ours)} s {shown(theirs)} s"
            print(f"  {radius:<6g} {columns} {times}{shout}", flush=True)
    return failures


def shown(value: float) -> str:
    return f"{'-':>9}" if math.isnan(value) else f"{value:9.3f}"


def peer_of(f, mu, crown_tokens: int):
    """auto_LiRPA on this instance; None where it is not installed, or would take too long."""
    n = len(mu.points)
    if importlib.util.find_spec("auto_LiRPA") is None or n > crown_tokens:
        return None
    import crown
    import torch  # pyright: ignore[reportMissingImports]

    return crown.Verifier(f, mu.points, torch.float64 if n <= 32 else torch.float32)


def one_row(f, mu, radius: float, figures, peer) -> tuple[Row, float, float]:
    """The figures, and the seconds that ours and that CROWN took."""
    started = time.perf_counter()
    ours = displacement_bound(f, mu, radius, splitting=False).value
    moved = time.perf_counter()
    crown = peer.tightness(radius) if peer else math.nan
    ended = time.perf_counter()
    row = Row(
        ours,
        displacement_bound(f, mu, radius).value,
        crown,
        figures["crown"].get(f"{radius:g}", math.nan),
        peer.tightness(radius, "ibp") if peer else math.nan,
        figures["pgd"][f"{radius:g}"],
        trivial(f, mu, radius),
    )
    return row, moved - started, ended - moved if peer else math.nan


def trivial(f, mu, radius: float) -> float:
    """max_ij |v_j - f_i| / epsilon + ||V||: an output stays a mean of the values."""
    value = f.V if isinstance(f, mf.SelfAttention) else f.output_proj[0] @ f.value_proj[0]
    values = np.asarray(f.combine(f.values(mu.points)))
    apart = np.linalg.norm(values[:, None] - np.asarray(f(mu).points), axis=2).max()
    return float(apart / radius + np.linalg.norm(value, 2))


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
        if tokens <= 64:  # beyond, the dense Gram matrices of all heads take minutes a layer
            heads = [worst_head(head, mu) for head in f.heads]
            print(f"    heads at 1e-3: {min(heads):.3f} to {max(heads):.3f} times the exact one")
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
    parser.add_argument("--crown-tokens", type=int, default=32)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    model = mf.models.load(arguments.checkpoint) if arguments.checkpoint else None
    hidden = np.load(arguments.hidden) if arguments.hidden else None
    failures = []
    if arguments.peers:
        failures = against_peers(arguments.peers, model, hidden, arguments.crown_tokens)
    if model is not None and arguments.tokens:
        layers(model, arguments.tokens)
        blocks(model, min(arguments.tokens, 32))
    if failures:
        raise SystemExit("FAILED\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
