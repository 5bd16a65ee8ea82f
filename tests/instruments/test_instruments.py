# SPDX-License-Identifier: Apache-2.0
# The fakes have the names of the libraries they stand for, and those need no explaining.
# ruff: noqa: D102, N802
"""The instruments are proven: known bytes and seconds come back, on this process and on substituted devices."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bench.instruments import Reading, container
from bench.instruments.clock import DeviceClock, HostClock, VirtualClock
from bench.instruments.memory import CudaMemory, MpsMemory, ProcessMemory
from bench.instruments.nvml import NvmlMemory

MIB = 1024**2
KNOWN = 64 * MIB
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def allocate() -> mmap.mmap:
    """64 MiB of touched anonymous memory."""
    block = mmap.mmap(-1, KNOWN, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, KNOWN, mmap.PAGESIZE):
        block[start] = 1
    return block


LEDGER = """
import dataclasses, json, test_instruments as known
from bench.instruments.memory import ProcessMemory
counter = ProcessMemory()
found = {"name": counter.name}
def keep(name, reading):
    found[name] = dataclasses.asdict(reading)
counter.read()
counter.reset_peak()
keep("before", counter.read())
block = known.allocate()
keep("during", counter.read())
block.close()
keep("after", counter.read())
keep("peak", counter.peak())
counter.reset_peak()
keep("peak after reset", counter.peak())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ledger() -> dict[str, Any]:
    """Readings of a fresh process around a known allocation: in this one other tests' libraries come and go."""
    own = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", LEDGER],
        capture_output=True,
        text=True,
        check=True,
        env=own,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@linux
def test_a_known_allocation_is_seen_while_it_lives(ledger: dict[str, Any]) -> None:
    """64 MiB more in total, anonymous and proportional bytes, none in file-backed ones; gone when it is freed."""
    before, during, after = ledger["before"], ledger["during"], ledger["after"]
    for part in ("total_bytes", "anonymous_bytes", "proportional_bytes"):
        assert during[part] - before[part] == pytest.approx(KNOWN, rel=0.02)  # kB and KiB differ by 0.024
        assert abs(after[part] - before[part]) < 0.02 * KNOWN
    assert abs(during["file_bytes"] - before["file_bytes"]) < 0.02 * KNOWN


@linux
def test_the_peak_holds_what_was_freed_until_it_is_reset(ledger: dict[str, Any]) -> None:
    """A high-water mark remembers 64 MiB that are gone, and forgets them when told to."""
    if ledger["name"] != "VmHWM":
        pytest.skip("this sandbox hides clear_refs")
    before = ledger["before"]["total_bytes"]
    assert ledger["peak"]["total_bytes"] - before == pytest.approx(KNOWN, rel=0.05)
    assert ledger["peak after reset"]["total_bytes"] - before < 0.05 * KNOWN


@linux
def test_children_count_too() -> None:
    """What a child process holds belongs to the model that needs it, and ends with it."""
    counter = ProcessMemory()
    before = counter.read().total_bytes
    code = "import sys; block = bytearray(b'x') * (64 << 20); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during, peak = counter.read().total_bytes, counter.peak().total_bytes
        child.communicate()
    assert during - before > KNOWN
    assert peak - before > KNOWN
    assert counter.read().total_bytes - before < KNOWN / 2


@linux
def test_a_child_that_has_ended_does_not_stop_the_measurement() -> None:
    """A process that its parent has not reaped yet has no memory, and no error."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        counter = ProcessMemory()
        assert counter.read().total_bytes > 0
        assert counter.peak().total_bytes > 0
        assert counter.resettable == ProcessMemory().resettable
    finally:
        child.wait()


@linux
def test_without_rollups_the_status_file_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hardened kernel has no smaps_rollup: then no shares, but never zero bytes; the reading names its counter."""
    counter = ProcessMemory()
    whole = counter.read()
    assert whole.counter == "smaps_rollup"
    read = Path.read_text

    def refuse(self: Path, *args: Any, **options: Any) -> str:
        if self.name == "smaps_rollup":
            raise FileNotFoundError
        return read(self, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = counter.read()
    assert found.total_bytes == pytest.approx(whole.total_bytes, rel=0.1)
    assert found.anonymous_bytes == pytest.approx(whole.anonymous_bytes, rel=0.1)
    assert (found.proportional_bytes, found.counter) == (None, "status")


@linux
def test_trimming_keeps_what_is_in_use() -> None:
    """Only freed memory goes back."""
    counter = ProcessMemory()
    counter.trim()  # what earlier tests freed
    block = allocate()
    before = counter.read().total_bytes
    counter.trim()
    assert before - counter.read().total_bytes < KNOWN / 2
    block.close()


def test_capacity_is_what_is_free_and_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the container's limit."""
    counter = ProcessMemory()
    own = counter.process.memory_info().rss
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9))
    monkeypatch.setattr(container, "left_bytes", lambda: None)
    assert counter.capacity_bytes() == pytest.approx(10**9 + own, rel=0.05)
    monkeypatch.setattr(container, "left_bytes", lambda: 12345)
    assert counter.capacity_bytes() == pytest.approx(12345 + own, rel=0.05)


class NVMLError(Exception):
    """As the driver's."""


class Gpu:
    """A GPU whose driver and allocator agree: what is reserved, and a context of 300 MiB beside it."""

    NVMLError = NVMLError
    CONTEXT = 300 * MIB
    TOTAL = 10_000 * MIB
    OTHERS = 1_000 * MIB
    """Held by other processes before this one begins."""

    def __init__(self, *, lists: str = "bytes", uuid: str = "GPU-1234") -> None:
        self.lists, self.uuid = lists, uuid
        self.started = False
        self.allocated = self.reserved = self.highest_allocated = self.highest_reserved = 0
        self.calls: list[str] = []
        self.asked: list[str] = []

    # torch.cuda
    def init(self) -> None:
        pass  # the driver's context comes with the first thing that is asked of the device

    def get_device_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(uuid=self.uuid)

    def synchronize(self, index: int) -> None:
        self.started = True
        self.calls.append("synchronize")

    def memory_allocated(self, index: int) -> int:
        return self.allocated

    def memory_reserved(self, index: int) -> int:
        return self.reserved

    def max_memory_allocated(self, index: int) -> int:
        return self.highest_allocated

    def max_memory_reserved(self, index: int) -> int:
        return self.highest_reserved

    def empty_cache(self) -> None:
        self.calls.append("empty_cache")
        self.reserved = self.allocated

    def reset_peak_memory_stats(self, index: int) -> None:
        self.calls.append("reset")
        self.highest_allocated, self.highest_reserved = self.allocated, self.reserved

    def use(self, allocated: int, reserved: int) -> None:
        self.allocated, self.reserved = allocated, reserved
        self.highest_allocated = max(self.highest_allocated, allocated)
        self.highest_reserved = max(self.highest_reserved, reserved)

    # NVML
    @property
    def own(self) -> int:
        return self.reserved + self.CONTEXT if self.started else 0

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked.append(uuid)
        if uuid == "GPU-cut":
            raise NVMLError
        return "handle"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        self.asked.append(str(index))
        return "handle"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        used = self.OTHERS + self.own
        return SimpleNamespace(total=self.TOTAL, used=used, free=self.TOTAL - used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        if self.lists == "error":
            raise NVMLError
        other = SimpleNamespace(pid=os.getpid() + 1, usedGpuMemory=self.OTHERS)
        if self.lists == "nobody" or not self.started:
            return [other]
        used = None if self.lists == "unknown" else self.own
        return [other, SimpleNamespace(pid=os.getpid(), usedGpuMemory=used)]


def open_gpu(gpu: Gpu) -> CudaMemory:
    return CudaMemory(gpu, gpu)


@pytest.mark.parametrize("uuid", ["GPU-1234", "1234"])
def test_the_driver_is_asked_for_the_gpu_that_torch_uses(uuid: str) -> None:
    """By UUID, whatever torch's spelling: CUDA_VISIBLE_DEVICES renumbers, NVML does not."""
    gpu = Gpu(uuid=uuid)
    open_gpu(gpu)
    assert gpu.asked == ["GPU-1234"]


def test_an_instance_of_a_card_is_found_by_its_own_name() -> None:
    """On a card that is cut (MIG), torch tells the UUID of the instance without saying that it is one."""
    gpu = Gpu(uuid="cut")
    open_gpu(gpu)
    assert gpu.asked == ["GPU-cut", "MIG-cut"]


def test_the_driver_s_figure_for_the_process_is_the_reading() -> None:
    """Context included, other processes not; the allocator's figures beside it, after the queue is empty."""
    gpu = Gpu()
    counter = open_gpu(gpu)
    gpu.use(allocated=50 * MIB, reserved=80 * MIB)
    gpu.calls.clear()
    assert counter.name == "NVML process"
    assert counter.read() == Reading(total_bytes=380 * MIB, allocated_bytes=50 * MIB, reserved_bytes=80 * MIB)
    assert gpu.calls == ["synchronize"]
    assert counter.capacity_bytes() == Gpu.TOTAL - Gpu.OTHERS


@pytest.mark.parametrize("lists", ["error", "nobody", "unknown"])
def test_where_the_driver_cannot_tell_processes_apart_the_baseline_is_subtracted(lists: str) -> None:
    """An error, a foreign process id or no figure: the device's use minus what it was before, and the name says so."""
    gpu = Gpu(lists=lists)
    counter = open_gpu(gpu)
    gpu.use(allocated=50 * MIB, reserved=80 * MIB)
    assert counter.name == "NVML device minus baseline"
    assert counter.read().total_bytes == 380 * MIB
    assert counter.capacity_bytes() == Gpu.TOTAL - Gpu.OTHERS


def test_the_peak_on_a_gpu_is_the_highest_reservation_and_the_context() -> None:
    """Freed before the reading, remembered by the allocator; forgotten after a reset."""
    gpu = Gpu()
    counter = open_gpu(gpu)
    gpu.use(allocated=900 * MIB, reserved=1000 * MIB)
    gpu.use(allocated=50 * MIB, reserved=80 * MIB)
    assert counter.peak() == Reading(total_bytes=1300 * MIB, allocated_bytes=900 * MIB, reserved_bytes=1000 * MIB)
    assert (counter.peak().counter, counter.read().counter) == ("NVML process, max_memory_reserved", "")
    counter.reset_peak()
    assert gpu.calls[-2:] == ["empty_cache", "reset"]
    assert counter.peak() == Reading(total_bytes=350 * MIB, allocated_bytes=50 * MIB, reserved_bytes=50 * MIB)


@pytest.mark.parametrize("lists", ["bytes", "error", "nobody", "unknown"])
def test_an_engine_without_an_allocator_to_ask_has_the_driver_s_figure(
    monkeypatch: pytest.MonkeyPatch, lists: str
) -> None:
    """The process's where it is listed, another tenant's never; else the device's growth. The highest is the peak."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    gpu = Gpu(lists=lists)
    counter = NvmlMemory(gpu)
    assert gpu.asked == ["1"]
    assert counter.read() == Reading(total_bytes=0)
    gpu.started = True
    for reserved in (80, 500, 50):
        gpu.use(allocated=0, reserved=reserved * MIB)
        assert counter.read() == Reading(total_bytes=(300 + reserved) * MIB)
    assert counter.name == ("NVML process" if lists == "bytes" else "NVML device minus baseline")
    assert counter.peak() == Reading(total_bytes=800 * MIB)
    assert counter.capacity_bytes() == Gpu.TOTAL - Gpu.OTHERS
    counter.reset_peak()
    assert counter.peak() == Reading(total_bytes=350 * MIB)
    with pytest.raises(MemoryError, match="no limit can be enforced"):
        counter.limit(10**9)


@pytest.mark.parametrize("counter", [CudaMemory, NvmlMemory])
@pytest.mark.parametrize("listed", [True, False])
def test_a_gpu_without_memory_of_its_own_is_counted_on_the_host(
    monkeypatch: pytest.MonkeyPatch, counter: Any, listed: bool
) -> None:
    """NVML refuses such a board's memory: the process's figure where it has one, else what the host lost meanwhile."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    host = SimpleNamespace(total=1000 * MIB, available=900 * MIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: host)
    monkeypatch.setattr(container, "left_bytes", lambda: None)

    def refuse(handle: str) -> None:
        raise NVMLError

    gpu = Gpu(lists="bytes" if listed else "error")
    monkeypatch.setattr(gpu, "nvmlDeviceGetMemoryInfo", refuse)
    made = counter(gpu, gpu) if counter is CudaMemory else counter(gpu)
    gpu.started = True
    gpu.use(allocated=50 * MIB, reserved=80 * MIB)
    host.available = 500 * MIB
    assert made.read().total_bytes == (380 if listed else 400) * MIB
    assert made.name == ("NVML process" if listed else "host minus baseline")
    assert made.capacity_bytes() == (880 if listed else 900) * MIB


def test_a_tenant_that_comes_first_does_not_stay_in_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What grew before this process had a context was another's; once listed, it has a figure of its own."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu = Gpu()
    counter = NvmlMemory(gpu)
    monkeypatch.setattr(Gpu, "OTHERS", Gpu.OTHERS + 200 * MIB)
    assert (counter.read().total_bytes, counter.name) == (200 * MIB, "NVML device minus baseline")
    gpu.started = True
    assert (counter.read().total_bytes, counter.name) == (300 * MIB, "NVML process")


class Mps:
    """Apple's pool: it grows until its cache is emptied."""

    def __init__(self) -> None:
        self.pool = self.live = 0
        self.synchronized = 0

    def synchronize(self) -> None:
        self.synchronized += 1

    def driver_allocated_memory(self) -> int:
        return self.pool

    def current_allocated_memory(self) -> int:
        return self.live

    def recommended_max_memory(self) -> int:
        return 10**10

    def empty_cache(self) -> None:
        self.pool = self.live


def test_the_pool_of_apple_s_gpu_is_its_peak() -> None:
    """The driver's allocation, after the queue is empty; a reset gives cached blocks back first."""
    mps = Mps()
    counter = MpsMemory(mps)
    counter.reset_peak()
    mps.pool, mps.live = 900, 100
    assert counter.read() == Reading(total_bytes=900, allocated_bytes=100)
    assert counter.peak().total_bytes == 900
    assert mps.synchronized == 3
    counter.reset_peak()
    assert counter.peak().total_bytes == 100
    assert counter.capacity_bytes() == 10**10


def test_virtual_time_passes_only_when_told_to() -> None:
    """Known durations come back exactly."""
    clock = VirtualClock()
    assert (clock.now(), clock.now()) == (0.0, 0.0)
    clock.advance(0.25)
    clock.advance(1.5)
    assert clock.now() == 1.75


def test_a_device_clock_reads_after_the_device_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synchronize first, then the time: the other way round would miss what is still queued."""
    happened: list[str] = []

    def perf_counter() -> float:
        happened.append("time")
        return 7.0

    monkeypatch.setattr(time, "perf_counter", perf_counter)
    clock = DeviceClock(lambda: happened.append("synchronize"), "cuda synchronize")
    assert clock.now() == 7.0
    assert happened == ["synchronize", "time"]
    assert clock.name == "perf_counter after cuda synchronize"
    assert HostClock().now() == 7.0
