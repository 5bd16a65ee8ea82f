# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.run.worker REQUEST.json [--ahead]`: load one model, answer its cells, write a record after each.

Runs in a process of its own that nothing else shares. It speaks to the runner through events on one file descriptor;
whatever a library prints goes to the log. Records go straight to `results/`, so a crash costs one cell. With --ahead it
makes ready what the load needs, says so, and reads its request anew when a line comes on stdin.
"""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

import suites
from bench import instruments as inst
from bench.engines.contract import Backend, Engine, Stopped, TextEngine, Unsupported
from bench.engines.registry import backend
from bench.errors import UserError
from bench.instruments import Clock, container
from bench.instruments.machine import installed, versions
from bench.instruments.neighbours import snapshot
from bench.paths import reference_folder
from bench.processes import in_use
from bench.records.cell import LAUNCH, Cell, digest, reference_name
from bench.records.record import Caveat, Ending, Measurement, MemoryLimit, Outcome, Record
from bench.records.store import Store
from bench.run.ahead import AHEAD, LAST, begun_ahead, keep_imported, tell_stacks
from bench.run.assemble import Assembler, now
from bench.run.budget import expected_s
from bench.run.ending import ending, poisons, require_proof
from bench.run.memory_limit import charged_bytes, overrun
from bench.run.reference_items import reference_items
from bench.run.request import LOAD, Asked, Request, load_request, read
from bench.run.room import require_room
from bench.scoring.anchor import anchor_path, is_anchor
from bench.scoring.journal import Journal, journal_folder
from bench.suite import Loading, RestartWorker, SuiteRun, TextRun
from bench.units import human_limit
from suites import suite, suite_sha256, text_suite


class Worker:
    """One loaded model and the cells it answers."""

    def __init__(self, request: Request, *, prepared: bool = False, folder: Path | None = None) -> None:
        self.request, self.prepared = request, prepared
        self.backend: Backend = backend(request.backend)
        self.store = Store(request.results)
        self.budget = request.budget
        self.folder = folder
        """Of the request, where the runner says that it is to end."""
        self.kills = container.oom_kills()
        self.used = False
        """Whether a cell has been answered in this process."""
        self.gpu_bytes: int | None = None
        """The most that the driver counted for this process, None unless it runs under a limit on a GPU."""
        self.assembler = Assembler(
            run=request.run, machine=request.machine, backend=self.backend, before=request.before,
            memory_limit=self.limit, budget_s=request.budget_s,
        )  # fmt: skip

    def tell(self, event: str, **facts: JsonValue) -> None:
        """Send one event to the runner. If the runner is gone, this raises and ends the worker."""
        os.write(self.request.events, (json.dumps({"event": event, **facts}) + "\n").encode())

    def limit(self) -> MemoryLimit | None:
        """The limit this process runs under, with the most that was charged against it until now."""
        limit = self.request.memory_limit
        if limit is None or self.gpu_bytes is None:
            return charged_bytes(limit) if limit else None
        return limit.model_copy(update={"highest_bytes": self.gpu_bytes})

    def _watch_limit(self, memory: inst.MemoryCounter) -> None:
        """Note the GPU's highest figure since the counter was last reset."""
        if self.request.memory_limit and self.request.machine.kind == "cuda":
            self.gpu_bytes = max(self.gpu_bytes or 0, memory.peak().total_bytes)

    def run(self) -> None:
        """Load, then answer every cell."""
        started, clock = now(), time.monotonic()
        self.tell("loading")
        try:
            engine, tools, loading = self._load()
        except Exception as error:  # noqa: BLE001 - every ending becomes a record
            outcome = self._ending(error, "load")
            for asked in self.request.cells:
                seconds = time.monotonic() - clock
                self._write(
                    self.assembler.record(
                        asked.cell, outcome, started=started, seconds=seconds, predicted=asked.predicted
                    )
                )
            return
        self.tell("loaded", seconds=loading.seconds)
        for asked in self.request.cells:
            if self.folder and (self.folder / LAST).exists():
                break
            require_room(self.request.results)
            share = math.inf if self.budget is None else self.budget.shares().get(asked.cell.key)
            if share is None:
                assert self.budget is not None
                self.budget = self.budget.without(asked.cell.key)
                self.tell("spent", key=asked.cell.key)
                continue
            try:
                ended = self._answer(asked, engine, tools, loading, share)
            except RestartWorker:
                self.tell("restart")
                break
            if ended is None or poisons(ended):
                self.tell("restart")
                break
            self.used = True
        engine.close()

    def _load(self) -> tuple[Engine | TextEngine, inst.Instruments, Loading]:
        request, asked = self.request, load_request(self.request)
        tools = self.backend.instruments(request.machine.kind)
        self.tell("phase", name="prepare weights", done=0, total=0)
        try:
            if not self.prepared:
                self.backend.prepare(asked)
        except subprocess.CalledProcessError as error:
            if request.memory_limit is None:
                raise
            what = "its weights could not be made ready under the memory limit"
            raise UserError(what, "run once without --memory-limit, which keeps them in the cache") from error
        self.tell("phase", name=LOAD, done=0, total=0)
        keep_imported()
        tools.memory.trim()
        baseline = tools.memory.read()
        if request.memory_limit and request.machine.kind == "cuda":
            try:
                tools.memory.limit(request.memory_limit.bytes)
            except MemoryError as error:
                raise Unsupported(str(error)) from None
        tools.memory.reset_peak()
        start = tools.clock.now()
        engine = self.backend.load(asked)
        seconds = tools.clock.now() - start
        peak, ready = tools.memory.peak(), tools.memory.read()
        self._watch_limit(tools.memory)
        tools.memory.trim()
        loaded = tools.memory.read()
        if not isinstance(engine, TextEngine):
            require_proof(engine, request.scheme)
        tools.memory.trim()  # what the proof's passes left is no part of what a suite will see
        return engine, tools, Loading(seconds=seconds, baseline=baseline, peak=peak, ready=ready, loaded=loaded)

    def _answer(
        self, asked: Asked, engine: Engine | TextEngine, tools: inst.Instruments, loading: Loading, share_s: float
    ) -> Outcome | None:
        """Run one suite for about `share_s` seconds and write its record, however it ends.

        None where it is left to a process with smaller batches.
        """
        cell = asked.cell
        self.tell("cell", key=cell.key)
        started, watch = now(), Watch(tools.clock, share_s)
        run = self._suite_run(asked, engine, tools, loading, watch)
        self.assembler.since = snapshot()
        measurements: Sequence[Measurement] = ()
        try:
            if isinstance(run, TextRun):
                measurements = text_suite(cell.suite).measure(run)
            else:
                measurements = suite(cell.suite).measure(run)
            outcome = Outcome(ending=Ending.OK)
        except Stopped as error:
            measurements, outcome = error.kept, ending(error)
        except RestartWorker:
            raise
        except Exception as error:  # noqa: BLE001 - every ending becomes a record
            outcome = self._ending(error, cell.suite)
        if self._is_for_smaller(cell, outcome):
            self.tell("smaller", key=cell.key, message=outcome.reason)
            return None
        seconds = watch.elapsed_s()
        self._watch_limit(tools.memory)
        record = self.assembler.record(
            cell,
            outcome,
            started=started,
            seconds=asked.earlier_s + seconds,
            predicted=asked.predicted,
            measurements=measurements,
            texts=run.texts,
            warnings=[*engine.caveats, *run.caveats, *overrun(self.limit()), *self._again()],
            engine=engine,
        )
        if self.budget is not None:
            self.budget = self.budget.after(cell.key, seconds, expected_s(record, asked.pace))
        self._write(record, seconds)
        if isinstance(run, SuiteRun) and outcome.ending.settled:
            run.journal.remove()
        return outcome

    def _is_for_smaller(self, cell: Cell, outcome: Outcome) -> bool:
        """Whether a cell that ran out of memory is measured once more with smaller batches, which may help it."""
        batched = cell.suite in suites.BATCHED and not self.backend.text_only
        return batched and outcome.ending is Ending.DOES_NOT_FIT and not self.request.small_batches

    def _again(self) -> list[Caveat]:
        """That the cell was measured a second time, with smaller batches."""
        if not self.request.small_batches:
            return []
        text = f"measured again with smaller batches, for with usual ones it ended so: {self.request.small_batches}"
        return [Caveat(kind="smaller_batches", text=text, advice="more memory for the same batches as other rows")]

    def _journal(self, cell: Cell, engine: Engine) -> Journal:
        """The journal of one cell, for these exact weights and everything else that can change a figure."""
        packages = [*self.backend.requires, *self.backend.versions]
        computes = versions(suite_sha256(cell.suite), packages).model_dump(mode="json")
        weights = engine.provenance.model_dump(mode="json")
        return Journal(journal_folder() / f"{cell.key}-{digest([weights, computes, engine.threads])}")

    def _suite_run(
        self, asked: Asked, engine: Engine | TextEngine, tools: inst.Instruments, loading: Loading, watch: Watch
    ) -> SuiteRun | TextRun:
        """What the suite gets to measure with."""
        if isinstance(engine, TextEngine):

            def tell(name: str, done: int, total: int) -> None:
                self.tell("phase", name=name, done=done, total=total, spent_usd=engine.spent_usd)

            run = TextRun(
                cell=asked.cell, engine=engine, phase=tell, spent=watch.spent, files=self.request.files,
                anchor=self._texts(asked.cell),
            )  # fmt: skip
            if self.backend.launches:
                run.instruments, run.loading = tools, loading
            return run
        reference = asked.reference
        return SuiteRun(
            cell=asked.cell, files=self.request.files, engine=engine, instruments=tools, loading=loading,
            predicted=asked.predicted, deaths=asked.deaths, used=self.used, renewable=True, cache=self.request.cache,
            reference=self._reference_path(reference, engine) if reference else None,
            reference_reason=asked.reference_reason,
            is_reference=reference is not None and reference.key == asked.cell.unlimited.key,
            anchor=anchor_path(self.request.model, asked.cell, self.backend) if reference else None,
            is_anchor=is_anchor(self.backend, asked.cell), spent=watch.spent, journal=self._journal(asked.cell, engine),
            reference_items=reference_items(
                self.request.results, self.backend, asked.cell, self.request.machine.kind, engine.provenance
            ),
            phase=lambda name, done, total: self.tell("phase", name=name, done=done, total=total),
        )  # fmt: skip

    def _texts(self, cell: Cell) -> Path | None:
        """Where the fp32 row of the model that a launched server has keeps its texts, None for other cells."""
        if not self.backend.launches or cell.suite != "divergence":
            return None
        settings = {name: value for name, value in cell.settings.items() if name != LAUNCH}
        asked = cell.model_copy(update={"settings": settings, "suite_version": suite(cell.suite).VERSION})
        return anchor_path(self.request.model, asked.unlimited, self.backend)

    def _ending(self, error: Exception, during: str) -> Outcome:
        """How an exception ends a cell. If it ran out of memory under a limit, the reason names the limit."""
        outcome, limit = ending(error, during, self.kills), self.request.memory_limit
        if limit is None or outcome.ending is not Ending.DOES_NOT_FIT:
            return outcome
        named = f"{outcome.reason}, under a limit of {human_limit(limit.bytes)} ({limit.enforced_by})"
        return outcome.model_copy(update={"reason": named})

    def _reference_path(self, reference: Cell, engine: Engine) -> Path:
        """The reference's file, which belongs to one cell, these exact weights and these exact engine versions."""
        weights = digest(engine.provenance.model_dump(mode="json"))
        found = reference_folder() / reference_name(reference.key, installed(self.backend.requires), weights)
        in_use(found)
        return found

    def _write(self, record: Record, measuring_s: float = 0.0) -> None:
        """Keep a record and tell of it; `measuring_s` counts for the budget, for which loading costs nothing."""
        path = self.store.write(record)
        self.tell("record", key=record.cell.key, path=str(path), seconds=measuring_s)


class Watch:
    """The time of one cell, on the clock of its engine: the virtual one of a fake tells the seconds it stands for."""

    def __init__(self, clock: Clock, share_s: float) -> None:
        self.clock, self.share_s, self.began = clock, share_s, clock.now()

    def elapsed_s(self) -> float:
        """Seconds since the cell began."""
        try:
            return self.clock.now() - self.began
        except Exception:  # noqa: BLE001 - a device that failed cannot be waited for; its clock is the host's
            return time.perf_counter() - self.began

    def spent(self, ahead_s: float = 0.0) -> bool:
        """Whether less than so many seconds of the cell's share are left."""
        return self.clock.now() - self.began + ahead_s > self.share_s


def main() -> int:
    """Answer the request named on the command line."""
    gc.disable()  # until its libraries are imported: `keep_imported`
    path = Path(sys.argv[1])
    tell_stacks(path.parent)
    prepared = begun_ahead(read(path)) if AHEAD in sys.argv[2:] else False
    if prepared is None:
        return 0
    worker = Worker(read(path), prepared=prepared, folder=path.parent)
    try:
        worker.run()
    except UserError as error:  # results/ refuses: nothing more can be saved
        worker.tell("refused", message=error.message, remedy=error.remedy)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
