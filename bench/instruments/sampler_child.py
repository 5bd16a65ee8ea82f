# SPDX-License-Identifier: Apache-2.0
"""`python sampler_child.py PID SECONDS`: the highest memory of a process tree until a line arrives on stdin.

Started as a file with nothing but the standard library, so that it samples within milliseconds. Answers `begun`, then
the resident and anonymous bytes of the highest moment and the number of samples.
"""

import os
import select
import sys
from pathlib import Path

KIB = 1024
LOOK_FOR_CHILDREN = 10
"""Samples between two looks for new child processes."""


def tree(pid: int, leave: int) -> list[int]:
    """A process and its descendants, as /proc tells, without `leave`."""
    found, ahead = [], [pid]
    while ahead:
        one = ahead.pop()
        found.append(one)
        try:
            for path in Path(f"/proc/{one}/task").glob("*/children"):
                ahead += [child for child in map(int, path.read_text().split()) if child != leave]
        except OSError:
            continue
    return found


def resident(pid: int) -> tuple[int, int]:
    """Resident and anonymous bytes of one process, zeros for one that has ended."""
    fields = {"VmRSS": 0, "RssAnon": 0}
    try:
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            name, _, rest = line.partition(":")
            if name in fields:
                fields[name] = int(rest.split()[0]) * KIB
    except OSError:
        pass
    return fields["VmRSS"], fields["RssAnon"]


def main() -> int:
    """Sample until told to stop."""
    pid, seconds = int(sys.argv[1]), float(sys.argv[2])
    highest, anonymous, samples = 0, 0, 0
    pids: list[int] = []
    while True:
        if samples % LOOK_FOR_CHILDREN == 0:
            pids = tree(pid, os.getpid())
        found = [resident(one) for one in pids]
        total = sum(whole for whole, _ in found)
        if total > highest:
            highest, anonymous = total, sum(private for _, private in found)
        samples += 1
        if samples == 1:
            sys.stdout.write("begun\n")
            sys.stdout.flush()
        if select.select([sys.stdin], [], [], seconds)[0]:
            break
    sys.stdout.write(f"{highest} {anonymous} {samples}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
