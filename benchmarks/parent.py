# SPDX-License-Identifier: Apache-2.0
"""What the waiting parent costs while a cell is measured: its own CPU seconds over wall seconds.

Starts `bench run` on a pseudo-terminal, so that the live display draws as it does for a person, and reads the
parent's own CPU time (children not counted) from when its worker appears until the worker ends.

    python benchmarks/parent.py
"""

import os
import pty
import sys
import tempfile
import threading
import time

import psutil

COMMAND = [sys.executable, "-m", "bench", "run", "--precision", "fp16", "--suite", "throughput,divergence"]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as results:
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(COMMAND[0], [*COMMAND, "--results", results])
        drawn: list[int] = []
        threading.Thread(target=drain, args=(terminal, drawn), daemon=True).start()
        parent = psutil.Process(pid)
        begin = end = None
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            spent = parent.cpu_times()
            sample = (time.monotonic(), spent.user + spent.system)
            if parent.children():
                begin, end = begin or sample, sample
            time.sleep(0.2)
        os.waitpid(pid, 0)
    if begin is None or end is None:
        raise SystemExit("no worker was seen")
    wall, cpu = end[0] - begin[0], end[1] - begin[1]
    print(f"parent: {cpu:.2f} s of CPU in {wall:.1f} s of measuring = {cpu / wall:.2%} of a core")
    print(f"(the display drew {sum(drawn):,} bytes)")


def drain(terminal: int, drawn: list[int]) -> None:
    """Read what is drawn, as a terminal would."""
    try:
        while chunk := os.read(terminal, 65536):
            drawn.append(len(chunk))
    except OSError:
        return


if __name__ == "__main__":
    main()
