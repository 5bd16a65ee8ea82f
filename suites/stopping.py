# SPDX-License-Identifier: Apache-2.0
"""When a task of the quality suite has been asked enough: its verdict is settled, or the time is over.

Items are answered in batches, every task as far as the others, each in its one fixed order. Where the reference's
answers are at hand, a task is looked at after 16, 24, 32, 48, 64 … items (`bench.judge.sequential`), by the sharpest
instrument it has (`bench.judge.decisions`); once it is worse, better or equivalent it is left, and the time goes to
tasks that are not. All looks together err as often as one at the end would, and several tasks as often as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from bench.judge.decisions import STOPPING, Decision, decide, together
from bench.judge.sequential import ladder
from bench.records.record import Caveat, Measurement
from bench.scoring.evaluation import RunningEvaluation, TaskFailed

LEAST = 8
"""Items of every task that are answered whatever the budget."""
BATCHES = ((32, 8), (64, 16))
"""Until so many items, batches of so many."""
BATCH = 32
"""Items of a batch beyond: each look is at the end of one."""


ENDS = {
    "settled": ("items_settled", "answered until the verdict was settled", "--profile full answers every item"),
    "budget": ("items_cut", "answered before the budget was spent", "a larger --budget answers more"),
    "reference": ("items_cut", "answered as far as the reference was", "a larger --budget answers more"),
}
"""Why a task was left before its last item: a warning's kind, what it says, and its advice."""


@dataclass(kw_only=True)
class Progress:
    """How far one task got."""

    asked: int
    looks: tuple[int, ...] = ()
    """Numbers of items at which it is compared with the reference; empty where there is no reference."""
    taken: int = 0
    """Looks taken."""
    decision: Decision | None = None
    """What the last look said."""
    ended: str = ""
    """`settled`, `budget` or `reference` (it has no more items); empty while it goes on and where all was answered."""

    def labels(self, done: int) -> dict[str, JsonValue]:
        """What the task's measurements say of it; nothing where every item was answered and nobody looked."""
        found: dict[str, JsonValue] = {}
        if self.looks:
            found |= {"looks": list(self.looks), "rounds": self.taken}
        if done < self.asked:
            found |= {"items_asked": self.asked, "ended": self.ended}
        return found


@dataclass(kw_only=True)
class Stopping:
    """One cell's tasks, answered until each is settled."""

    evaluation: RunningEvaluation
    measured: Callable[[str], Sequence[Measurement]]
    """What has been answered of a task until now."""
    reference: Mapping[str, Sequence[Measurement]]
    """By task, what the reference has answered."""
    spent: Callable[[], bool]
    settles: bool
    """Whether a settled task is left: not where every item was asked for."""
    tasks: dict[str, Progress] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """By task that could not be scored, why: none of it is kept."""

    def __post_init__(self) -> None:
        """Plan every look before anything is answered."""
        for task in self.evaluation.loaded:
            asked, theirs = self.evaluation.asked(task), self._reference(task)
            looks = ladder(min(asked, answered(theirs))) if self.settles else ()
            self.tasks[task] = Progress(asked=asked, looks=looks)

    def _reference(self, task: str) -> Sequence[Measurement]:
        """What the reference has answered, nothing where its record does not fit itself: views leave that out."""
        theirs = self.reference.get(task, ())
        try:
            decide(theirs, theirs, task)
        except Exception:  # noqa: BLE001 - an odd record of another call ends no cell of this one
            return ()
        return theirs

    def run(self) -> None:
        """Answer batch after batch, the task that is behind first."""
        while open_tasks := [task for task, progress in self.tasks.items() if self._open(task, progress)]:
            task = min(open_tasks, key=lambda name: self.evaluation.done[name])
            done = self.evaluation.done[task]
            if done >= LEAST and self.spent():
                for name in open_tasks:
                    self.tasks[name].ended = "budget"
                return
            progress = self.tasks[task]
            ends = (following(done), progress.asked, *(look for look in progress.looks if look > done))
            try:
                self.evaluation.advance(task, min(ends))
            except TaskFailed as error:
                self._fail(task, error)
                continue
            self._look(task)

    def _fail(self, task: str, error: TaskFailed) -> None:
        """Go on without a task that cannot be scored. Raises its error where no other task is left."""
        del self.tasks[task]
        self.failed[task] = str(error)
        if not self.tasks:
            raise error

    def _open(self, task: str, progress: Progress) -> bool:
        return not progress.ended and self.evaluation.done[task] < progress.asked

    def _look(self, task: str) -> None:
        """Judge a task that has come to a planned look, and leave every task that is settled now."""
        progress, done = self.tasks[task], self.evaluation.done[task]
        if done not in progress.looks:
            return
        labelled = [m.model_copy(update={"labels": {**m.labels, **progress.labels(done)}}) for m in self.measured(task)]
        found = decide(labelled, self.reference[task], task)
        if not found or found[0].items < done:  # other items, or asked in another way
            progress.looks, progress.taken = (), 0
            return
        progress.taken += 1
        progress.decision = found[0]
        judged = [name for name, one in self.tasks.items() if one.decision is not None]
        decisions = together([one for name in judged if (one := self.tasks[name].decision) is not None])
        for name, decision in zip(judged, decisions, strict=True):
            judged_task = self.tasks[name]
            if decision.settled and decision.instrument in STOPPING and self._open(name, judged_task):
                judged_task.ended, judged_task.decision = "settled", decision
        if done == progress.looks[-1] and done < progress.asked and not progress.ended and self._is_cut(task):
            progress.ended = "reference"

    def _is_cut(self, task: str) -> bool:
        """Whether the reference was asked as many items and could not answer them: then no pair comes after them."""
        asked = [m.labels.get("items_asked") for m in self.reference[task]]
        return any(isinstance(count, int) and count >= self.tasks[task].asked for count in asked)

    def caveats(self) -> list[Caveat]:
        """What was left out and why, one line for each reason."""
        found = [
            Caveat(kind="task_failed", text=f"{reason}; it is left out", advice="mend the task; the others are kept")
            for reason in self.failed.values()
        ]
        for ended, (kind, reason, advice) in ENDS.items():
            counts: dict[str, list[str]] = {}
            for task, progress in self.tasks.items():
                if progress.ended == ended:
                    said = f" ({progress.decision.verdict})" if ended == "settled" and progress.decision else ""
                    count = f"{self.evaluation.done[task]:,} of {progress.asked:,}"
                    counts.setdefault(count, []).append(task + said)
            if counts:
                parts = [f"{count} items of {', '.join(tasks)}" for count, tasks in counts.items()]
                found.append(Caveat(kind=kind, text=f"{reason}: {'; '.join(parts)}", advice=advice))
        return found


def following(done: int) -> int:
    """Items answered after the next batch: 8, 16, 24, 32, 48, 64, 96, 128 …, the same for every row."""
    size = next((size for until, size in BATCHES if done < until), BATCH)
    return done - done % size + size


def answered(theirs: Sequence[Measurement]) -> int:
    """Items that the reference has answered of a task."""
    return max((len(m.values) for m in theirs if "item_hashes" in m.labels), default=0)
