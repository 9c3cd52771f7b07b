"""Damaged audits, read by `report` and `compare`: no exit code but the documented ones, no hang.

    python benchmarks/mutated_records.py [--count 2000] [--seed 0]

Each record is a valid one with a few values, names or bytes changed. It is compared with the valid
one and reported as a page, as Markdown, as CSV and as a figure. The peak is of the process.
"""

import argparse
import json
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from typer.testing import CliRunner


sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from audit_specimen import attacked, specimen  # pyright: ignore[reportMissingImports]

from meanfield.audits import document
from meanfield.cli.main import app


EXPECTED = (0, 3)
SECONDS = 20
VALUES = (
    *(None, True, False, 0, -1, 1, 7, 10**18, 10**400, 0.5, -0.5, 1e308, 5e-324, float("nan")),
    *(float("inf"), "", "x", "\ud800", "\x1b[31m", "<script>", "a" * 5000, [], [[]], [None], {}),
    *([0] * 50, {"a": 1}, [1e300, 1e-300], "local[0] > 1", "complete", -(10**30)),
)


def mutated(text: str, rng: random.Random) -> str:
    """The record with one to three values changed, or its bytes."""
    if rng.random() < 0.15:
        return _torn(text, rng)
    record = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(record, rng)
    return json.dumps(record)


def _change(record, rng: random.Random) -> None:
    """Walks to a random place and writes, deletes, doubles or empties there."""
    holder, key = record, rng.choice(list(record))
    while isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.85:
        holder = holder[key]
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind, old = rng.random(), holder[key]
    if type(old) in (int, float) and kind < 0.6:  # of the right type, and absurd
        holder[key] = (
            type(old)(old * rng.choice((0, -1, 3, 1e3, 1e15))) if rng.random() < 0.7 else 0
        )
    elif isinstance(old, str) and kind < 0.6:
        holder[key] = rng.choice([value for value in VALUES if isinstance(value, str)])
    elif kind < 0.7:
        holder[key] = rng.choice(VALUES)
    elif kind < 0.85:
        del holder[key]
    elif isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder["unknown"] = holder[key]


def _torn(text: str, rng: random.Random) -> str:
    cut = rng.randrange(len(text))
    return text[:cut] + rng.choice(("", '"', "}", "[" * 9, "\x00", "1e999")) + text[cut + 3 :]


def exits(folder: Path, text: str, runner: CliRunner) -> list[tuple[str, int, str]]:
    """What each command makes of one record: its name, its exit code, its words."""
    (folder / "bad.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    bad, good = str(folder / "bad.json"), str(folder / "good.json")
    commands = {
        "compare": ["compare", bad, good],
        **{
            end: ["report", bad, "-o", str(folder / f"out.{end}"), "--force"]
            for end in ("html", "md", "csv", "png")
        },
    }
    found = []
    for name, command in commands.items():
        signal.alarm(SECONDS)
        result = runner.invoke(app, command)
        signal.alarm(0)
        found.append((name, result.exit_code, result.stderr))
        if result.exit_code == 3 and name == "compare":
            break  # refused while it was read: the others read in the same way
    return found


def main() -> int:
    """Prints how often each exit code came, and every one that is not expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, codes, bad, slowest = random.Random(given.seed), Counter(), 0, 0.0
    valid = [document.to_json(specimen()), document.to_json(attacked(layers=2))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "good.json").write_text(valid[0])
        for number in range(given.count):
            text, start = mutated(rng.choice(valid), rng), time.perf_counter()
            for command, code, words in exits(folder, text, CliRunner()):
                codes[code] += 1
                if code not in EXPECTED or words.count("\n") > 1:
                    bad += 1
                    print(f"record {number}, {command}: exit {code}: {words.strip()[:300]}")
            slowest = max(slowest, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.count} records, exit codes {dict(codes)}, {bad} not expected")
    print(f"slowest {slowest:.1f} s, peak {peak:.0f} MB")
    return int(bad > 0 or peak > 500)


if __name__ == "__main__":
    raise SystemExit(main())
