# SPDX-License-Identifier: Apache-2.0
"""Several processes on one folder: none measures what another has, and what a dead one had is anybody's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from builders import called, make_record, unlogged
from drilled import PATIENCE_S, Drill, linux

from bench.catalog.entries import read_catalog
from bench.instruments import machine
from bench.plan.plan import make_plan
from bench.plan.questions import Planned
from bench.plan.selection import Selection
from bench.records.cell import Precision
from bench.records.owner import this_process
from bench.records.store import Store
from bench.run import taken
from bench.run.jobs import Jobs
from bench.run.stopping import Stop
from bench.run.taken import Taken


def cells(*suites: str, precisions: tuple[Precision, ...] = (Precision.FP16,)) -> list[Planned]:
    """Cells of the default model on the fake."""
    asked = Selection(precisions=precisions, backends=("fake",), suites=suites or ("memory",), profile="smoke")
    return list(make_plan(asked, read_catalog(), machine.describe("cpu")).cells)


def claim(store: Store, planned: Planned, **owner: Any) -> Path:
    """A claim of somebody else."""
    path = store.root / ".runs" / "taken" / f"{planned.cell.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(this_process().model_copy(update=owner).model_dump_json())
    return path


def test_what_another_living_process_has_is_not_taken_nor_any_of_its_job(tmp_path: Path) -> None:
    """All or nothing, so that nobody holds what another waits for."""
    store, (first, second) = Store(tmp_path), cells("memory", "throughput")
    path = claim(store, second, pid=os.getppid(), began=_began(os.getppid()))
    mine = Taken(store, frozenset())
    holder = mine.take([first, second])
    assert holder is not None and holder.pid == os.getppid()
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert mine.take([first]) is None
    mine.close()
    assert path.exists()


def _began(pid: int) -> float:
    from bench.processes import began

    found = began(pid)
    assert found is not None
    return found


@pytest.mark.parametrize("change", [{"began": 1.0}, {"boot": "00000000"}, {"pid": 2**22 - 1}])
def test_what_a_dead_process_had_is_taken_over(tmp_path: Path, change: dict[str, object]) -> None:
    """Killed, its number used again, or the machine started anew."""
    store, (one,) = Store(tmp_path), cells()
    path = claim(store, one, **change)
    mine = Taken(store, frozenset())
    assert mine.take([one]) is None
    assert this_process().model_dump_json() == path.read_text()
    mine.give([one])
    assert list((tmp_path / ".runs").iterdir()) == []


def test_a_claim_of_another_host_is_believed_while_it_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our own clock: what its file says of the time may be wrong."""
    store, (one,) = Store(tmp_path), cells()
    path, mine, clock = claim(store, one, place="000000"), Taken(store, frozenset()), [0.0]
    monkeypatch.setattr(taken.time, "monotonic", lambda: clock[0])
    assert mine.take([one]) is not None
    clock[0] = taken.LEASE_S + 1
    os.utime(path, ns=(1, 1))
    assert mine.take([one]) is not None, "it was touched"
    clock[0] += taken.LEASE_S - 1
    assert mine.take([one]) is not None
    clock[0] += 2
    assert mine.take([one]) is None
    mine.close()


def test_what_others_have_answered_since_is_not_open_but_what_we_or_earlier_calls_have_is(tmp_path: Path) -> None:
    """By the ids that were there, and those of our own."""
    store, (one,) = Store(tmp_path), cells()
    earlier, own, others = (
        make_record(one.cell, id=f"0000000{n}", started=f"2026-01-0{n}T00:00:00Z") for n in (1, 2, 3)
    )
    mine = Taken(store, frozenset({earlier.id}))
    mine.own.add(own.id)
    store.write(earlier)
    store.write(own)
    assert mine.open_ones([one]) == [one]
    store.write(others)
    assert mine.open_ones([one]) == []


def test_a_reference_that_another_host_answered_is_open_where_its_distributions_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie in that host's cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path)
    reference, other = cells("divergence", precisions=(Precision.FP16, Precision.INT8))
    store.write(make_record(reference.cell, id="00000001"))
    assert Taken(store, frozenset()).open_ones([reference, other]) == [reference, other]
    assert Taken(store, frozenset()).open_ones([reference]) == []


def test_a_pool_hands_out_what_is_free_first_and_waits_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said once; what the other has answered meanwhile is not handed out."""
    monkeypatch.setattr("bench.run.jobs.LOOK_S", 0.0)
    store, (one,) = Store(tmp_path), cells()
    path = claim(store, one, pid=os.getppid(), began=_began(os.getppid()))
    mine, said, gone = Taken(store, frozenset()), list[object](), list[Planned]()
    pool = Jobs([one], mine, Stop())

    def waits(owner: object) -> None:
        said.append(owner)
        if owner is not None:
            store.write(make_record(one.cell))
            path.unlink()

    assert pool.next(gone.extend, waits) is None
    assert (len(said), said[-1], gone) == (2, None, [one])
    assert list((tmp_path / ".runs").iterdir()) == []


@linux
def test_two_calls_that_overlap_measure_every_cell_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes, other selections, one folder: the one that comes second waits and finds its answers there."""
    drill = Drill(tmp_path)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = drill.start(f"wait:{gate}@log_probs:fake-fp16#1")
    drill.until(drill.writing)
    more = [part if part != "fp16,int8" else "fp16,int8,int4" for part in drill.command()]
    second = subprocess.Popen(
        more, env=drill.environment(""), stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
    )
    assert second.stderr is not None
    said = next(line for line in second.stderr if unlogged(line))
    assert said == f"another bench (process {first.pid}) measures what is left: waiting for it\n"
    _, shown, _ = called(capsys, "status", "--results", str(drill.results))
    assert f"runs (process {first.pid}): 2 of 6 cells answered\n" in shown
    assert f"waits for process {first.pid} (process {second.pid}): 0 of 9 cells answered\n" in shown
    with gate.open("w"):
        pass
    first.communicate(timeout=PATIENCE_S)
    said = second.communicate(timeout=PATIENCE_S)[1]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert len(drill.settled()) == 9
    assert drill.left() == []


@linux
def test_a_call_goes_on_with_what_a_killed_one_had(tmp_path: Path) -> None:
    """Its claims lie there and mean nothing."""
    drill = Drill(tmp_path)
    process = drill.start("hang@log_probs")
    drill.until(drill.writing)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert len(list((drill.results / ".runs" / "taken").iterdir())) == 6
    drill.finish()
    assert len(drill.settled()) == 6
    assert drill.left() == []
