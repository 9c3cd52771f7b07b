"""What helps on handwritten digits: width, a trained hidden layer, a smaller risk at the start.

The trends that barboni2022 report on MNIST, on the digits of scikit-learn (1797 images of 8 x 8),
as test errors over seeds. Images pass a linear embedding into q numbers, L = 10 layers and a linear
readout, which stay fixed while the layers follow the gradient flow of the cross-entropy on
mini-batches. "frozen" moves only W of W phi(x) with random features phi, "trained" all of
u sigma(<w, x> + b). "cold" embeds and reads out at random; "warm" fits both beforehand, by the same
flow with layers that have no mass, so that training starts from a smaller risk. Run it from the
root of the repository: `python benchmarks/digits_resnet.py`.
"""

import argparse
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from timing import machine

import meanfield as mf
from meanfield.training import (
    CrossEntropy,
    Euler,
    Fixed,
    LinearInFeatures,
    MeanFieldResNet,
    RandomFeatures,
    Record,
    SingleHiddenLayer,
)


DEPTH, WIDTH, CLASSES, BATCH, STEP = 10, 64, 10, 128, 1.0
NUMBERS_ONLY = Record(certificate=False, distance=False)
CASES = [
    (kind, q, warm) for warm in (False, True) for kind in ("frozen", "trained") for q in (4, 8, 32)
]


def digits(seed: int):
    """(train, test) with pixels centred, and images of mean square norm one."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts: Any = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=seed)
    mean = parts[0].mean(axis=0)
    scale = np.sqrt(np.mean(np.sum((parts[0] - mean) ** 2, axis=1)))
    x, x_test = (jnp.asarray((part - mean) / scale, jnp.float32) for part in parts[:2])
    y, y_test = (jnp.asarray(part, jnp.int32) for part in parts[2:])
    return (x, y), (x_test, y_test)


def network(kind: str, q: int, key) -> MeanFieldResNet:
    """A network that starts as its linear embedding and readout, drawn at random."""
    in_key, out_key, net_key, feature_key = jr.split(key, 4)
    if kind == "frozen":
        residual = LinearInFeatures(RandomFeatures.random(q, WIDTH, key=feature_key))
    else:
        residual = SingleHiddenLayer()
    return MeanFieldResNet.random(
        dim=q,
        depth=DEPTH,
        width=1 if kind == "frozen" else WIDTH,
        key=net_key,
        residual=residual,
        embedding=linear(64, q, in_key, 1 / np.sqrt(q)),
        readout=linear(q, CLASSES, out_key, 1.0),
    )


def linear(inputs: int, outputs: int, key, deviation: float) -> eqx.nn.Linear:
    """A linear map with Gaussian entries and no bias at the start."""
    chart = eqx.nn.Linear(inputs, outputs, key=key)
    weight = deviation * jr.normal(key, (outputs, inputs))
    return eqx.tree_at(lambda f: (f.weight, f.bias), chart, (weight, jnp.zeros(outputs)))


def with_fixed_ends(net: MeanFieldResNet) -> MeanFieldResNet:
    return MeanFieldResNet(net.residual, net.params, Fixed(net.embedding), Fixed(net.readout))


def trained(net: MeanFieldResNet, data, epochs: int, key) -> mf.training.Training:
    steps = epochs * (len(data[1]) // BATCH)
    return mf.gradient_flow(
        net,
        CrossEntropy(),
        data,
        Euler(STEP),
        steps,
        batch_size=BATCH,
        key=key,
        record_every=steps,
        record=NUMBERS_ONLY,
    )


def warmed(net: MeanFieldResNet, data, epochs: int, key) -> MeanFieldResNet:
    """The network with its ends fitted alone: layers without mass neither act nor move."""
    params = net.params
    without = mf.ConditionalMeasure(params.points, params.weights, jnp.zeros_like(params.base))
    return trained(net.with_params(without), data, epochs, key).net.with_params(params)


@eqx.filter_jit
def error(net: MeanFieldResNet, data) -> jax.Array:
    return jnp.mean(jnp.argmax(net.outputs(data[0]), axis=-1) != data[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    print(
        f"L {DEPTH}, M {WIDTH}, Euler({STEP}), {args.epochs} epochs of batches of {BATCH}, "
        f"{args.seeds} seeds"
    )
    print(
        f"{'layer':<8} {'q':>3} {'start':<5} {'risk at start':>13} {'risk':>8} "
        f"{'test error':>17} {'seconds':>8}"
    )
    for kind, q, warm in CASES:
        begun, rows = time.perf_counter(), []
        for seed in range(args.seeds):
            data, test = digits(seed)
            net_key, warm_key, key = jr.split(jr.key(seed), 3)
            net = network(kind, q, net_key)
            net = warmed(net, data, args.epochs, warm_key) if warm else net
            run = trained(with_fixed_ends(net), data, args.epochs, key)
            rows.append((run.risk[0], run.risk[-1], float(error(run.net, test))))
        first, last, errors = np.array(rows).T
        took = time.perf_counter() - begun
        print(
            f"{kind:<8} {q:>3} {'warm' if warm else 'cold':<5} {first.mean():13.3f} "
            f"{last.mean():8.4f} {errors.mean():9.4f} +- {errors.std():.4f} {took:8.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
