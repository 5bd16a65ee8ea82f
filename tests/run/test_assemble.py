# SPDX-License-Identifier: Apache-2.0
"""What a record says of an ending leaves this machine: no path of it, no control, no page of text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from builders import failed, make_cell, make_condition, make_machine, make_record, memory_samples, sample

from bench.engines import fake
from bench.judge.joined import LONGEST, joined
from bench.records.record import Caveat, Ending, Outcome, Prediction, Record
from bench.run.assemble import REASON, Assembler


def assembled(outcome: Outcome, *warnings: Caveat) -> Record:
    """A record of the fake's that ended so."""
    assembler = Assembler(run="r", machine=make_machine(), backend=fake.BACKEND, before=make_condition())
    energy = sample("decode_j", (), reason="cannot read /home/me/rapl/energy: denied")
    return assembler.record(
        make_cell(), outcome, started=datetime.now(UTC), seconds=1.0, predicted=Prediction(), warnings=warnings,
        measurements=(*memory_samples(), energy),
    )  # fmt: skip


def test_what_is_recorded_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    """Reason, traceback, warnings and why there are no samples keep what went wrong."""
    folder = tmp_path / "John Smith" / "model"
    outcome = Outcome(
        ending=Ending.FAILED,
        reason=f"OSError: [Errno 2] No such file: '{folder}/config.json'\nhint",
        detail=f'Traceback\n  File "{folder}/x.py", line 3\nOSError: {folder}/config.json\n',
    )
    caveat = Caveat(kind="odd", text=f"read from {tmp_path}/weights.bin\x1b[2J", advice=f"delete {tmp_path}/cache/x")
    record = assembled(outcome, caveat)
    assert record.outcome.reason == "OSError: [Errno 2] No such file: 'config.json' hint"
    assert record.outcome.detail == 'Traceback\n  File "x.py", line 3\nOSError: config.json\n'
    own = record.warnings[-1]
    assert (own.text, own.advice) == (r"read from weights.bin\x1b[2J", "delete x")
    assert record.measurements[-1].labels["reason"] == "cannot read energy: denied"
    assert "John" not in record.model_dump_json() and str(tmp_path) not in record.model_dump_json()


def test_a_reason_is_no_page() -> None:
    """What it leaves out is counted."""
    reason = assembled(Outcome(ending=Ending.FAILED, reason="x" * 200_000)).outcome.reason
    assert reason == "x" * REASON + " … (199,000 more letters)"


def test_records_from_before_are_read_without_their_paths() -> None:
    """What older records hold reaches no view either."""
    old = failed(make_cell(), reason="no file /home/me/models/tiny/config.json\x1b[2J" + "y" * 1000)
    warned = make_record(make_cell(), warnings=(Caveat(kind="odd", text="read /home/me/x", advice="see /home/me/y"),))
    first, second = joined([old, warned], [])
    assert first.outcome.reason.startswith(r"no file config.json\x1b[2Jyyy")
    assert first.outcome.reason.endswith(" more letters)") and len(first.outcome.reason) < LONGEST + 50
    assert (second.warnings[0].text, second.warnings[0].advice) == ("read x", "see y")
