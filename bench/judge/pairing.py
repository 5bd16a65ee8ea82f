# SPDX-License-Identifier: Apache-2.0
"""Which records of two rows may be compared: the same question, the same weights, the same items. Pure.

A row may have been measured more than once, with different profiles or tasks. The newest record of one row and the
newest of the other need not answer the same question where an older one does, so every pair is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.judge.aggregate import Answers
from bench.judge.decisions import hashes, match
from bench.judge.differences import chance_of, on_scale
from bench.judge.kept import kept_of
from bench.judge.rows import Row
from bench.judge.scores import WHOLE, accuracies, compared, is_skill, lm_eval_name, metrics_of, of_items, weights
from bench.judge.scores import clusters as subjects
from bench.records.cell import MEMORY_LIMIT, WAYS
from bench.records.record import Ending, Measurement, Record
from bench.records.scored import scored_after_itself

CHOICE = {"tasks", "items"}
"""Settings of the quality suite that say how much is asked, not how."""
BEGIN, END = "begin_not_scored", "end_left_out"
"""Caveats of the quality suite on what a tokenizer puts around a text (`bench.scoring.framing`)."""
NEVER_COMPUTE = {"nvidia-ml-py", "psutil", "pydantic"}
"""Packages whose versions are recorded and can change no figure."""


def answered(row: Row, suite: str) -> list[Record]:
    """A row's `ok` records of a suite, the newest comparable one first."""
    return [record for record in row.history.get(suite, ()) if record.outcome.ending is Ending.OK]


def same_weights(this: Record, base: Record) -> bool:
    """Whether both loaded the very same files, as far as both records tell; unknown counts as same."""
    if this.provenance is None or base.provenance is None:
        return True
    return this.provenance.same_files(base.provenance)


def versions_apart(this: Record, base: Record) -> dict[str, tuple[str, str]]:
    """Packages that both records name in different versions: by name, this one's and the other's."""
    ours, theirs = this.versions.packages, base.versions.packages
    shared = (ours.keys() & theirs.keys()) - NEVER_COMPUTE
    return {name: (ours[name], theirs[name]) for name in sorted(shared) if ours[name] != theirs[name]}


def pair(row: Row, reference: Row, suite: str) -> tuple[Record, Record] | None:
    """The first two records of a suite that asked the same of the same weights, None if there are none.

    A reference measured with the same versions comes before any other: an environment of its own (GPTQ's) brings
    another torch, and what that changes is no cost of a precision.
    """
    histories = [found.history.get(suite, ()) for found in (row, reference)]
    places = kept_of("pair", histories, tuple[int, int] | None, lambda: _places(*histories))
    return None if places is None else (histories[0][places[0]], histories[1][places[1]])


def _places(history: Sequence[Record], of_reference: Sequence[Record]) -> tuple[int, int] | None:
    for i, this in _measured(history):
        for j, base in _same_versions_first(this, of_reference):
            asked = this.cell.settings == base.cell.settings and this.cell.suite_version == base.cell.suite_version
            if asked and same_weights(this, base):
                return i, j
    return None


def _same_versions_first(this: Record, of_reference: Sequence[Record]) -> Iterator[tuple[int, Record]]:
    """Mostly the first will do: no other is loaded before it is looked at."""
    apart = []
    for place, base in _measured(of_reference):
        if versions_apart(this, base):
            apart.append((place, base))
        else:
            yield place, base
    yield from apart


def _measured(history: Sequence[Record]) -> Iterator[tuple[int, Record]]:
    return ((place, record) for place, record in enumerate(history) if record.outcome.ending is Ending.OK)


@dataclass(frozen=True, kw_only=True)
class PairedItems:
    """One task's items that both rows answered, in the same order."""

    metric: Measurement
    """What this row holds of them: the metric that both are compared by."""
    these: tuple[float, ...]
    reference: tuple[float, ...]
    chance: float | None
    """What a guess scores; None where the metric is no share of what could be right, and has no recovery."""
    words: tuple[float, ...]
    """Words or bytes of each item where the metric is a perplexity, else one each."""
    clusters: tuple[int, ...] | None
    this: Record
    base: Record

    @property
    def answers(self) -> Answers | None:
        """The pairs as the recovery takes them, None where a score above chance means nothing."""
        if self.chance is None:
            return None
        return Answers(these=self.these, reference=self.reference, chance=self.chance, clusters=self.clusters)

    @property
    def scores(self) -> tuple[float, float]:
        """What the metric comes to over these items: of this row and of the reference."""
        this, base = (of_items(self.metric, values, self.words) for values in (self.these, self.reference))
        return this, base

    @property
    def scaled(self) -> tuple[list[float], list[float]]:
        """Both sides as differences are taken of them: more is better, one hundredth is one percent."""
        return on_scale(self.metric, self.these, self.reference)


def tasks_of(row: Row) -> list[str]:
    """Every task that a row has answered, in the order of its newest records."""
    return kept_of("tasks", [row.history.get("quality", ())], list[str], lambda: _tasks_by(row, metrics_of))


def skills_of(row: Row) -> list[str]:
    """The tasks whose score a row has above chance, in the order of its newest records."""
    return kept_of("skills", [row.history.get("quality", ())], list[str], lambda: _tasks_by(row, accuracies))


def shared_skills(rows: Sequence[Row]) -> list[str]:
    """The tasks whose score all of these rows have above chance, in the first one's order; none of no rows."""
    known = [skills_of(row) for row in rows]
    common = set(known[0]).intersection(*known) if known else set()
    return [task for task in known[0] if task in common] if known else []


def _tasks_by(row: Row, told: Callable[[Record], Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(task for record in answered(row, "quality") for task in told(record)))


def recoveries(pairs: Iterable[PairedItems | str]) -> list[Answers]:
    """What of these pairs a recovery can be made of."""
    found = (pair.answers for pair in pairs if isinstance(pair, PairedItems))
    return [answers for answers in found if answers is not None]


def pair_task(row: Row, reference: Row, task: str, *, weights: bool = True) -> PairedItems | str:
    """The pairs of one task: newest suite version, same package versions, then most items; else why there are none.

    `weights`: whether both must have loaded the same files, as precisions of one model must and two models cannot.
    """
    pairs = list(_answering(row, reference, task))
    best: tuple[tuple[Comparable, int], PairedItems] | None = None
    reasons: dict[int, str] = {}
    for most, newness in sorted(((_most(*two, task), -place) for place, two in enumerate(pairs)), reverse=True):
        if best is not None and (most, newness) < best[0]:
            break  # neither this pair nor any that follows can be more comparable: their items need not be read
        result = _pair_items(*pairs[-newness], task, same_files=weights)
        if isinstance(result, str):
            reasons[newness] = result
            continue
        found = _comparable(result.this, result.base, len(result.these)), newness
        if best is None or found > best[0]:
            best = found, result
    if best is not None:
        return best[1]
    return reasons[max(reasons)] if reasons else "the reference did not answer this task"


Comparable = tuple[int, bool, int]
"""Suite version, whether the packages' versions are the same, items: the greatest first."""


def _comparable(this: Record, base: Record, items: int) -> Comparable:
    return this.cell.suite_version, not versions_apart(this, base), items


def _most(this: Record, base: Record, task: str) -> Comparable:
    """What two records come to if all of their items are pairs."""
    metrics = [compared(metrics_of(record)[task]) for record in (this, base)]
    return _comparable(this, base, min(max(metric.count, len(hashes(metric))) for metric in metrics))


def _answering(row: Row, reference: Row, task: str) -> Iterator[tuple[Record, Record]]:
    for this in answered(row, "quality"):
        for base in answered(reference, "quality"):
            if task in metrics_of(this) and task in metrics_of(base):
                yield this, base


def _pair_items(this: Record, base: Record, task: str, *, same_files: bool) -> PairedItems | str:
    ours, theirs = (compared(metrics_of(record)[task]) for record in (this, base))
    reason = _differs(this, base, ours, theirs, weights=same_files)
    if reason:
        return reason
    pairs = match(ours, theirs)
    if not pairs.mine:
        return _no_pair(ours, theirs)
    groups, mine, yours = subjects(ours), ours.values, theirs.values
    return PairedItems(
        metric=ours,
        words=tuple(weights(ours)[i] for i in pairs.mine),
        these=tuple(mine[i] for i in pairs.mine),
        reference=tuple(yours[i] for i in pairs.yours),
        chance=chance_of(ours) if is_skill(theirs) else None,
        clusters=tuple(groups[i] for i in pairs.mine) if groups else None,
        this=this,
        base=base,
    )


def _differs(this: Record, base: Record, ours: Measurement, theirs: Measurement, *, weights: bool) -> str:
    """Why two answers to one task cannot be paired, whatever their items; empty if nothing forbids it."""
    if weights and not same_weights(this, base):
        return "different weights: measure both from the same files"
    names = [record.versions.packages.get("lm_eval") for record in (this, base)]
    if names[0] != names[1] and None not in names:
        return f"different lm-eval versions: {names[0]} against {names[1]}"
    if this.cell.suite_version != base.cell.suite_version:
        return f"different suite versions: {this.cell.suite_version} against {base.cell.suite_version}"
    for name in sorted((this.cell.settings.keys() | base.cell.settings.keys()) - CHOICE):
        values = [record.cell.settings.get(name) for record in (this, base)]
        if values[0] != values[1] and name not in {MEMORY_LIMIT, *WAYS}:
            return f"different {name}: {values[0]} against {values[1]}"
    return _metrics_differ(ours, theirs) or _framed_apart((this, ours), (base, theirs))


def _framed_apart(this: tuple[Record, Measurement], base: tuple[Record, Measurement]) -> str:
    """Why what a tokenizer puts around a text was scored in one record alone; empty where that cannot be told.

    Since 2026-11-29 a beginning token is not scored after itself and an end is left out of contexts, and records say so
    where it changed something. An older one of the same tokenizer says neither.
    """
    for (record, metric), (other, older) in ((this, base), (base, this)):
        said, known = ({caveat.kind for caveat in one.warnings} for one in (record, other))
        if BEGIN in said - known and scored_after_itself(older) and not scored_after_itself(metric):
            return "one was scored when its beginning token was scored too: measure both now"
        same = (record.cell.model, record.cell.backend) == (other.cell.model, other.cell.backend)
        if END in said - known and same:
            return "one was scored when its contexts ended with the tokenizer's end: measure both now"
    return ""


def _metrics_differ(ours: Measurement, theirs: Measurement) -> str:
    """Why two metrics' items are no pairs; empty if they may be."""
    if lm_eval_name(ours) != lm_eval_name(theirs):
        return f"different metrics: {lm_eval_name(ours)} against {lm_eval_name(theirs)}"
    if WHOLE in ours.labels or WHOLE in theirs.labels:
        return f"{ours.name} is a figure of the whole task: no items to pair (`bench show --columns tasks`)"
    versions = [measurement.labels.get("version") for measurement in (ours, theirs)]
    return f"different task versions: {versions[0]} against {versions[1]}" if versions[0] != versions[1] else ""


def _no_pair(ours: Measurement, theirs: Measurement) -> str:
    if ours.labels.get("documents") and ours.labels.get("documents") == theirs.labels.get("documents"):
        return "different prompts over the same items: measure both with the same template and shots"
    if ours.labels.get("item_hashes") and theirs.labels.get("item_hashes"):
        return "different items or prompts, none in common: measure both with the same profile and template"
    return "different items or prompts: measure both with the same profile"
