# SPDX-License-Identifier: Apache-2.0
"""The process of one worker: its events, its log, and the request that it may be given after it has begun.

The first worker of a call begins while the machine's roofs are asked for: it imports its engine's libraries and makes
the weights ready beside the process that imports torch for the roofs, then waits without working until these are
measured. What it does ahead is what it would do anyway before its memory baseline is taken, so no figure sees it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from bench.instruments.machine import computing_on
from bench.paths import ROOT, cache_folder
from bench.plan.questions import Planned
from bench.processes import module, stop_group, temporary_folder
from bench.run.ahead import AHEAD, DUMP_SIGNAL, LAST, READY, STACKS
from bench.run.memory_limit import Confinement
from bench.run.request import Request

GO = b"go\n"
LOG_TAIL, STACKS_HEAD = 4000, 8000
"""Letters of what a worker printed and of its stacks that a record keeps: the last ones, and the innermost calls."""
DUMP_S, LOOK_S = 2.0, 0.05
"""How long a hung worker has to write its stacks down, and how often we look."""


class Launched:
    """A worker process, its folder and its pipes; `close` ends all of them."""

    def __init__(self, first: Planned, surroundings: Mapping[str, str], confinement: Confinement | None = None) -> None:
        self.key = first.cell.key
        """Of the first cell that it is to answer."""
        self._surroundings, self._confinement = dict(surroundings), confinement
        self._folder = temporary_folder()
        self._surroundings["TORCHINDUCTOR_CACHE_DIR"] = str(Path(self._folder.name) / "torchinductor")
        """Of what torch may compile: its usual place is a folder among everybody's temporary files, which stays."""
        self._request = Path(self._folder.name) / "request.json"
        self.log = Path(self._folder.name) / "log.txt"
        self._stacks = Path(self._folder.name) / STACKS
        self.events, self._write = os.pipe()
        self.process: subprocess.Popen[bytes]

    def begin(self, request: Request, *, ahead: bool = False) -> None:
        """Start it with its request; `ahead`, with one that is yet to be replaced."""
        self._hand(request)
        command = module("bench.run.worker", self._request, *([AHEAD] if ahead else []))
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self._confinement.command(command) if self._confinement else command,
                stdin=subprocess.PIPE if ahead else subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                pass_fds=[self._write], cwd=ROOT, env=self._surroundings, start_new_session=True,
            )  # fmt: skip
        os.close(self._write)

    def ready(self, patience_s: float) -> bool:
        """Wait until it has done what it can do ahead; one that takes too long is ended, for others measure then."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.events, selectors.EVENT_READ)
            said = selector.select(patience_s) and os.read(self.events, len(READY)) == READY
        if not said:
            stop_group(self.process)
        return bool(said)

    def go_on(self, request: Request) -> bool:
        """Give it the request that it waits for; whether it lives to answer it."""
        assert self.process.stdin is not None
        if self.process.poll() is not None:
            return False
        self._hand(request)
        try:
            self.process.stdin.write(GO)
            self.process.stdin.close()
        except OSError:
            return False
        return True

    def finish(self) -> None:
        """Let it end after the cell that it answers."""
        (self._request.parent / LAST).touch()

    def dump_stacks(self) -> None:
        """Have it write down where each of its threads stands, whatever it waits for: the interpreter does so itself.

        One that has not come so far that it could is ended by the same signal.
        """
        with contextlib.suppress(OSError):
            before = self._stacks.stat().st_size if self._stacks.exists() else 0
            os.kill(self.process.pid, DUMP_SIGNAL)
            deadline, written = time.monotonic() + DUMP_S, before
            while time.monotonic() < deadline and self.process.poll() is None:
                time.sleep(LOOK_S)  # only the other process can end this wait
                now = self._stacks.stat().st_size
                if now == written > before:
                    return
                written = now

    def said(self) -> str:
        """The end of what it printed, and where it stood if it crashed or hung."""
        log = self.log.read_bytes()[-LOG_TAIL:].decode(errors="replace")
        stacks = ""
        with contextlib.suppress(OSError):
            stacks = self._stacks.read_bytes()[:STACKS_HEAD].decode(errors="replace")
        return f"{stacks.rstrip()}\n\n{log}" if stacks else log

    def _hand(self, request: Request) -> None:
        told = request.model_copy(update={"events": self._write})
        self._request.write_text(told.model_dump_json(), encoding="utf-8")

    def close(self) -> None:
        """End the process and everything in it, and remove its folder."""
        stop_group(self.process)
        os.close(self.events)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self._folder.cleanup()


def environment(first: Planned, kind: str, threads: int | None) -> dict[str, str]:
    """The caller's environment with our caches, and offline unless something needs the network."""
    own = {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(cache_folder() / "datasets")}
    own |= computing_on(kind) | {"BENCH_CACHE": str(cache_folder())}  # it stands in another folder
    if threads:
        own["OMP_NUM_THREADS"] = str(threads)
    needs_hub = first.cell.weights == "hub" or (first.cell.weights == "local" and first.base is not None)
    if not needs_hub and not _hub_tasks(first):
        own |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **own}


def _hub_tasks(first: Planned) -> bool:
    from bench.scoring.tasks import offline_names

    tasks = first.cell.settings.get("tasks")
    return isinstance(tasks, list) and any(str(task) not in offline_names() for task in tasks)
