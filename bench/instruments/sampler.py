# SPDX-License-Identifier: Apache-2.0
"""A second opinion on the high-water mark: a child process that reads this one's memory every few milliseconds.

The kernel's mark is exact but remembers one number for each process and no kind of memory; the sampler sees the whole
tree at the same moment, and anonymous and file-backed pages apart, but only what lasts longer than its interval. A
thread would wait for the interpreter it measures; a child does not, and the counters leave it out. It reads `status`,
not `smaps`, which would hold the address space's lock against the engine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.instruments import MemoryCounter, Reading
from bench.instruments.memory import ProcessMemory

INTERVAL_S = 0.005
CHILD = Path(__file__).with_name("sampler_child.py")


@dataclass
class Sampled:
    """What the sampler saw, once it has ended."""

    highest: Reading | None = None
    """Its highest moment, None where nothing was sampled."""
    samples: int = 0


@contextlib.contextmanager
def sampling(counter: MemoryCounter) -> Iterator[Sampled]:
    """Sample the process tree while the block runs. On a GPU, and outside Linux, nothing is sampled."""
    found = Sampled()
    if not isinstance(counter, ProcessMemory) or sys.platform != "linux":
        yield found
        return
    command = [sys.executable, "-S", "-E", str(CHILD), str(counter.process.pid), str(INTERVAL_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        counter.apart.add(child.pid)
        try:
            child.stdout.readline()  # it has begun
            yield found
            answer, _ = child.communicate(b"\n")
            total, anonymous, samples = map(int, answer.split())
            found.samples = samples
            found.highest = Reading(total_bytes=total, anonymous_bytes=anonymous, file_bytes=total - anonymous)
        finally:
            child.kill()
            child.wait()
            counter.apart.discard(child.pid)
