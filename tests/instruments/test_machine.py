# SPDX-License-Identifier: Apache-2.0
# The fakes have the names of the libraries they stand for, and those need no explaining.
# ruff: noqa: D102, N802
"""What ran it, with a substituted NVIDIA driver and a substituted /proc/cpuinfo."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bench.instruments import machine
from bench.run.memory_limit import capacity_bytes
from suites import suite_sha256


class NVMLError(Exception):
    """As the driver's."""


class FakeNvml:
    """The calls of pynvml that are used, answered without a driver."""

    NVMLError = NVMLError

    def __init__(self, names: tuple[str | bytes, ...] = ("NVIDIA H200",), broken: str = "") -> None:
        self.names, self.broken, self.free = names, broken, 140 * 10**9
        self.asked: list[int | str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name == object.__getattribute__(self, "broken"):
            raise NVMLError(name)
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str | bytes:
        self.asked.append(index)
        return self.names[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str | bytes:
        self.asked.append(uuid)
        return self.names[0]

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13020

    def nvmlDeviceGetName(self, handle: str | bytes) -> str | bytes:
        return handle

    def nvmlDeviceGetUUID(self, handle: str | bytes) -> str:
        return "GPU-1234"

    def nvmlDeviceGetMemoryInfo(self, handle: str | bytes) -> SimpleNamespace:
        return SimpleNamespace(total=141 * 10**9, free=self.free)

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"595.10"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No answer is remembered from or for other tests."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine.gpu.cache_clear()
    machine._cpu.cache_clear()
    yield
    machine.gpu.cache_clear()
    machine._cpu.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, driver: FakeNvml) -> FakeNvml:
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


def test_a_gpu_is_found_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, memory, driver and CUDA as the driver tells them; the slug is a folder name."""
    install(monkeypatch, FakeNvml())
    assert machine.gpu() == {
        "name": "NVIDIA H200", "uuid": "GPU-1234", "memory_bytes": 141 * 10**9, "driver": "595.10", "cuda": "13.2",
    }  # fmt: skip
    assert machine.device_kind() == "cuda"
    found = machine.describe("cuda")
    assert (found.device, found.kind, found.name) == ("cuda-nvidia-h200", "cuda", "NVIDIA H200")
    assert (found.gpu_memory_bytes, found.driver, found.cuda) == (141 * 10**9, "595.10", "13.2")
    assert found.cpu != found.name


def test_a_name_in_bytes_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older drivers' bindings give bytes."""
    install(monkeypatch, FakeNvml((b"Tesla T4",)))
    assert machine.describe("cuda").name == "Tesla T4"


@pytest.mark.parametrize(
    "driver",
    [FakeNvml(()), *(FakeNvml(broken=f"nvml{call}") for call in ("Init", "DeviceGetHandleByIndex"))],
    ids=["no GPU", "no driver", "no handle"],
)
def test_without_a_gpu_it_is_a_cpu(monkeypatch: pytest.MonkeyPatch, driver: FakeNvml) -> None:
    """No device, no driver or one that fails: measured on the CPU, without an error."""
    monkeypatch.setattr(machine.sys, "platform", "linux")
    install(monkeypatch, driver)
    assert machine.gpu() is None
    assert machine.device_kind() == "cpu"


LACKING: dict[str, dict[str, str | int | None]] = {
    "DeviceGetCount": {},
    "DeviceGetName": {"name": "NVIDIA GPU"},
    "DeviceGetUUID": {"uuid": None},
    "DeviceGetMemoryInfo": {"memory_bytes": None},
    "SystemGetDriverVersion": {"driver": None},
    "SystemGetCudaDriverVersion": {"cuda": None},
}


@pytest.mark.parametrize(("call", "lacking"), LACKING.items(), ids=LACKING)
def test_a_question_that_the_driver_refuses_costs_its_own_answer_alone(
    monkeypatch: pytest.MonkeyPatch, call: str, lacking: dict[str, str | int | None]
) -> None:
    """A GPU is one whatever its driver keeps to itself: the CPU is never measured in its place, unasked."""
    install(monkeypatch, FakeNvml(broken=f"nvml{call}"))
    whole = {"name": "NVIDIA H200", "uuid": "GPU-1234", "memory_bytes": 141 * 10**9, "driver": "595.10", "cuda": "13.2"}
    assert machine.gpu() == whole | lacking
    assert machine.device_kind() == "cuda" and machine.available("cuda")
    assert machine.describe("cuda").kind == "cuda"
    machine.condition("cuda")


def test_a_gpu_that_tells_no_memory_shares_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards with one memory for both: what is free is the host's, the limit's ceiling and the page say the same."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=128 * 2**30, available=90 * 2**30))
    monkeypatch.setattr(machine.container, "left_bytes", lambda: None)
    monkeypatch.setattr(machine.container, "limit_bytes", lambda: None)
    install(monkeypatch, FakeNvml(("NVIDIA GB10",), broken="nvmlDeviceGetMemoryInfo"))
    found = machine.describe("cuda")
    assert (found.device, found.gpu_memory_bytes, found.memory_bytes) == ("cuda-nvidia-gb10", None, 128 * 2**30)
    assert machine.free_bytes("cuda") == 90 * 2**30
    assert capacity_bytes(found) == 128 * 2**30


def test_a_card_without_a_uuid_is_found_again_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock has the device's name then, and a worker keeps what CUDA_VISIBLE_DEVICES says."""
    driver = install(monkeypatch, FakeNvml(broken="nvmlDeviceGetUUID"))
    assert machine.free_bytes("cuda") == 140 * 10**9
    assert driver.asked == [0, 0]
    assert machine.computing_on("cuda") == {}
    assert machine.lock_name(machine.describe("cuda")) == "cuda-nvidia-h200"


@pytest.mark.parametrize(
    ("visible", "asked"), [("1", [1]), ("1,0", [1]), ("GPU-abc", ["GPU-abc"]), ("", None), ("-1", None)]
)
def test_the_first_visible_gpu_counts(monkeypatch: pytest.MonkeyPatch, visible: str, asked: list[Any] | None) -> None:
    """CUDA_VISIBLE_DEVICES by index, by UUID, or hiding every GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    driver = install(monkeypatch, FakeNvml(("A", "B")))
    found = machine.gpu()
    assert (found is None) == (asked is None)
    assert driver.asked == (asked or [])


class Cards(FakeNvml):
    """Two cards known by their UUIDs, the second cut into instances of which the first place is empty."""

    def __init__(self, cut: bool = False) -> None:
        super().__init__(("GPU-aaaa", "GPU-bbbb"))
        self.cut = cut

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in {*self.names, "MIG-1"}:
            raise NVMLError
        return uuid

    def nvmlDeviceGetUUID(self, handle: str | bytes) -> str:
        return str(handle)

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        return [int(self.cut and handle == "GPU-bbbb"), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        if index == 0:
            raise NVMLError
        return f"MIG-{index}"


@pytest.mark.parametrize(
    ("visible", "cut", "uuid"),
    [
        ("1", False, "GPU-bbbb"), ("GPU-b", False, "GPU-bbbb"), ("GPU-aaaa,GPU-bbbb", False, "GPU-aaaa"),
        ("1", True, "MIG-1"), ("0", True, "GPU-aaaa"), ("MIG-1", True, "MIG-1"),
    ],
)  # fmt: skip
def test_a_worker_sees_the_very_gpu_that_was_described(
    monkeypatch: pytest.MonkeyPatch, visible: str, cut: bool, uuid: str
) -> None:
    """By UUID: CUDA's numbers need not be the driver's, and an engine must not spread over a second card."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    install(monkeypatch, Cards(cut))
    assert machine.computing_on("cuda") == {"CUDA_VISIBLE_DEVICES": uuid}
    assert machine.lock_name(machine.describe("cuda")).endswith(uuid.lower())
    assert machine.computing_on("cpu") == {"CUDA_VISIBLE_DEVICES": ""}
    assert machine.computing_on("mps") == {}


def test_a_card_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA sees it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-cccc")
    install(monkeypatch, Cards())
    assert machine.gpu() is None
    assert machine.computing_on("cuda") == {}


def test_what_another_tenant_holds_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked anew each time, unlike what the card has."""
    driver = install(monkeypatch, FakeNvml())
    assert machine.free_bytes("cuda") == 140 * 10**9
    driver.free = 7
    assert machine.free_bytes("cuda") == 7
    assert machine.describe("cuda").gpu_memory_bytes == 141 * 10**9


def test_apple_silicon_is_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no NVIDIA driver."""
    install(monkeypatch, FakeNvml(broken="nvmlInit"))
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    assert machine.device_kind() == "mps"


def cpuinfo(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, *a, **k: text if str(self) == "/proc/cpuinfo" else real(self, *a, **k)
    )


@pytest.mark.parametrize(
    ("name", "flags", "clean", "device"),
    [
        (
            "Intel(R) Xeon(R) Processor @ 2.10GHz",
            "avx2 avx512f avx512_bf16 amx_bf16",
            "Intel Xeon",
            "intel-xeon-2c-amx",
        ),
        ("AMD EPYC 7B13 64-Core Processor", "fpu avx avx2 fma", "AMD EPYC 7B13", "amd-epyc-7b13-2c-avx2"),
        (
            "Intel(R) Core(TM) i7-1165G7 CPU @ 2.80GHz",
            "avx2 avx512f",
            "Intel Core i7-1165G7",
            "intel-core-i7-1165g7-2c-avx512",
        ),
    ],
)
def test_a_cpu_is_described_by_name_cores_and_instructions(
    monkeypatch: pytest.MonkeyPatch, name: str, flags: str, clean: str, device: str
) -> None:
    """Marketing marks and clock rates go; what kernels are chosen by stays, sorted."""
    cpuinfo(monkeypatch, f"processor : 0\nmodel name\t: {name}\nflags\t\t: {flags} sse9\n\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    found = machine.describe("cpu")
    assert (found.name, found.cpu, found.device) == (clean, clean, f"cpu-{device}")
    assert found.cpu_flags == tuple(sorted(set(flags.split()) & machine.FLAGS))
    assert (found.kind, found.logical_cpus) == ("cpu", 2)
    assert found.gpu_memory_bytes is found.driver is found.cuda is None


def test_the_slug_of_this_machine_is_a_folder() -> None:
    """Lower case letters, digits and single hyphens."""
    device = machine.describe("cpu").device
    assert device.startswith("cpu-")
    assert all(part.isalnum() and part == part.lower() for part in device.split("-"))


@pytest.mark.parametrize(("limit", "share"), [(None, 1.0), (0.5, 0.5), (2.0, 1.0)])
def test_memory_is_the_smaller_of_machine_and_container(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, share: float
) -> None:
    """A container's limit counts where it is smaller."""
    total = psutil.virtual_memory().total
    monkeypatch.setattr(machine.container, "limit_bytes", lambda: limit and int(total * limit))
    assert machine.describe("cpu").memory_bytes == int(total * share)


def test_the_condition_is_read_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load, available memory and clock rate."""
    monkeypatch.setattr(os, "getloadavg", lambda: (1.234, 0.0, 0.0))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=12345))
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2099.9), raising=False)
    found = machine.condition()
    assert (found.load_1min, found.available_bytes, found.cpu_mhz) == (1.23, 12345, 2100)


def test_what_a_platform_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No load average and no clock rate are no error."""

    def refuse() -> None:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", refuse)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None, raising=False)
    found = machine.condition()
    assert found.load_1min is found.cpu_mhz is None


def test_versions_name_what_can_change_a_figure() -> None:
    """This project, its revision, the suite's file and the installed packages; others are left out."""
    found = machine.versions(suite_sha256("memory"), ["numpy", "no-such-package"])
    assert found.suite_sha256 == suite_sha256("memory") != suite_sha256("quality")
    assert set(found.packages) == {"numpy", *machine.PACKAGES}
    assert found.bench == machine.installed(["bench"])["bench"]
    assert found.git is None or len(found.git.removesuffix("+")) == 12
