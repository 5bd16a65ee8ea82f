# SPDX-License-Identifier: Apache-2.0
"""What runs as a task of Ray on a box. It is sent there as it stands, so it uses the standard library alone.

A task of Ray is no place to measure in: its process has niceness 15, the thread count of whatever ran there first, and
ends in ways that run it again. So it only starts a process of ours, which sets these itself and ends with it, and hands
on its lines.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

TAIL = 2000
"""Letters that are kept of what a process wrote before it failed."""


def answered(program: str, question: str) -> Iterator[str]:
    """The lines that `python -m PROGRAM` on this box answers a question with; one more where it fails."""
    # Ray's own, and the thread count that it gives its workers, are no surroundings to measure in.
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-m", "bench.processes", str(os.getpid()), program]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, start_new_session=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            try:
                process.stdin.write(question.encode())
                process.stdin.close()
            except OSError:  # it has ended already, and its code says why
                pass
            for said in process.stdout:
                yield said.decode(errors="replace").rstrip("\n")
            code = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            log.seek(0)
            yield json.dumps({"ended": [code, log.read()[-TAIL:].decode(errors="replace")]})
