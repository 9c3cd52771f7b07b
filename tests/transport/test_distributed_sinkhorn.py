"""One answer on one, two and four devices, and in two processes that talk over loopback."""

import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest


pytestmark = pytest.mark.slow
SCRIPT = pathlib.Path(__file__).with_name("sinkhorn_on_devices.py")


def start(devices, processes=1, index=0, port=0):
    words = [str(number) for number in (devices, processes, index, port)]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def found(process):
    """What a process found, by number of devices; its errors, if it failed."""
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    lines = [line.split() for line in out.splitlines() if line[:2] in ("1 ", "2 ", "4 ")]
    return {int(line[0]): np.array(line[1:], float) for line in lines}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_devices_and_processes_share_the_rows_and_agree():
    port = free_port()
    both = [start(2, processes=2, index=index, port=port) for index in range(2)]
    alone = found(start(4))
    assert sorted(alone) == [1, 2, 4]
    assert len(alone[1]) == 4 and np.all(np.isfinite(alone[1]))
    for numbers in (alone[2], alone[4], *(found(process)[4] for process in both)):
        np.testing.assert_allclose(numbers, alone[1], rtol=1e-11)
