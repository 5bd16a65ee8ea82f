# SPDX-License-Identifier: Apache-2.0
"""Ending a process with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

GRACE_S = 3.0
"""Seconds between the request to end and the kill."""


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a worker and everything it started: asked first, then killed."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        if process.returncode is not None and sign is signal.SIGTERM and not _group_alive(process.pid):
            return


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
