"""How long the command line and the import take, as whole processes, against a bare interpreter.

python benchmarks/startup.py [--rounds 9]
"""

import argparse
import subprocess
import sys
from pathlib import Path

from timing import interleaved, report


def process(*command: str):
    return lambda: subprocess.run(command, check=True, capture_output=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    script = str(Path(sys.executable).parent / "meanfield")
    seconds = interleaved(
        {
            "python -c pass": process(sys.executable, "-c", "pass"),
            "import meanfield": process(sys.executable, "-c", "import meanfield"),
            "import meanfield; meanfield.Measure": process(
                sys.executable, "-c", "import meanfield; meanfield.Measure"
            ),
            "import jax": process(sys.executable, "-c", "import jax"),
            "meanfield --help": process(script, "--help"),
        },
        rounds,
    )
    report(seconds, against="import jax")


if __name__ == "__main__":
    main()
