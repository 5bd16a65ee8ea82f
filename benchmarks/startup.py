# SPDX-License-Identifier: Apache-2.0
"""Wall seconds of the commands that must answer at once, ten times each, interleaved.

python benchmarks/startup.py
"""

import subprocess
import sys
import time
from statistics import median

COMMANDS = (
    ["--help"],
    ["plan"],
    ["plan", "--model", "*", "--precision", "fp16,int8,int4"],
    ["catalog"],
    ["claims"],
    ["show"],
)
ROUNDS = 10


def main() -> None:
    """Measure and print."""
    seconds: dict[str, list[float]] = {" ".join(command): [] for command in COMMANDS}
    for _ in range(ROUNDS):
        for command in COMMANDS:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "bench", *command], check=True, stdout=subprocess.DEVNULL)
            seconds[" ".join(command)].append(time.perf_counter() - start)
    for name, samples in seconds.items():
        print(f"bench {name}: median {median(samples):.2f} s, worst {max(samples):.2f} s, n = {len(samples)}")


if __name__ == "__main__":
    main()
