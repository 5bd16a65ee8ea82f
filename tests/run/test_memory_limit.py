# SPDX-License-Identifier: Apache-2.0
"""A memory limit is parsed, refused where it limits nothing, enforced by the kernel, and named in the record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import can_make_group, dead_process, make_cell, make_condition, make_machine, make_model, make_scheme

from bench.engines import fake
from bench.engines.contract import DoesNotFit
from bench.errors import UserError
from bench.instruments import Instruments
from bench.instruments.machine import UNIT
from bench.instruments.memory import CudaMemory
from bench.processes import place
from bench.records.record import Ending, MemoryLimit, Prediction
from bench.records.store import Store
from bench.run import memory_limit
from bench.run.ending import ending
from bench.run.memory_limit import Confinement, capacity_bytes, charged_bytes, check, confined, own_group, parse_bytes
from bench.run.request import Asked, Request
from bench.run.worker import Worker
from bench.run.worker_process import WorkerProcess, death
from bench.units import human_limit

MIB = 2**20
LIMIT = 200 * MIB
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
TAKE = "import sys; held = bytearray(int(sys.argv[1])); print(len(held))"
"""Takes and touches so many bytes."""


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("12GB", 12 * 10**9),
        ("12 GiB", 12 * 2**30),
        ("1.5gb", 1_500_000_000),
        ("512MiB", 512 * MIB),
        ("4096", 4096),
        ("7 kB", 7000),
        ("12G", 12 * 10**9),
        ("12Gi", 12 * 2**30),
        ("512m", 512 * 10**6),
        ("512Mi", 512 * MIB),
        ("3 K", 3000),
        ("2T", 2 * 10**12),
        ("100B", 100),
    ],
)
def test_amounts_are_read_as_they_are_written(text: str, count: int) -> None:
    """GB is decimal and GiB binary, with and without the B; a bare number is bytes."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["banana", "", "GB", "-1GB", "12 PB", "0GB", "1e9", "12GB extra", "0.1", "12i", "12iB", "12Bi", "12GG"]
)
def test_what_is_no_amount_is_one_line(text: str) -> None:
    """With the remedy; fractions of a byte and nothing at all are no amounts either."""
    with pytest.raises(UserError) as caught:
        parse_bytes(text)
    assert repr(text) in caught.value.message
    assert caught.value.remedy == "write 12GB, 12GiB, 512M or a number of bytes"


def test_more_than_there_is_limits_nothing_and_is_refused() -> None:
    """The whole machine is allowed, one byte more is not; on a GPU its own memory counts."""
    assert check(100, 100) == 100
    with pytest.raises(UserError, match="101 B is more than the 100 B there are"):
        check(101, 100)
    machine = SimpleNamespace(memory_bytes=7, gpu_memory_bytes=None)
    assert capacity_bytes(machine) == 7
    machine.gpu_memory_bytes = 5
    assert capacity_bytes(machine) == 5


@linux
def test_a_group_goes_with_what_still_runs_in_it() -> None:
    """Whatever a worker left behind ends with the limit, and the next run finds no group."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here")
    with confined(LIMIT, "cpu") as confinement:
        assert confinement is not None
        group = Path(confinement.prefix[-1]).parent
        process = subprocess.Popen(confinement.command(["sleep", "600"]))
        while str(process.pid) not in (group / "cgroup.procs").read_text().split():
            assert process.poll() is None
    assert process.wait(60) == -signal.SIGKILL
    assert not group.exists()


@linux
def test_a_group_of_a_dead_run_is_swept_with_its_processes_and_a_living_one_s_stays() -> None:
    """Who made it stands in its name."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here")
    with confined(LIMIT, "cpu") as confinement:
        assert confinement is not None
        ours = Path(confinement.prefix[-1]).parent
        left = ours.with_name(f"bench-{place()}-{dead_process()}-abcdef")
        left.mkdir()
        inside = Confinement(
            limit_bytes=1, enforced_by="", prefix=(*confinement.prefix[:-1], str(left / "cgroup.procs"))
        )
        process = subprocess.Popen(inside.command(["sleep", "600"]))
        while str(process.pid) not in (left / "cgroup.procs").read_text().split():
            assert process.poll() is None
        memory_limit.sweep_groups()
        assert process.wait(60) == -signal.SIGKILL
        assert (left.exists(), ours.exists()) == (False, True)


def test_processes_that_may_not_be_killed_keep_their_group_and_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's: the sweep before a run goes on."""
    (tmp_path / "cgroup.procs").write_text("1")

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    monkeypatch.setattr(memory_limit.os, "kill", refuse)
    monkeypatch.setattr(memory_limit, "GRACE_S", 0.0)
    monkeypatch.setattr(memory_limit, "LOOK_S", 0.0)
    memory_limit.remove_group(tmp_path)
    assert tmp_path.exists()


def run(confinement: Confinement, count: int) -> subprocess.CompletedProcess[str]:
    """A child that takes so many bytes inside the limit."""
    command = confinement.command([sys.executable, "-c", TAKE, str(count)])
    return subprocess.run(command, check=False, capture_output=True, text=True)


@linux
def test_a_group_lets_through_what_fits_and_kills_what_does_not() -> None:
    """The kernel's own counters say which it was, and the group is gone afterwards."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here")
    with confined(LIMIT, "cpu") as confinement:
        assert confinement is not None
        assert confinement.enforced_by.startswith("cgroup")
        group = Path(confinement.prefix[-1]).parent
        assert run(confinement, 50 * MIB).stdout == f"{50 * MIB}\n"
        assert confinement.kills() == 0
        highest = confinement.highest_bytes()
        assert highest is not None
        assert 50 * MIB < highest < LIMIT
        assert run(confinement, 400 * MIB).returncode == -signal.SIGKILL
        assert confinement.kills() == 1
        assert confinement.stated() == MemoryLimit(
            bytes=LIMIT, enforced_by=confinement.enforced_by, highest_bytes=confinement.highest_bytes()
        )
    assert not group.exists()


@linux
def test_the_child_becomes_the_very_process_that_was_started() -> None:
    """No shell stays between: its id, its signals and its exit code are the worker's."""
    with confined(LIMIT, "cpu") as confinement:
        assert confinement is not None
        command = confinement.command([sys.executable, "-c", "import os; print(os.getpid()); os._exit(7)"])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        output, _ = process.communicate()
        assert (int(output), process.returncode) == (process.pid, 7)


@linux
def test_a_process_inside_reads_what_was_charged_to_it() -> None:
    """A worker writes its own records, so it asks its own group."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here")
    program = (
        "from bench.run.memory_limit import charged_bytes; from bench.records.record import MemoryLimit\n"
        "held = bytearray(30 << 20)\n"
        "print(charged_bytes(MemoryLimit(bytes=1, enforced_by=%r)).highest_bytes)"
    )
    with confined(LIMIT, "cpu") as confinement:
        assert confinement is not None
        command = confinement.command([sys.executable, "-c", program % confinement.enforced_by])
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
        )
        assert 30 * MIB < int(done.stdout) < LIMIT
    unknown = MemoryLimit(bytes=1, enforced_by="RLIMIT_DATA")
    assert charged_bytes(unknown) == unknown


@linux
def test_without_groups_a_resource_limit_refuses_private_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The crude way: the allocation fails inside the process, and nobody was killed."""
    monkeypatch.setattr(memory_limit, "_make_group", lambda version, limit: None)
    monkeypatch.setattr(memory_limit.shutil, "which", lambda name: None)
    with confined(LIMIT, "cpu") as confinement:
        assert confinement is not None
        assert (confinement.enforced_by, confinement.kills(), confinement.highest_bytes()) == (
            "RLIMIT_DATA",
            None,
            None,
        )
        assert run(confinement, 50 * MIB).returncode == 0
        refused = run(confinement, 400 * MIB)
        assert refused.returncode == 1
        assert "MemoryError" in refused.stderr


def fake_systemd(folder: Path, monkeypatch: pytest.MonkeyPatch, *, honest: bool) -> None:
    """A `systemd-run` that runs what follows `--`, in front of a group whose limit is the asked one or none."""
    script = folder / "systemd-run"
    script.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(memory_limit, "_make_group", lambda version, limit: None)
    own = next(
        line.split("::")[1] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
    )
    group = folder / own.lstrip("/")
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{LIMIT}\n" if honest else "max\n")
    monkeypatch.setattr(memory_limit, "CGROUPS", folder)


@linux
@pytest.mark.parametrize(("honest", "taken"), [(True, "systemd scope"), (False, "RLIMIT_DATA")])
def test_a_scope_is_taken_only_if_a_trial_proves_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bool, taken: str
) -> None:
    """A service manager that cannot limit memory answers without an error and limits nothing."""
    if not any(line.startswith("0::") for line in Path("/proc/self/cgroup").read_text().splitlines()):
        pytest.skip("no cgroup v2 here")
    fake_systemd(tmp_path, monkeypatch, honest=honest)
    with confined(LIMIT, "cpu") as confinement:
        assert confinement is not None
        assert confinement.enforced_by == taken


def test_no_limit_confines_nothing() -> None:
    """And a GPU's limit is set by the worker, not around it."""
    with confined(None, "cpu") as confinement:
        assert confinement is None
    with confined(LIMIT, "cuda") as confinement:
        assert confinement is not None
        assert (confinement.command(["x"]), confinement.enforced_by) == (["x"], "CUDA allocator")


def test_a_device_without_any_mechanism_is_refused() -> None:
    """One line, before anything starts."""
    with pytest.raises(UserError, match="needs Linux or CUDA"), confined(LIMIT, "mps"):
        pass


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup v2 hierarchy of plain files, this process in /own."""
    proc = tmp_path / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/own\n")
    own = tmp_path / "cgroup" / "own"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpu memory\n")
    (own / "cgroup.subtree_control").write_text("memory\n")
    monkeypatch.setattr(memory_limit, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory_limit, "CGROUPS", tmp_path / "cgroup")
    return own


def test_a_group_of_version_2_gets_its_limit_and_no_swap(hierarchy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the kernel reads, written as it wants them."""
    make = Path.mkdir

    def mkdir(self: Path, *arguments: object, **options: object) -> None:
        make(self, *arguments, **options)
        for name in ("memory.max", "memory.swap.max", "memory.oom.group"):
            (self / name).write_text("max\n")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert own_group(2) == hierarchy
    group = memory_limit._make_group(2, LIMIT)
    assert group is not None
    assert group.parent == hierarchy
    written = {name: (group / name).read_text() for name in ("memory.max", "memory.swap.max", "memory.oom.group")}
    assert written == {"memory.max": str(LIMIT), "memory.swap.max": "0", "memory.oom.group": "1"}
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (group / "memory.peak").write_text("12345\n")
    inside = memory_limit._in_group(2, group, LIMIT)
    assert (inside.enforced_by, inside.kills(), inside.highest_bytes()) == ("cgroup v2", 2, 12345)


def test_a_group_that_lets_memory_into_swap_is_not_hard(hierarchy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where swap is not counted and there is some, the next mechanism is tried."""
    monkeypatch.setattr(memory_limit.psutil, "swap_memory", lambda: SimpleNamespace(total=1))
    unlink = Path.rmdir

    def rmdir(self: Path) -> None:
        for inner in self.iterdir():
            inner.unlink()
        unlink(self)

    monkeypatch.setattr(Path, "rmdir", rmdir)
    assert memory_limit._make_group(2, LIMIT) is None
    assert [path.name for path in hierarchy.iterdir() if path.is_dir()] == []


def test_a_death_at_the_limit_does_not_fit_and_names_it() -> None:
    """Without a kill in the group, the same signal is only a kill."""
    confinement = Confinement(limit_bytes=12 * 10**9, enforced_by="cgroup v1", kills=lambda: 1)
    outcome = death(-signal.SIGKILL, WorkerProcess([], confinement=confinement), "log", None)
    assert outcome.ending is Ending.DOES_NOT_FIT
    assert outcome.reason == "needs more than its limit of 12 GB (cgroup v1): killed by the kernel while loading"
    reached = Confinement(
        limit_bytes=12 * 10**9, enforced_by="cgroup v1", kills=lambda: 1, highest_bytes=lambda: 11_900_000_000
    )
    assert death(-signal.SIGKILL, WorkerProcess([], confinement=reached), "log", None) == outcome
    survived = Confinement(limit_bytes=12 * 10**9, enforced_by="cgroup v1", kills=lambda: 0)
    assert death(-signal.SIGKILL, WorkerProcess([], confinement=survived), "log", None).ending is Ending.KILLED


def test_a_death_far_below_the_limit_is_not_the_limit_s() -> None:
    """The kernel counts a kill in the group also where the whole machine ran out: that proves nothing of the limit."""
    confinement = Confinement(
        limit_bytes=12 * 10**9, enforced_by="cgroup v2", kills=lambda: 1, highest_bytes=lambda: 6 * 10**9
    )
    outcome = death(-signal.SIGKILL, WorkerProcess([], confinement=confinement), "log", None)
    assert outcome.ending is Ending.KILLED
    assert outcome.reason == (
        "killed by the kernel while loading at 5.59 GiB of its limit of 12 GB: the machine itself had no more"
    )


@pytest.mark.parametrize(("limit", "fraction"), [(600, 0.5), (50, 0.0), (5000, 1.0)])
def test_a_gpu_s_limit_leaves_room_for_the_context(limit: int, fraction: float) -> None:
    """On a card of 1000 bytes the driver holds 150 for this process, 50 of which the allocator reserved."""
    set_to: list[tuple[float, int]] = []
    cuda = SimpleNamespace(
        get_device_properties=lambda index: SimpleNamespace(uuid="GPU-1", total_memory=1000),
        init=lambda: None,
        synchronize=lambda index: None,
        memory_allocated=lambda index: 40,
        memory_reserved=lambda index: 50,
        set_per_process_memory_fraction=lambda share, index: set_to.append((share, index)),
    )
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=150, free=850),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [SimpleNamespace(pid=os.getpid(), usedGpuMemory=150)],
    )
    CudaMemory(cuda, nvml).limit(limit)
    assert set_to == [(fraction, 0)]


@pytest.mark.parametrize(("limit", "kinds"), [(10**9, []), (10**8 + 10**7, ["over_limit"])])
def test_what_the_driver_counts_is_held_against_a_gpu_s_limit(tmp_path: Path, limit: int, kinds: list[str]) -> None:
    """The allocator is held to it, other memory of the driver is not: its highest figure is in the record."""
    read, write = os.pipe()
    request = Request(
        run="run", results=tmp_path, cache=tmp_path, events=write, model=make_model(), weights="random", path=None,
        backend="fake", scheme=make_scheme(), threads=None, machine=make_machine(kind="cuda"), before=make_condition(),
        memory_limit=MemoryLimit(bytes=limit, enforced_by="CUDA allocator"),
        cells=(Asked(cell=make_cell("memory"), predicted=Prediction()),),
    )  # fmt: skip
    Worker(request).run()
    os.close(read)
    os.close(write)
    (record,) = Store(tmp_path).records()
    peak = record.measurement("peak_bytes")
    assert peak is not None
    assert record.memory_limit is not None
    assert record.memory_limit.highest_bytes == peak.values[0] > 10**8 + 10**7
    assert [caveat.kind for caveat in record.warnings if caveat.kind == "over_limit"] == kinds
    assert all(human_limit(limit) in caveat.text for caveat in record.warnings if caveat.kind == "over_limit")


def test_a_limit_that_a_gpu_s_engine_cannot_keep_is_unsupported(tmp_path: Path) -> None:
    """Before anything is loaded, with the reason."""
    read, write = os.pipe()
    request = Request(
        run="run", results=tmp_path, cache=tmp_path, events=write, model=make_model(), weights="random", path=None,
        backend="fake", scheme=make_scheme(), threads=None, machine=make_machine(kind="cuda"), before=make_condition(),
        memory_limit=MemoryLimit(bytes=10**9, enforced_by="CUDA allocator"),
        cells=(Asked(cell=make_cell("memory"), predicted=Prediction()),),
    )  # fmt: skip
    worker = Worker(request)

    class Driver(fake.ArithmeticMemory):
        def limit(self, total_bytes: int) -> None:
            raise MemoryError("no limit can be enforced on it")

    def load(asked: object) -> None:
        raise AssertionError("nothing is loaded")

    tools = Instruments(fake._CLOCK, Driver())
    worker.backend = replace(worker.backend, instruments=lambda device: tools, load=load)
    worker.run()
    os.close(read)
    os.close(write)
    (record,) = Store(tmp_path).records()
    assert record.outcome.ending is Ending.UNSUPPORTED
    assert record.outcome.reason.startswith("no limit can be enforced on it")


def test_other_mechanisms_let_nothing_over(tmp_path: Path) -> None:
    """What a group charges is what it holds."""
    charged = MemoryLimit(bytes=5, enforced_by="cgroup v2", highest_bytes=6)
    assert memory_limit.overrun(charged) == memory_limit.overrun(None) == []


@pytest.mark.parametrize(("share", "reserved", "left"), [(1.0, 100, 700), (0.5, 100, 400), (0.5, 600, 0)])
def test_what_a_limited_gpu_had_left_is_of_its_share(
    monkeypatch: pytest.MonkeyPatch, share: float, reserved: int, left: int
) -> None:
    """A card of 1000 bytes with 700 free: an allocator that may take half of it never had all 700.

    Where a model is spread, the fullest card is where it ended; one more is empty here.
    """
    torch = pytest.importorskip("torch")
    from bench.engines.transformers.engine import fits

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda card: (700 + 300 * card, 1000))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda card: share)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda card: reserved * (1 - card))
    for unit in ("cuda:0", "cuda:0+cuda:1"):
        monkeypatch.setenv(UNIT, unit)
        with pytest.raises(DoesNotFit) as caught, fits("load"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        assert (caught.value.wanted_bytes, caught.value.had_bytes) == (2 * 2**30, left)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(12, "Cannot allocate memory"), RuntimeError("mmap of x: Cannot allocate memory (12)")],
)
def test_an_allocation_that_is_refused_does_not_fit(error: Exception) -> None:
    """Whatever library met it, in whichever words of its own around the system's."""
    outcome = ending(error, "load")
    assert (outcome.ending, outcome.reason) == (Ending.DOES_NOT_FIT, "out of memory in load")
