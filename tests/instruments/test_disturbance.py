# SPDX-License-Identifier: Apache-2.0
# The fakes have the names of the libraries they stand for, and those need no explaining.
# ruff: noqa: D102, N802
"""What disturbs is seen, named without secrets, and said with advice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from builders import make_condition, make_machine

from bench.instruments import container, machine, neighbours
from bench.instruments.disturbance import busy, caveats
from bench.instruments.neighbours import Snapshot
from bench.records.surroundings import Condition, GpuCondition

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")


def test_other_processes_are_named_by_what_they_used() -> None:
    """CPU seconds since the first look over the seconds between; ours, the idle and a reused number do not count."""
    before = Snapshot(10.0, {(1, 0.0): ("init", 5.0), (2, 0.0): ("ours", 1.0), (3, 0.0): ("stress", 100.0)})
    after = Snapshot(
        12.0,
        {
            (1, 0.0): ("init", 5.01), (2, 0.0): ("ours", 3.0), (3, 0.0): ("stress", 101.5), (3, 11.0): ("new", 0.5),
            (4, 11.0): ("new", 0.5),
        },
    )  # fmt: skip
    assert neighbours.others(before, after, {2}) == (1.255, {"stress": 0.75, "new": 0.5})


def test_work_of_processes_that_ended_or_cannot_be_seen_counts() -> None:
    """What the CPUs worked beyond the living; children of ours that ended are ours, and a few ticks are nobody."""
    first = {(2, 0.0): ("ours", 1.0), (3, 0.0): ("make", 5.0)}
    last = {(2, 0.0): ("ours", 3.0), (3, 0.0): ("make", 5.2)}
    before = Snapshot(10.0, first, {(2, 0.0): 0.0, (3, 0.0): 4.0}, 100.0)

    def seen(busy: float) -> tuple[float, dict[str, float]]:
        return neighbours.others(before, Snapshot(12.0, last, {(2, 0.0): 0.5, (3, 0.0): 7.0}, busy), {2})

    assert seen(100.0 + 2.0 + 0.2 + 0.5 + 3.0) == (1.6, {"ended or hidden": 1.5, "make": 0.1})
    assert seen(100.0 + 2.0 + 0.2 + 0.5 + 0.19) == (0.1, {"make": 0.1})
    assert neighbours.others(before, Snapshot(12.0, last), {2}) == (0.1, {"make": 0.1})


@linux
def test_the_cpus_work_is_what_their_processes_used() -> None:
    """Both are counted alike: our own work alone leaves nothing unseen beyond what others really do."""
    first = neighbours.snapshot()
    until = psutil.Process().cpu_times().user + 0.3
    while psutil.Process().cpu_times().user < until:
        pass
    last = neighbours.snapshot()
    assert first.busy is not None
    assert last.busy is not None
    assert last.busy - first.busy > 0.2


@linux
@pytest.mark.alone
def test_a_real_neighbour_is_seen_by_its_name_alone() -> None:
    """A process that spins beside this one is found with its share; its arguments are nowhere."""
    first = neighbours.snapshot()
    with subprocess.Popen([sys.executable, "-c", "while True: pass", "secret-token"]) as child:
        try:
            until = psutil.Process(child.pid)
            while until.cpu_times().user < 0.2:
                pass
            second = neighbours.snapshot()
        finally:
            child.kill()
    used, named = neighbours.others(first, second, neighbours.own() - {child.pid})
    assert used > 0.05
    assert "secret-token" not in repr(second) + repr(named)
    assert child.pid not in {pid for pid, _ in first.used}
    assert (psutil.Process().pid in neighbours.own()) and (psutil.Process().ppid() in neighbours.own())


def test_what_we_started_is_no_neighbour() -> None:
    """Children of this process, and of the one that started it, are ours."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            assert child.pid in neighbours.own()
        finally:
            child.kill()


def found(after: dict[str, Any], before: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """Caveats of a cell by kind and text."""
    listed = caveats(make_condition(**before or {}), make_condition(**after), make_machine())
    assert all(caveat.advice for caveat in listed)
    return [(caveat.kind, caveat.text) for caveat in listed]


QUIET: dict[str, Any] = {
    "others_cpu": 0.1, "swapped_in_bytes": 5 << 20, "on_battery": False, "governor": "powersave (intel_pstate)",
    "throttle_count": 3, "container_throttled": 4, "niceness": 0,
    "gpu": GpuCondition(others=0, others_bytes=0, reasons=()),
}  # fmt: skip


def test_a_quiet_machine_needs_no_caveat() -> None:
    """Nor one that tells nothing; counters count from the run's start."""
    assert found({}) == []
    assert found(QUIET, {"swapped_in_bytes": 0, "throttle_count": 3, "container_throttled": 4}) == []


@pytest.mark.parametrize(
    ("after", "before", "kind", "text"),
    [
        ({"others_cpu": 0.9, "others": {"stress": 0.8}}, {}, "other_processes",
         "others used 0.9 of 2 CPUs meanwhile: stress 0.8"),
        ({"swapped_in_bytes": 60 << 20}, {"swapped_in_bytes": 10 << 20}, "swapping",
         "50 MiB came back from swap between this run's start and this cell's end"),
        ({"swapped_out_bytes": 60 << 20}, {"swapped_out_bytes": 10 << 20}, "swapping",
         "50 MiB went to swap between this run's start and this cell's end"),
        ({"on_battery": True}, {}, "on_battery", "the machine ran on battery"),
        ({"niceness": 15}, {}, "niced", "measured at niceness 15: whatever else computed came first"),
        ({"governor": "powersave (acpi-cpufreq)"}, {}, "governor",
         "the CPU frequency governor was powersave (acpi-cpufreq)"),
        ({"throttle_count": 5}, {"throttle_count": 3}, "throttled", "heat slowed the CPU 2 times meanwhile"),
        ({"container_throttled": 9, "container_cpus": 1.5}, {"container_throttled": 2}, "container_throttled",
         "the container's quota of 1.5 CPUs stopped this run 7 times"),
        ({"gpu": GpuCondition(others=2, others_bytes=3 << 20)}, {}, "gpu_shared",
         "2 other processes compute on this GPU, holding 3 MiB"),
        ({"gpu": GpuCondition(others=1)}, {}, "gpu_shared", "1 other process computes on this GPU"),
        ({"gpu": GpuCondition(busy=1.0)}, {"gpu": GpuCondition(busy=0.31)}, "gpu_busy",
         "the GPU was 31% busy before this run began"),
        ({"gpu": GpuCondition(reasons=("power cap",))}, {}, "throttled",
         "the GPU's clocks were held back: power cap"),
    ],
)  # fmt: skip
def test_each_disturbance_is_said(after: dict[str, Any], before: dict[str, Any], kind: str, text: str) -> None:
    """With its figure."""
    assert found(after, before) == [(kind, text)]


@linux
def test_the_host_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Governor with its driver, the highest throttle count, the quota as CPUs; battery and sensors through psutil."""
    files = {
        "cpu0/cpufreq/scaling_governor": "performance\n", "cpu0/cpufreq/scaling_driver": "intel_pstate\n",
        "cpu0/thermal_throttle/package_throttle_count": "3\n", "cpu1/thermal_throttle/package_throttle_count": "7\n",
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(neighbours, "CPUS", tmp_path)
    monkeypatch.setattr(container, "quota", lambda: container.Quota(1.5, 12))
    monkeypatch.setattr(psutil, "sensors_battery", lambda: SimpleNamespace(power_plugged=False), raising=False)
    sensors = {"core": [SimpleNamespace(current=50.0), SimpleNamespace(current=71.5)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(used=5, sin=6, sout=7))
    assert neighbours.host() == {
        "governor": "performance (intel_pstate)", "throttle_count": 7, "container_cpus": 1.5,
        "container_throttled": 12, "on_battery": True, "temperature_c": 71.5, "swap_used_bytes": 5,
        "swapped_in_bytes": 6, "swapped_out_bytes": 7,
    }  # fmt: skip
    monkeypatch.setattr(container, "quota", lambda: None)
    assert "container_cpus" not in neighbours.host()


class NVMLError(Exception):
    """As the driver's."""


class Driver:
    """NVML with another tenant on the card and its clocks held back."""

    NVMLError = NVMLError

    def __init__(self, *, old: bool = False) -> None:
        self.old = old

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return 1410

    def nvmlDeviceGetTemperature(self, handle: str, kind: int) -> int:
        return 83

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        if self.old:
            raise NVMLError
        return 0x1 | 0x4 | 0x20

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=900)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        if self.old:
            raise NVMLError
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        own = SimpleNamespace(pid=os.getpid(), usedGpuMemory=10)
        return [own, SimpleNamespace(pid=1, usedGpuMemory=700), SimpleNamespace(pid=2, usedGpuMemory=None)]


def test_the_gpu_s_state_is_the_driver_s() -> None:
    """Idle is no reason; ours is no tenant; memory that the driver hides counts as none; an old driver tells less."""
    told = GpuCondition(**neighbours.gpu(Driver(), "h", {os.getpid()}))
    assert told == GpuCondition(
        sm_mhz=1410, temperature_c=83, reasons=("power cap", "thermal slowdown"), others=2, others_bytes=700,
        used_bytes=900, busy=0.37,
    )  # fmt: skip
    old = GpuCondition(**neighbours.gpu(Driver(old=True), "h", set()))
    assert (old.reasons, old.busy, old.used_bytes) == (None, None, 900)


def test_in_a_container_we_are_not_taken_for_another_tenant() -> None:
    """Where the driver numbers processes otherwise, one of those listed while we compute is this one."""
    unknown = {-1}
    told = GpuCondition(**neighbours.gpu(Driver(), "h", unknown, computing=True))
    assert (told.others, told.others_bytes) == (2, None)
    assert GpuCondition(**neighbours.gpu(Driver(), "h", unknown)).others == 3
    assert GpuCondition(**neighbours.gpu(Driver(), "h", {os.getpid()}, computing=True)).others == 2


def test_a_condition_looks_for_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a given look on, and only where there is none over an interval of its own."""
    monkeypatch.setattr(neighbours, "interval", lambda: (Snapshot(0.0, {}), Snapshot(1.0, {(9, 0.0): ("x", 0.5)})))
    assert machine.condition().others == {"x": 0.5}
    start = Snapshot(neighbours.snapshot().at, {(9, 0.0): ("x", 0.5)})
    monkeypatch.setattr(neighbours, "snapshot", lambda: Snapshot(start.at + 2, {(9, 0.0): ("x", 1.5)}))
    assert machine.condition(since=start).others == {"x": 0.5}


def test_old_conditions_still_read() -> None:
    """Those of records from before anyone looked."""
    old = Condition.model_validate({"load_1min": 1.0, "available_bytes": 5, "cpu_mhz": None})
    assert (old.others_cpu, old.others, old.gpu, old.roof) == (None, {}, None, None)


def test_the_load_that_the_run_before_left_is_no_neighbour() -> None:
    """Others' own use decides; the load average counts only where that is hidden, and a quiet start has no caveat."""
    described = make_machine(logical_cpus=2)
    assert busy(make_condition(load_1min=2.0, others_cpu=0.1), described) == []
    (caveat,) = busy(make_condition(load_1min=0.1, others_cpu=1.5), described)
    assert caveat.text == "others used 1.5 on 2 CPUs before this run began"
    (caveat,) = busy(make_condition(load_1min=2.0, others_cpu=None), described)
    assert caveat.text == "load was 2.0 on 2 CPUs before this run began"
    assert busy(make_condition(load_1min=1.0, others_cpu=None), described) == []


@linux
def test_a_niceness_is_undone_where_that_is_allowed_and_told_where_it_is_not() -> None:
    """In a process that was started at 5, as Ray starts them at 15; who may not go back keeps it and says so."""
    program = (
        "from bench.instruments import machine, neighbours; import os, sys; os.nice(5); before = neighbours.niceness();"
        "os.setpriority = os.setpriority if sys.argv[1] == 'may' else lambda *asked: (_ for _ in ()).throw("
        "PermissionError(1, 'no')); print(before, neighbours.unniced(), machine.condition().niceness)"
    )
    allowed = os.geteuid() == 0
    for may, expected in (("may", "5 0 0" if allowed else "5 5 5"), ("not", "5 5 5")):
        done = subprocess.run([sys.executable, "-c", program, may], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
