# SPDX-License-Identifier: Apache-2.0
"""One process for each loaded model: start it, wait without working, enforce limits, make every ending a Record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path

from bench.engines.registry import backend
from bench.errors import UserError
from bench.instruments import container
from bench.paths import cache_folder
from bench.plan.plan import Plan
from bench.plan.questions import Planned
from bench.records.record import Ending, Outcome, Record
from bench.records.store import Store, read_record
from bench.records.surroundings import Condition, Machine
from bench.run.answered import Answered
from bench.run.assemble import Assembler, now
from bench.run.budget import Budget, expected_s
from bench.run.evict import evict
from bench.run.jobs import Jobs
from bench.run.launched import Launched, environment
from bench.run.limits import limit_s
from bench.run.memory_limit import Confinement, confined
from bench.run.needs import further, opened
from bench.run.options import Observer, RunOptions
from bench.run.request import LOAD, Asked, Event, Request, lacking, resolved
from bench.run.retries import Retries
from bench.run.room import require_room, working_folders
from bench.run.stopping import Stop
from bench.run.taken import Taken
from bench.run.waiting import Waiting
from bench.run.worker_process import WorkerProcess, death
from bench.scoring.journal import forget


class Runner:
    """Runs a plan."""

    def __init__(
        self, *, run: str, store: Store, described: Machine, before: Condition, observer: Observer, options: RunOptions,
        stop: Stop | None = None, taken: Taken | None = None,
    ) -> None:  # fmt: skip
        self.run_id, self.store, self.machine, self.before = run, store, described, before
        self.observer, self.options, self.stop, self.taken = observer, options, stop or Stop(), taken
        self.answered: dict[str, Answered] = {}
        """By cell; of one that was answered twice, the latest."""
        self.spent_usd = 0.0
        self.retries = Retries()
        self.undecided: list[Planned] = []
        """Cells that the budget left unanswered."""
        self._ahead: Launched | None = None
        """The worker that began before its turn."""
        self.budget: Budget | None = None
        """What is left of the call's seconds of measuring, None without an end."""

    def run(self, plan: Plan) -> list[Answered]:
        """Answer every cell of the plan; returns how each ended.

        Raises UserError when `results/` refuses to be written, KeyboardInterrupt after stopping the worker.
        """
        for left in plan.left_out:
            if left.planned is not None:
                self._write([left.planned], Outcome(ending=Ending.DOES_NOT_FIT, reason=left.reason), now(), 0.0)
        self.budget = opened(self.options.budget_s, plan.cells)
        self._measure(plan.cells)
        if again := self._cut_too_early(plan.cells):
            self.observer.again(again)
            self._measure(again)
        if self.undecided:
            self.observer.undecided(self.undecided)
        return list(self.answered.values())

    def _cut_too_early(self, cells: Sequence[Planned]) -> list[Planned]:
        """Cells to be measured longer, out of what the others left of the budget."""
        if self.budget is None or self.options.budget_s is None:
            return []
        took = {key: answer.seconds for key, answer in self.answered.items() if answer.cut}
        took |= dict.fromkeys((planned.cell.key for planned in self.undecided), 0.0)
        longer, self.budget = further(self.budget, self.options.budget_s, cells, took)
        self.undecided = [planned for planned in self.undecided if planned not in longer]
        return longer

    def _measure(self, cells: Sequence[Planned]) -> None:
        """Answer these cells, job by job, as far as the budget goes."""
        jobs = Jobs(cells, self.taken, self.stop)
        while (job := jobs.next(self._elsewhere, self.observer.waits)) is not None:
            try:
                self._answer(job)
            finally:
                if self.taken:
                    self.taken.give(job)

    def _elsewhere(self, cells: Sequence[Planned]) -> None:
        """Leave cells that another process has answered."""
        for planned in cells:
            self.budget = self.budget and self.budget.after(planned.cell.key, 0.0)
        self.observer.elsewhere(cells)

    def _answer(self, cells: Sequence[Planned]) -> None:
        """Answer a job, load by load."""
        for _, group in groupby(cells, key=lambda planned: planned.cell.load_key):
            remaining = list(group)
            while remaining:
                shares = {} if self.budget is None else self.budget.shares()
                if self.budget is not None and not any(planned.cell.key in shares for planned in remaining):
                    for planned in remaining:
                        self._skip(planned)
                    break
                if self.options.cache_limit_bytes is not None:
                    evict(self.options.cache_limit_bytes)
                require_room(self.store.root, *working_folders())
                answered = self._launch(remaining[:1] if remaining[0].cell.key in self.retries.smaller else remaining)
                if self.stop.ending:
                    raise KeyboardInterrupt
                remaining = [planned for planned in remaining if planned.cell.key not in answered]

    def _skip(self, planned: Planned) -> None:
        """Leave a cell that the budget does not hold."""
        assert self.budget is not None
        self.budget = self.budget.without(planned.cell.key)
        self.undecided.append(planned)

    def _launch(self, cells: Sequence[Planned]) -> set[str]:
        """One worker over `cells`; returns the keys that have a record now, at least one unless it is to go on."""
        limit, device = cells[0].cell.memory_limit_bytes, self.machine.kind
        with confined(limit, device) as confinement:
            return self._answered_by(WorkerProcess(list(cells), confinement=confinement))

    def _answered_by(self, worker: WorkerProcess) -> set[str]:
        """Start the worker, wait for it, and write the records that it could not write itself."""
        kills, confinement, begun = container.oom_kills(), worker.confinement, time.monotonic()
        launched = self._launched(worker)
        try:
            self.observer.load(worker.cells[0])
            code = self._wait(launched, worker)
            log = launched.said() if code or worker.timed_out else ""
            self.spent_usd += worker.spent_usd
        finally:
            self.stop.answers(worker, yes=False)
            launched.close()
        unanswered = [planned for planned in worker.cells if planned.cell.key not in worker.done]
        if worker.refused is not None:
            raise worker.refused
        if worker.current in unanswered and (worker.restart or code):
            self._spend(worker, begun if len(unanswered) == len(worker.cells) else worker.began)
        if unanswered and (code or worker.timed_out):
            culprits = [worker.current] if worker.current in unanswered else unanswered
            outcome = death(code, worker, log, kills)
            died = [] if self.retries.again(worker.current, outcome) else [planned for planned in culprits if planned]
        elif unanswered and not (worker.restart or self.stop.ending):
            outcome, died = Outcome(ending=Ending.FAILED, reason="the worker ended without answering"), unanswered
        else:
            return worker.done
        self._write(died, outcome, worker.started, time.monotonic() - worker.began, confinement)
        return worker.done | {planned.cell.key for planned in died}

    def _launched(self, worker: WorkerProcess) -> Launched:
        """Its process: the one that began ahead, where it lives and did so for these cells, else a new one, alone."""
        request, first = self._request(worker), worker.cells[0]
        if self._ahead is not None:
            launched, self._ahead = self._ahead, None
            if launched.key == first.cell.key and launched.go_on(request):
                return launched
            launched.close()
        launched = Launched(first, self._environment(first), worker.confinement)
        launched.begin(request)
        return launched

    def _environment(self, first: Planned) -> dict[str, str]:
        return environment(first, self.machine.kind, self.options.threads_of(first.cell))

    @contextmanager
    def ahead(self, plan: Plan) -> Iterator[Callable[[], object]]:
        """Begin the plan's first worker, unless a limit would charge it; what is yielded waits until it is ready."""
        first = next(iter(plan.cells), None)
        if first is None or first.cell.memory_limit_bytes is not None:
            yield lambda: None
            return
        self._ahead = launched = Launched(first, self._environment(first))
        launched.begin(self._request(WorkerProcess([first])), ahead=True)
        try:
            yield lambda: launched.ready(limit_s(first, self.options, loading=True, fetching=True))
        finally:
            if self._ahead is not None:
                self._ahead.close()
                self._ahead = None

    def _spend(self, worker: WorkerProcess, since: float) -> None:
        """Remember how long a worker spent on a cell that another worker will finish."""
        assert worker.current is not None
        self.retries.spent(worker.current, time.monotonic() - since)
        if self.budget is not None:
            self.budget = self.budget.spend(time.monotonic() - worker.began)

    def _request(self, worker: WorkerProcess) -> Request:
        first, limit = worker.cells[0], self.options.max_cost_usd
        return Request(
            run=self.run_id,
            results=self.store.root.resolve(),
            cache=cache_folder(),
            events=-1,
            model=first.model,
            weights=first.cell.weights,
            path=resolved(first.path),
            base=first.base,
            base_path=resolved(first.base_path),
            launch=(first.launch, str(Path.cwd())) if first.launch else None,
            trust_remote_code=first.trust_remote_code,
            small_batches=self.retries.smaller.get(first.cell.key, ""),
            files=first.files,
            backend=first.cell.backend,
            scheme=first.scheme,
            threads=self.options.threads_of(first.cell),
            max_cost_usd=None if limit is None else max(0.0, limit - self.spent_usd),
            machine=self.machine,
            before=self.before,
            memory_limit=worker.confinement.stated() if worker.confinement else None,
            budget_s=self.options.stated_budget_s,
            budget=self.budget,
            cells=tuple(
                Asked(
                    cell=planned.cell,
                    predicted=planned.predicted,
                    reference=planned.reference,
                    pace=planned.pace,
                    deaths=self.retries.deaths[planned.cell.key],
                    earlier_s=self.retries.earlier_s.get(planned.cell.key, 0.0),
                    reference_reason=lacking(planned.reference, self.answered),
                )
                for planned in worker.cells
            ),
        )

    def _wait(self, launched: Launched, worker: WorkerProcess) -> int:
        """Sleep until the worker ends, or breaks the limit of what it does; returns its exit code."""

        def left_s() -> float:
            return self._limit(worker) - (time.monotonic() - worker.step_began)

        def overdue() -> None:
            worker.timed_out = self._limit(worker)
            launched.dump_stacks()

        def finish() -> None:
            launched.finish()
            self.observer.finishing(worker.current)

        return Waiting(
            process=launched.process, events=launched.events, stop=self.stop, left_s=left_s, overdue=overdue,
            finish=finish, hear=lambda event: self._hear(event, worker),
        ).run()  # fmt: skip

    def _limit(self, worker: WorkerProcess) -> float:
        loading = worker.current is None
        planned = worker.current or worker.cells[0]
        return limit_s(planned, self.options, loading=loading, fetching=loading and worker.fetching)

    def _hear(self, event: Event, worker: WorkerProcess) -> None:
        kind = event["event"]
        if kind == "phase":
            worker.spent_usd = event.get("spent_usd", worker.spent_usd)
            if worker.current is None and event["name"] == LOAD:
                worker.fetching, worker.step_began = False, time.monotonic()
            self.observer.phase(event["name"], event["done"], event["total"])
        elif kind == "cell":
            worker.current = next(p for p in worker.cells if p.cell.key == event["key"])
            worker.began, worker.started = time.monotonic(), now()
            worker.step_began = worker.began
            self.stop.answers(worker, yes=True)
            self.observer.cell(worker.current)
        elif kind == "record":
            record = read_record(Path(event["path"]))
            self.store.kept(Path(event["path"]))
            self._learn(record, event["seconds"], worker)
            self._keep(record, next(p for p in worker.cells if p.cell.key == record.cell.key))
            worker.done.add(record.cell.key)
            self.stop.answers(worker, yes=False)
        elif kind == "spent":
            worker.done.add(event["key"])
            self._skip(next(p for p in worker.cells if p.cell.key == event["key"]))
        elif kind == "restart":
            worker.restart = True
        elif kind == "smaller":
            self.retries.smaller[event["key"]] = event["message"]
        elif kind == "refused":
            worker.refused = UserError(event["message"], event["remedy"])

    def _learn(self, record: Record, seconds: float, worker: WorkerProcess) -> None:
        """What a record leaves of the budget, and what it tells of the cells after it."""
        if self.budget is not None:
            planned = next(p for p in worker.cells if p.cell.key == record.cell.key)
            self.budget = self.budget.after(record.cell.key, seconds, expected_s(record, planned.pace))

    def _write(
        self, cells: Sequence[Planned], outcome: Outcome, started: datetime, seconds: float,
        confinement: Confinement | None = None,
    ) -> None:  # fmt: skip
        for planned in cells:
            assembler = Assembler(
                run=self.run_id, machine=self.machine, backend=backend(planned.cell.backend), before=self.before,
                memory_limit=confinement.stated if confinement else lambda: None, budget_s=self.options.stated_budget_s,
            )  # fmt: skip
            record = assembler.record(
                planned.cell, outcome, started=started, seconds=seconds, predicted=planned.predicted
            )
            self.store.write(record)
            if self.budget is not None:  # a load costs nothing, and a death was counted with its cell (`_spend`)
                self.budget = self.budget.after(planned.cell.key, 0.0)
            if outcome.ending.settled:  # the worker died with it, and nobody will go on from what it had scored
                forget(planned.cell.key)
            self._keep(record, planned)

    def _keep(self, record: Record, planned: Planned) -> None:
        """A record is on disk. What was measured stays there: a week of samples would fill this process."""
        self.answered[record.cell.key] = Answered.of(record, planned.cell)
        if self.taken:
            self.taken.own.add(record.id)
        self.observer.record(record)


def new_run_id() -> str:
    """UTC time and four random digits: sortable, unique enough across hosts."""
    return f"{now():%Y%m%dT%H%M%SZ}-{os.urandom(2).hex()}"
