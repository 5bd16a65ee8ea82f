# SPDX-License-Identifier: Apache-2.0
"""Which records of two rows may be compared: the same question, the same weights, the same items. Pure.

A row may have been measured more than once, with different profiles or tasks. The newest record of one row and the
newest of the other need not answer the same question where an older one does, so every pair is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.judge.aggregate import Answers
from bench.judge.decisions import match
from bench.judge.figures import accuracies
from bench.judge.figures import clusters as subjects
from bench.judge.rows import Row
from bench.records.cell import MEMORY_LIMIT
from bench.records.provenance import same_files
from bench.records.record import Ending, Measurement, Record

CHOICE = {"tasks", "items"}
"""Settings of the quality suite that say how much is asked, not how."""
NEVER_COMPUTE = {"nvidia-ml-py", "psutil", "pydantic"}
"""Packages whose versions are recorded and can change no figure."""


def answered(row: Row, suite: str) -> list[Record]:
    """A row's `ok` records of a suite, the newest comparable one first."""
    return [record for record in row.history.get(suite, ()) if record.outcome.ending is Ending.OK]


def same_weights(this: Record, base: Record) -> bool:
    """Whether both loaded the very same files; unknown counts as same."""
    if this.provenance is None or base.provenance is None:
        return True
    return same_files(this.provenance.files, base.provenance.files)


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
    for this in answered(row, suite):
        for base in sorted(answered(reference, suite), key=lambda base: bool(versions_apart(this, base))):
            asked = this.cell.settings == base.cell.settings and this.cell.suite_version == base.cell.suite_version
            if asked and same_weights(this, base):
                return this, base
    return None


@dataclass(frozen=True, kw_only=True)
class PairedItems:
    """One task's items that both rows answered, in the same order."""

    these: tuple[float, ...]
    reference: tuple[float, ...]
    chance: float
    clusters: tuple[int, ...] | None
    this: Record
    base: Record

    @property
    def answers(self) -> Answers:
        """The pairs as the recovery takes them."""
        return Answers(these=self.these, reference=self.reference, chance=self.chance, clusters=self.clusters)


def tasks_of(row: Row) -> list[str]:
    """Every task that a row has answered, in the order of its newest records."""
    return list(dict.fromkeys(task for record in answered(row, "quality") for task in accuracies(record)))


def pair_task(row: Row, reference: Row, task: str, *, weights: bool = True) -> PairedItems | str:
    """The pairs of one task: newest suite version, same package versions, then most items; else why there are none.

    `weights`: whether both must have loaded the same files, as precisions of one model must and two models cannot.
    """
    found: list[PairedItems] = []
    reason = "the reference did not answer this task"
    for this, base in reversed(list(_answering(row, reference, task))):
        result = _pair_items(this, base, task, weights=weights)
        if isinstance(result, str):
            reason = result
        else:
            found.append(result)
    return max(reversed(found), key=_most_comparable) if found else reason


def _most_comparable(items: PairedItems) -> tuple[int, bool, int]:
    return items.this.cell.suite_version, not versions_apart(items.this, items.base), len(items.these)


def _answering(row: Row, reference: Row, task: str) -> Iterator[tuple[Record, Record]]:
    for this in answered(row, "quality"):
        for base in answered(reference, "quality"):
            if task in accuracies(this) and task in accuracies(base):
                yield this, base


def _pair_items(this: Record, base: Record, task: str, *, weights: bool) -> PairedItems | str:
    ours, theirs = accuracies(this)[task], accuracies(base)[task]
    reason = _differs(this, base, ours, theirs, weights=weights)
    if reason:
        return reason
    pairs = match(ours, theirs)
    if not pairs.mine:
        return _no_pair(ours, theirs)
    chance, groups = ours.labels.get("chance"), subjects(ours)
    return PairedItems(
        these=tuple(ours.values[i] for i in pairs.mine),
        reference=tuple(theirs.values[i] for i in pairs.yours),
        chance=float(chance) if isinstance(chance, int | float) else 0.0,
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
        if values[0] != values[1] and name != MEMORY_LIMIT:
            return f"different {name}: {values[0]} against {values[1]}"
    if ours.name != theirs.name:
        return f"different metrics: {ours.name} against {theirs.name}"
    versions = [measurement.labels.get("version") for measurement in (ours, theirs)]
    return f"different task versions: {versions[0]} against {versions[1]}" if versions[0] != versions[1] else ""


def _no_pair(ours: Measurement, theirs: Measurement) -> str:
    if ours.labels.get("documents") and ours.labels.get("documents") == theirs.labels.get("documents"):
        return "different prompts over the same items: measure both with the same template and shots"
    if ours.labels.get("item_hashes") and theirs.labels.get("item_hashes"):
        return "different items or prompts, none in common: measure both with the same profile and template"
    return "different items or prompts: measure both with the same profile"
