"""Damaged model files, loaded and inspected: they load, or one line says why not; no hang.

    python benchmarks/mutated_files.py [--count 2000] [--seed 0] [--kind weights config tokenizer]

Files of tiny models with bytes flipped, cut, doubled or exchanged. Each batch is a process of its
own; the peak is of the largest one. A try that raises anything but ModelError counts as a fault,
and so does one that takes longer than its limit.
"""

import argparse
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from meanfield.models import ModelError, inspect, load


TESTS = Path(__file__).parents[1] / "tests" / "models"
FILES = {
    "weights": [
        (TESTS / "golden" / f, "model.safetensors") for f in ("distilbert", "llama", "vit")
    ],
    "config": [
        (TESTS / "golden" / f, "config.json") for f in ("bert", "llama-yarn", "qwen2", "vit")
    ],
    "tokenizer": [
        (TESTS / "token_ids" / "bert", "vocab.txt"),
        (TESTS / "token_ids" / "bert", "tokenizer.json"),
        (TESTS / "token_ids" / "bytes", "vocab.json"),
        (TESTS / "token_ids" / "bytes", "merges.txt"),
        (TESTS / "token_ids" / "bytes", "tokenizer.json"),
    ],
}
SECONDS, BATCH = 20, 100
BYTES = b'{}[]",:0189-.eE\\ \n\x00\xff'


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """The same with one to four places damaged, most of them near the beginning."""
    found = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(min(len(found), draw.choice((16, 1000, 10**9))) or 1)
        kind = draw.random()
        if kind < 0.5 and found:
            found[at] = draw.choice((draw.randrange(256), draw.choice(BYTES)))
        elif kind < 0.7:
            del found[at : at + draw.choice((1, 2, 30))]
        elif kind < 0.85:
            found[at:at] = found[at : at + draw.choice((1, 8, 200))]
        elif kind < 0.95:
            found[at:at] = bytes(draw.choices(BYTES, k=draw.randint(1, 4)))
        else:
            del found[at:]
    return bytes(found)


def prepare(kind: str, draw: random.Random, folder: Path) -> None:
    """A model folder in which one file is damaged."""
    source, name = draw.choice(FILES[kind])
    if kind == "tokenizer":
        base = TESTS / "golden" / ("bert" if source.name == "bert" else "roberta")
        shutil.copytree(base, folder)
        if name == "tokenizer.json":
            from meanfield.models.tokenizer import HubTokenizer
            from meanfield.models.tokenizer_files import find_tokenizer

            tokenizer, _ = find_tokenizer(source, "bert" if source.name == "bert" else "roberta")
            assert isinstance(tokenizer, HubTokenizer)
            tokenizer._tokenizer.save(str(folder / name))
        else:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    else:
        shutil.copytree(source, folder)
    path = folder / name
    path.write_bytes(mutated(path.read_bytes(), draw))


def outcome(kind: str, folder: Path) -> str:
    """What inspecting, loading and (for tokenizers) encoding ended in."""
    signal.alarm(SECONDS)
    try:
        inspect(folder)
        model = load(folder)
        if kind == "tokenizer" and model.tokenizer is not None:
            ids = model.tokenizer.encode("A text: 1234, naïve 北京 </s> [MASK]")
            model.tokenizer.tokens(ids)
        return "loaded"
    except ModelError as error:
        return "refused" if str(error).isprintable() else "not one line"
    except TimeoutError:
        return "hang"
    except BaseException as error:  # panics of the tokenizers library too
        return f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"
    finally:
        signal.alarm(0)


def batch(job: tuple[str, int, int]) -> tuple[Counter, int]:
    """Counts of outcomes and the peak memory of a process."""
    kind, seed, count = job
    signal.signal(signal.SIGALRM, _late)
    found, draw = Counter(), random.Random(f"{kind} {seed}")
    for _ in range(count):
        with tempfile.TemporaryDirectory() as root:
            prepare(kind, draw, Path(root) / "model")
            found[outcome(kind, Path(root) / "model")] += 1
    return found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _late(*_) -> None:
    raise TimeoutError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="+", default=list(FILES), choices=list(FILES))
    told = parser.parse_args()
    faults = 0
    for kind in told.kind:
        starts = range(0, told.count, BATCH)
        jobs = [(kind, told.seed + s, min(BATCH, told.count - s)) for s in starts]
        total, peak = Counter(), 0
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for found, memory in pool.imap(batch, jobs, chunksize=1):
                total, peak = total + found, max(peak, memory)
        print(f"{kind}: {dict(total)}, peak {peak / 1e6:.0f} MB", flush=True)
        faults += sum(n for name, n in total.items() if name not in ("loaded", "refused"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
