# SPDX-License-Identifier: Apache-2.0
"""Open llama.cpp's library once, keep its log in memory instead of on stderr, and turn its failures into errors."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import re
import subprocess
import sys
from collections import deque
from pathlib import Path

import psutil

from bench.engines.contract import DoesNotFit, Unsupported
from bench.errors import UserError
from bench.instruments.memory import ProcessMemory
from bench.processes import module, temporary_folder
from bench.records.record import Caveat

ERROR = 4
"""ggml_log_level of an error (ggml.h); 3 is a warning, 5 continues the line before."""
MEMORY = re.compile(
    r"failed to allocate|unable to allocate|cannot allocate|out of memory|bad_alloc|mlock failed", re.IGNORECASE
)
DAMAGED = re.compile(
    r"corrupted|incomplete|not within the file bounds|failed to read|invalid magic|unexpectedly", re.IGNORECASE
)
MISFIT = re.compile(
    r"unknown (model )?architecture|unknown pre-tokenizer|cannot find tokenizer|unsupported|not supported",
    re.IGNORECASE,
)


class Log:
    """What llama.cpp said last."""

    def __init__(self) -> None:
        self.lines: deque[tuple[int, str]] = deque(maxlen=400)

    def add(self, level: int, text: str) -> None:
        """Keep one message."""
        if text.strip(" .\n"):
            self.lines.append((level, text.strip()))

    def errors(self) -> list[str]:
        """Error messages, oldest first, each without the name of the function that said it."""
        return [re.sub(r"^\w+: ", "", text) for level, text in self.lines if level == ERROR]

    def last_error(self) -> str | None:
        """The newest error, None if there is none."""
        return next(reversed(self.errors()), None)

    def clear(self) -> None:
        """Forget everything."""
        self.lines.clear()


LOG = Log()
_kept: list[object] = []


def open_library() -> None:
    """Import the library and capture its log. Its failed assertions must not start a debugger on this process."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    import llama_cpp

    if _kept:
        return

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]  # a ctypes function type
    def hear(level: int, text: bytes, _: object) -> None:
        LOG.add(level, text.decode("utf-8", errors="replace"))

    _kept.append(hear)  # the library calls it as long as the process lives
    llama_cpp.llama_log_set(hear, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


def system_info() -> str:
    """Instruction sets the library was built for, as it prints them."""
    import llama_cpp

    return bytes(llama_cpp.llama_print_system_info()).decode(errors="replace")


def failure(phase: str, name: str, wanted_bytes: int | None) -> Exception:
    """What llama.cpp's errors mean: out of memory, a damaged file, something it does not know, or its own words."""
    said = LOG.errors()
    text = " | ".join(said)
    if MEMORY.search(text):
        return DoesNotFit(phase, wanted_bytes, ProcessMemory().capacity_bytes())
    first = next((line for line in said if MISFIT.search(line) or DAMAGED.search(line)), said[0] if said else "no word")
    first = re.sub(r"^error loading model( \w+)?: ", "", first)
    if MISFIT.search(first):
        return Unsupported(f"llama.cpp cannot load {name}: {first[:200]}")
    if DAMAGED.search(first):
        return UserError(f"{name} is damaged: {first[:200]}", "get the file again")
    return RuntimeError(f"llama.cpp failed in {phase}: {first[:200]}")


NO_REPACKING = Caveat(
    kind="no_repacking",
    text="llama.cpp's repacked kernels crash on this CPU (tried in a process of their own), so they are switched off",
    advice="another CPU, or a llama-cpp-python built without AMX, computes with repacked weights and is faster",
)


def threads(asked: int | None) -> int:
    """Threads to compute with: as asked, else OMP_NUM_THREADS, else the physical cores this process may use."""
    if asked:
        return asked
    own = os.environ.get("OMP_NUM_THREADS", "")
    if own.isdigit() and int(own):
        return int(own)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(psutil.cpu_count(logical=False) or allowed, allowed)


def touch(path: Path) -> None:
    """Bring every page of the mapped file into this process, so that what is loaded can be counted.

    Linux alone tells where the file is mapped; elsewhere the first forward pass does it.
    """
    if sys.platform != "linux":
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == str(path.resolve()):
            low, _, high = fields[0].partition("-")
            start, end = int(low, 16), int(high, 16)
            mapped = (ctypes.c_char * (end - start)).from_address(start)
            for at in range(0, end - start, mmap.PAGESIZE):
                _ = mapped[at]


@functools.cache
def repacking_works() -> bool:
    """Whether llama.cpp's repacked weights compute on this CPU.

    Its AMX kernels are known to crash on some machines (llama.cpp issue 20824: a general protection fault in
    ggml_backend_amx_mul_mat), so a library built with AMX is tried first, in a process of its own on a tiny model.
    """
    if "AMX_INT8 = 1" not in system_info():
        return True
    with temporary_folder() as folder:  # deleted here, because a crashed child deletes nothing
        command = module("bench.engines.llamacpp.repack_probe", folder)
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
