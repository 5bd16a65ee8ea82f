# SPDX-License-Identifier: Apache-2.0
"""Run a real command on an odd input: it ends by itself, within seconds, and says in a line what is wrong."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, settings

PATIENCE_S, LOADING_S = 60, 300
"""No command on such an input takes a second of computing, one that loads a model ten; a busy machine makes many of
them."""
SLOW = {"answers", "safetensors"}
"""Kinds whose command starts a worker for each input: a failure is shown as it was found, not made smaller first."""
INPUTS = {
    "catalogue": 80, "records": 90, "tasks": 50, "configs": 50, "gguf": 80, "headers": 44, "arguments": 70,
    "answers": 30, "safetensors": 6,
}  # fmt: skip
"""How many of each kind: 500 together."""
FACTOR = float(os.environ.get("FUZZ_FACTOR", "1"))
"""Multiplies them, for a longer look; the seed is then another each time."""
settings.register_profile(
    "bounded", deadline=None, derandomize=FACTOR == 1, database=None, print_blob=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
settings.load_profile("bounded")


def inputs(kind: str) -> Callable[[Any], Any]:
    """As many inputs of a kind as a session tries."""
    phases = [Phase.generate] if kind in SLOW else [Phase.generate, Phase.shrink]
    return settings(max_examples=max(1, round(INPUTS[kind] * FACTOR)), phases=phases)


class Hung(BaseException):
    """A command took longer than anybody waits; no `except Exception` swallows it."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Hung where it takes longer."""

    def stop(number: int, frame: object) -> None:
        raise Hung(f"no end within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def command(*arguments: object, patience_s: float = PATIENCE_S) -> tuple[int, str, str]:
    """Run `bench` in this process; its exit code and what it wrote. Any error of ours ends the test with its traceback.

    One line for what is wrong: what ends a command with 2 is a line of ours, or typer's usage and a line.
    """
    from bench.cli import app, guarded

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), within(patience_s):
        try:
            code: Any = guarded(lambda: app([str(argument) for argument in arguments]))
        except SystemExit as done:
            code = done.code or 0
    said = err.getvalue()
    assert code in {0, 1, 2}, f"exit code {code}: {said}"
    assert "Traceback" not in out.getvalue() + said
    if code == 2 and "bench: " in said:
        lines = [line for line in said.splitlines() if line.startswith("bench: ")]
        assert len(lines) == 1 and len(lines[0]) < 2000, said
    return code, out.getvalue(), said
