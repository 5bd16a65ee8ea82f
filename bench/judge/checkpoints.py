# SPDX-License-Identifier: Apache-2.0
"""Which weights a record is of, where several share a name: two runs' `checkpoint-100` are two models. Pure.

What was loaded decides: the files' fingerprints in a record's provenance. A record of a cell that never got so far
says nothing of its own; it belongs to the weights that its cell names, else to those of its run. A served model's files
are nobody's to see; there name and host decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.records.cell import Weights, digest
from bench.records.head import Loaded, loaded
from bench.records.provenance import same_files
from bench.records.record import Record

Name = tuple[str, str, str, str]
"""Device, model, source of weights and engine: what one name stands for."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights that records of one name were measured from."""

    mark: str = ""
    """Digest of their files, empty where no record tells."""
    files: tuple[tuple[str, int], ...] = ()
    """Names and bytes of their files; none of a served model."""
    source: str = ""
    """Of a served model its name and host."""
    since: str = ""
    """When they were first measured, empty where they are alone."""
    alone: bool = True
    """Whether no other weights have this name on this device and in this engine."""


UNKNOWN = Checkpoint()
"""Weights that nothing is known of and that share their name with no others."""


@dataclass(kw_only=True)
class _Group:
    """Records of the same files."""

    files: dict[str, str]
    records: list[Loaded] = field(default_factory=list)

    def holds(self, record: Loaded) -> bool:
        """Whether a record that says nothing of its files has the same cell, or the same run, as one of these."""
        if record.fingerprint is not None:
            return any(other.fingerprint == record.fingerprint for other in self.records)
        return any(other.run == record.run for other in self.records)


def checkpoints(records: Sequence[Record]) -> list[Checkpoint]:
    """For each record the weights it is of, in the order of the records."""
    return checkpoints_of([loaded(record) for record in records])


def checkpoints_of(records: Sequence[Loaded]) -> list[Checkpoint]:
    """The same by what records tell of their weights."""
    by_name: dict[Name, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        by_name[record.name].append(place)
    found = [UNKNOWN] * len(records)
    for places in by_name.values():
        for place, checkpoint in zip(places, _of_one_name([records[place] for place in places]), strict=True):
            found[place] = checkpoint
    return found


def same_for_all(records: Sequence[Loaded], found: Sequence[Checkpoint]) -> bool:
    """Whether all other records that say what one of these says, of one name, are of the same weights as they.

    They are where these are of one checkpoint and name its files in one way: what is found of them depends on no date.
    """
    told = {tuple(sorted(record.files.items())) for record in records if record.files}
    return len(told) <= 1 and all(checkpoint.alone for checkpoint in found)


def _of_one_name(records: Sequence[Loaded]) -> list[Checkpoint]:
    groups: list[_Group] = []
    for record in sorted((r for r in records if r.files), key=lambda record: -len(record.files)):
        group = next((group for group in groups if same_files(group.files, record.files)), None)
        if group is None:
            groups.append(group := _Group(files=record.files))
        group.records.append(record)
    silent: dict[str | None, list[Loaded]] = defaultdict(list)
    for record in records:
        if not record.files:
            group = _likeliest(groups, record)
            (group.records if group else silent[record.fingerprint]).append(record)
    alone = len(groups) + len(silent) <= 1
    made = [(_told(group, alone=alone), group.records) for group in groups]
    made += [(Checkpoint(mark=mark or "", alone=alone), group) for mark, group in silent.items()]
    by_record = {id(record): checkpoint for checkpoint, group in made for record in group}
    return [by_record[id(record)] for record in records]


def _likeliest(groups: Sequence[_Group], record: Loaded) -> _Group | None:
    """The group of a record without files: of its cell or run, of its scheme before others; else the newest.

    None for one whose cell names other weights than every group's.
    """
    own = [group for group in groups if group.holds(record)]
    if not own and record.fingerprint is None:
        own = list(groups)
    return max(
        own,
        key=lambda group: (
            any(r.scheme == record.scheme for r in group.records),
            max(r.started for r in group.records),
        ),
        default=None,
    )


def _told(group: _Group, *, alone: bool) -> Checkpoint:
    sizes = {name: mark.partition(":")[0] for name, mark in sorted(group.files.items())}
    files = tuple((name, int(size)) for name, size in sizes.items() if size.isdigit())
    since = "" if alone else min(record.started for record in group.records)
    first = group.records[0]
    source = first.source if first.name[2] == Weights.REMOTE else ""
    return Checkpoint(mark=digest(group.files), files=files, source=source, since=since, alone=alone)


def apart(found: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Those that share their name with others, each once, the oldest first."""
    seen = {checkpoint.mark: checkpoint for checkpoint in found if not checkpoint.alone}
    return sorted(seen.values(), key=lambda checkpoint: checkpoint.since)
