# SPDX-License-Identifier: Apache-2.0
"""`python guard.py COMMAND...`: run a server so that nothing of it outlives the process that wanted it.

Started as a file with nothing but the standard library. It leads a session of its own and its server another, so no
signal for the worker's group reaches either. Whatever ends the worker closes the pipe on stdin, and then all that the
server has started is killed, found as the kernel tells: orphans come to this process, which asked for them. A line
`stop` asks first. On stdout stand `pid N` or `error WHY`, and `ended CODE` at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 10.0
"""Seconds between the request to end and the kill: a server may have GPU memory to give back."""
LOOK_S = 0.05
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""prctl(2)."""


def prctl(option: int, value: int) -> None:
    """Ask the kernel, where it is Linux's."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value)


def descendants(pid: int) -> list[int]:
    """All processes under one, as /proc tells."""
    found, ahead = [], [pid]
    while ahead:
        one = ahead.pop()
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{one}/task").glob("*/children"):
                children = [int(child) for child in path.read_text().split()]
                found += children
                ahead += children
    return found


def end_all(server: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """Signal the server's group and every process under this one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, sign)
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sign)


def left(server: subprocess.Popen[bytes]) -> bool:
    """Whether anything is left of the server; what has ended is reaped, the server's own end by its own call."""
    server.poll()
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ChildProcessError):
            if pid != server.pid:
                os.waitpid(pid, os.WNOHANG)
    return server.returncode is None or bool(descendants(os.getpid()))


def finish(server: subprocess.Popen[bytes], *, ask: bool) -> None:
    """End all that is left, asked first or not."""
    if ask:
        end_all(server, signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while left(server) and time.monotonic() < until:
            time.sleep(LOOK_S)
    while left(server):
        end_all(server, signal.SIGKILL)
        time.sleep(LOOK_S)


def tell(text: str) -> None:
    """One line for the worker, if it is there."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode())


def main() -> int:
    """Run the server until it ends, or is to end."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        server = subprocess.Popen(
            sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - no other thread is here
        )  # fmt: skip
    except OSError as error:
        tell(f"error {error.strerror or error}")
        return 1
    tell(f"pid {server.pid}")
    while server.poll() is None:
        if select.select([0], [], [], LOOK_S)[0]:
            finish(server, ask=os.read(0, 64).startswith(b"stop"))
            break
    finish(server, ask=False)
    tell(f"ended {server.returncode}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
