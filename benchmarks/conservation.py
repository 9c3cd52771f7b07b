"""What training conserves, counted: the tables of the theory page, exactly and from gradients.

    python benchmarks/conservation.py [exact] [rational] [gradients]

Without arguments all three. `exact`: ranks modulo 2^31 - 1. `rational`: some of the same cases by
the same algorithm with rational numbers, polynomials by SymPy where it is installed and by Python
fractions else, taking turns with ours. `gradients`: attention, momentum and mirror rows, from
gradients of random losses alone. Times are of the processor.
"""

import sys
import time
from fractions import Fraction

import jax
import jax.numpy as jnp
import jax.random as jr
from timing import machine

import meanfield as mf
from meanfield.training import (
    GradientDynamics,
    LinearNetwork,
    MirrorDynamics,
    MomentumDynamics,
    ReLUNetwork,
    find_quadratic_laws,
    lie_rank,
)


# (n, m, r) of U in R^(n x r), V in R^(m x r)
TWO_LAYERS = {
    (1, 1, 1): 1,
    (2, 1, 1): 1,
    (2, 2, 2): 3,
    (3, 2, 2): 3,
    (1, 1, 2): 3,
    (1, 1, 3): 5,
    (2, 1, 4): 9,
    (3, 2, 3): 6,
    (2, 2, 5): 14,
    (3, 3, 2): 3,
}
DEEP = (
    "2-2-2:3 2-3-2:6 3-2-3:3 2-2-2-2:6 2-3-2-2:9 3-2-2-3:6 2-2-2-2-2:9 4-2-3-2:9 1-5-1:9 2-6-2:18 "
    "3-4-3-4:16 5-5-5:15 3-3-3-3:12 5-3-4-5:16 2-4-4-4-2:30"
)
RELU = "2-2-2:2 3-4-2:4 2-2-5-3:7 3-4-4-3:8 2-3-3-3-2:9 6-8-7:8"
BIASED = "2-2-2:2 3-4-2:4 2-3-4-2:7"
RATIONAL = (
    ("2-3-2", "2-2-2-2", "4-2-3-2", "2-6-2", "2-2-2-2-2"),
    ("3-4-2", "2-2-5-3", "3-4-4-3", "6-8-7"),
)


def rows(text: str) -> list[tuple[tuple[int, ...], int]]:
    pairs = (entry.split(":") for entry in text.split())
    return [(tuple(map(int, widths.split("-"))), int(count)) for widths, count in pairs]


def timed(run):
    start = time.process_time()
    return run(), time.process_time() - start


def exact_table() -> None:
    """Every integer of the table, and the time of each."""
    networks = [
        *(("linear", LinearNetwork((n, r, m)), k) for (n, m, r), k in TWO_LAYERS.items()),
        *(("linear", LinearNetwork(widths), k) for widths, k in rows(DEEP)),
        *(("relu", ReLUNetwork(widths), k) for widths, k in rows(RELU)),
        *(("relu, biases", ReLUNetwork(widths, bias=True), k) for widths, k in rows(BIASED)),
    ]
    total, wrong = 0.0, 0
    for kind, network, expected in networks:
        found, seconds = timed(lambda network=network: lie_rank(network))
        laws = network.size - found.rank
        total, wrong = total + seconds, wrong + (laws != expected)
        name = "-".join(map(str, network.widths))
        print(
            f"{kind:<14} {name:<12} D={network.size:<4} laws {laws:>3} (table {expected:>3})  "
            f"{found.closed:<20} {seconds:7.3f} s"
        )
    print(f"{len(networks)} rows, {wrong} differ from the table; {total:.1f} s in all")


class Rational:
    """Polynomials and ranks over the rational numbers, for the algorithm of `lie_rank`."""

    def __init__(self, size: int):
        self.size = size
        self.ring = _sympy_ring(size)
        draw = jr.randint(jr.key(0), (size,), 1, 50)
        self.point = [Fraction(int(p), 7) for p in draw]
        self.rows: dict[int, list[Fraction]] = {}

    def polynomial(self, terms):
        """From {indices: coefficient}."""
        if self.ring is None:
            return {key: Fraction(c) for key, c in terms.items()}
        found = self.ring.zero
        for key, coefficient in terms.items():
            one = self.ring.one * coefficient
            for v in key:
                one = one * self.ring.gens[v]
            found += one
        return found

    def derivative(self, f, v):
        if self.ring is not None:
            return f.diff(self.ring.gens[v])
        found = {}
        for key, c in f.items():
            if power := key.count(v):
                place = key.index(v)
                found[key[:place] + key[place + 1 :]] = c * power
        return found

    def gradient(self, f):
        return [self.derivative(f, v) for v in range(self.size)]

    def bracket(self, X, Y):
        return [self._component(X, Y, i) for i in range(self.size)]

    def _component(self, X, Y, i):
        total = self.ring.zero if self.ring is not None else {}
        for j in range(self.size):
            for left, right, sign in ((X, Y, 1), (Y, X, -1)):
                if left[i] and right[j] and (slope := self.derivative(left[i], j)):
                    total = self._add(total, slope, right[j], sign)
        return total

    def _add(self, total, f, g, sign):
        if self.ring is not None:
            return total + sign * f * g
        for one, a in f.items():
            for other, b in g.items():
                key = tuple(sorted(one + other))
                total[key] = total.get(key, 0) + sign * a * b
        return {key: c for key, c in total.items() if c}

    def value(self, f):
        total = Fraction(0)
        for key, c in f.terms() if self.ring is not None else f.items():
            one = Fraction(int(c.numerator), int(c.denominator))
            for v, power in enumerate(key) if self.ring is not None else ((v, 1) for v in key):
                one *= self.point[v] ** power
            total += one
        return total

    def keep(self, field) -> bool:
        """Whether the field is independent, at the point, of those kept before."""
        rest = [self.value(f) if f else Fraction(0) for f in field]
        for place in range(self.size):
            if not rest[place]:
                continue
            if place not in self.rows:
                self.rows[place] = [x / rest[place] for x in rest]
                return True
            head, row = rest[place], self.rows[place]
            rest = [x - head * y for x, y in zip(rest, row, strict=True)]
        return False


def _sympy_ring(size: int):
    try:
        from sympy import QQ
        from sympy.polys.rings import ring
    except ImportError:
        return None
    return ring([f"x{i}" for i in range(size)], QQ)[0]


def rational_laws(network) -> int:
    """The count by the algorithm of `lie_rank`, over the rational numbers."""
    known = Rational(network.size)
    for law in network.known_laws():
        known.keep(known.gradient(known.polynomial(signed(law))))
    space, most = Rational(network.size), network.size - len(known.rows)
    fields = [space.gradient(space.polynomial(signed(phi))) for phi in network.terms()]
    level = generators = [X for X in fields if space.keep(X)]
    while level and len(space.rows) < most:
        found = []
        for X in level:
            for Y in generators:
                Z = space.bracket(X, Y)
                if space.keep(Z):
                    found.append(Z)
                if len(space.rows) == most:
                    return network.size - most
        level = found
    return network.size - len(space.rows)


def signed(polynomial: dict) -> dict:
    """The coefficients -1, 0, 1, ... of a table as integers again."""
    return {key: c if c < 2**30 else c - (2**31 - 1) for key, c in polynomial.items()}


def rational_table() -> None:
    """Ours and the rational count, in turns."""
    how = "SymPy's polynomials" if _sympy_ring(1) is not None else "Python fractions"
    print(f"\nmodulo a prime against the rational numbers ({how}), the better of two runs each")
    for kind, names in zip((LinearNetwork, ReLUNetwork), RATIONAL, strict=True):
        for name in names:
            network = kind(tuple(map(int, name.split("-"))))
            ours, theirs = [], []
            for _ in range(2):
                found, seconds = timed(lambda network=network: lie_rank(network))
                ours.append(seconds)
                laws, seconds = timed(lambda network=network: rational_laws(network))
                theirs.append(seconds)
            same = laws == network.size - found.rank
            print(
                f"{kind.__name__:<14} {name:<10} {laws:>3} laws, {'equal' if same else 'DIFFERENT'}"
                f"  prime {min(ours):8.4f} s  rational {min(theirs):8.3f} s"
                f"  x {min(theirs) / min(ours):.0f}"
            )


def attention(heads, groups, k, d, biases=False, **extra):
    if biases:
        names = {"query_bias": (heads, k), "key_bias": (groups, k), "value_bias": (groups, k)}
        extra |= {name: jnp.zeros(shape) for name, shape in names.items()}
        extra["output_bias"] = jnp.zeros(d)
    shapes = [(heads, k, d), (groups, k, d), (groups, k, d), (heads, d, k)]
    return mf.MultiheadAttention(*map(jnp.zeros, shapes), **extra)


def attention_loss(skip=False):
    def loss(f, batch):
        x, y = batch
        mu = mf.ConditionalMeasure.from_sequence(x) if f.rotary is not None else mf.Measure(x)
        out = f(mu).points.reshape(y.shape) + (x if skip else 0)
        return jnp.mean((out - y) ** 2)

    return loss


def two_layers(activation):
    def loss(params, batch):
        (U, V), (x, y) = params, batch
        return jnp.mean((activation(x @ U) @ V.T - y) ** 2)

    return loss


def batches(n, into, out):
    def draw(key):
        one, other = jr.split(key)
        return jr.normal(one, (n, into)), jr.normal(other, (n, out))

    return draw


def gradient_rows():
    """Names, what `find_quadratic_laws` is given, and (laws, independent ones) of the table."""
    rope = mf.Rotary(3.0)
    for name, f, skip, expected in (
        ("1 head, d=3, k=2", attention(1, 1, 2, 3), False, (6, 6)),
        ("1 head and a skip", attention(1, 1, 2, 3), True, (6, 6)),
        ("2 heads", attention(2, 2, 2, 3), False, (12, 12)),
        ("1 head, all biases, d=2", attention(1, 1, 2, 2, True), False, (11, 8)),
        ("1 head, rotary, k=2", attention(1, 1, 2, 3, rotary=rope), False, (4, 4)),
        ("1 head, rotary, k=4, d=2", attention(1, 1, 4, 2, rotary=rope), False, (12, 12)),
        ("2 heads sharing K, V", attention(2, 1, 2, 3), False, (6, 6)),
    ):
        d = f.query_proj.shape[-1]
        yield name, (attention_loss(skip), f, batches(5, d, d)), {}, expected
    linear, relu = two_layers(lambda x: x), two_layers(jax.nn.relu)
    flow, ball, mirror = GradientDynamics(), MomentumDynamics(0.7), MirrorDynamics()
    for word, loss, dynamics, shape, expected in (
        ("gradient, linear", linear, flow, (2, 1, 2), 3),
        ("gradient, linear", linear, flow, (2, 2, 2), 3),
        ("gradient, linear", linear, flow, (2, 1, 3), 6),
        ("momentum, linear", linear, ball, (2, 1, 2), 1),
        ("momentum, linear", linear, ball, (2, 2, 2), 1),
        ("momentum, linear", linear, ball, (2, 1, 3), 3),
        ("momentum, linear", linear, ball, (1, 1, 3), 6),
        ("momentum, linear", linear, ball, (1, 1, 5), 14),
        ("momentum, relu", relu, ball, (2, 2, 2), 0),
        ("momentum, relu", relu, ball, (3, 2, 2), 0),
        ("mirror, linear laws", linear, mirror, (2, 2, 1), 1),
        ("mirror, linear laws", linear, mirror, (3, 2, 2), 2),
        ("mirror, linear laws", linear, mirror, (3, 3, 3), 3),
    ):
        n, m, r = shape
        params = jnp.zeros((n, r)), jnp.zeros((m, r))
        settings = {"degrees": (1,)} if dynamics is mirror else {}
        given = (loss, params, batches(3, n, m), dynamics)
        yield f"{word} {shape}", given, settings, (None, expected)


def gradient_table() -> None:
    """Laws found from gradients alone."""
    print("\nfrom gradients alone: laws, independent ones; null singular values, the next")
    total, wrong = 0.0, 0
    for name, given, settings, expected in gradient_rows():
        laws, seconds = timed(
            lambda given=given, settings=settings: find_quadratic_laws(
                *given, key=jr.key(0), **settings
            )
        )
        s, k = laws.singular_values, laws.count
        right = laws.independent == expected[1] and expected[0] in (None, k)
        total, wrong = total + seconds, wrong + (not right)
        null, verdict = f"{s[-k]:.0e}" if k else "none", "as told" if right else "DIFFERENT"
        print(
            f"{name:<32} {k:>3}, {laws.independent:>3} {verdict}  {null:>6} | {s[-k - 1]:.0e}"
            f"  {seconds:5.1f} s"
        )
    print(f"{wrong} rows differ from the table; {total:.1f} s in all, compilation included")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["exact", "rational", "gradients"]
    print(machine())
    for name in chosen:
        {"exact": exact_table, "rational": rational_table, "gradients": gradient_table}[name]()
