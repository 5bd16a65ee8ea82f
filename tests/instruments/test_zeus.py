# SPDX-License-Identifier: Apache-2.0
"""The meter over the real zeus package: counters are substituted where zeus reads them, in files and in NVML."""

import sys
from types import SimpleNamespace

import psutil
import pytest

pytest.importorskip("zeus.monitor", reason="needs pip install -e '.[energy]'")

import pynvml
import zeus.device.cpu as cpus
import zeus.device.gpu as gpus
from zeus.device.cpu import rapl
from zeus.device.gpu import nvidia

from bench.instruments import energy

ZONES = {
    "intel-rapl:0": "package-0", "intel-rapl:0/intel-rapl:0:0": "core", "intel-rapl:0/intel-rapl:0:1": "dram",
    "intel-rapl:1": "psys", "intel-rapl:2": "package-1",
}  # fmt: skip
RANGE = 1000_000_000


@pytest.fixture(autouse=True)
def passing(monkeypatch):
    """A second, or as long as the work says, passes in every window."""
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("zeus.monitor.energy.time", lambda: clock.seconds)
    return clock


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """A machine's RAPL zones, each at ten joules; what is returned adds joules to one."""
    for zone, name in ZONES.items():
        folder = tmp_path / zone
        folder.mkdir(parents=True)
        for file, value in (("name", name), ("energy_uj", 10_000_000), ("max_energy_range_uj", RANGE)):
            (folder / file).write_text(f"{value}\n")
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path))
    monkeypatch.setattr(cpus, "_cpus", None)
    rapl.rapl_is_available.cache_clear()

    def count(name, joules):
        file = tmp_path / next(zone for zone, named in ZONES.items() if named == name) / "energy_uj"
        file.write_text(f"{(int(file.read_text()) + round(joules * 1e6)) % RANGE}\n")

    yield count
    rapl.rapl_is_available.cache_clear()


def test_joules_of_a_cpu_are_its_packages_and_their_memory(counters, passing):
    """3 + 2 and 1 for memory: cores are part of a package, and psys is all of them again. No process polls."""
    meter = energy.open_meter("cpu", "perf_counter")
    before = len(psutil.Process().children(recursive=True))

    def work():
        passing.seconds += 2.0
        for name, joules in (("package-0", 3), ("core", 2.5), ("dram", 1), ("package-1", 2), ("psys", 9)):
            counters(name, joules)

    found = meter.window(work)
    assert (found.seconds, found.joules, found.reason) == (2.0, pytest.approx(6.0), "")
    assert len(psutil.Process().children(recursive=True)) == before


def test_a_wraparound_is_a_reason(counters, passing):
    """The counter starts again from nothing."""
    meter = energy.open_meter("cpu", "perf_counter")
    counters("package-0", 980)

    def work():
        passing.seconds += 2.0
        counters("package-0", 20)

    assert meter.window(work) == energy.Window(seconds=2.0, joules=None, reason="the counter ran backwards")


def test_zones_that_only_root_may_read_are_no_counter(counters, monkeypatch):
    """Since 2020 that is how kernels come."""

    def refuse(self, path):
        raise cpus.common.ZeusCPUNoPermissionError("only root")

    monkeypatch.setattr(rapl.RAPLFile, "__init__", refuse)
    assert energy.open_meter("cpu", "x") == "no counter on this device (RAPL is absent, or only root may read it)"


@pytest.fixture
def nvml(monkeypatch):
    """Two GPUs in NVML, of which torch calls the second the first; their counters in millijoules."""
    state = SimpleNamespace(energy=[5000, 7000], architecture=pynvml.NVML_DEVICE_ARCH_AMPERE)

    def not_supported(*_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {
        "nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index, "nvmlDeviceGetUUID": lambda handle: f"GPU-{'ab'[handle]}",
        "nvmlDeviceGetC2cModeInfoV": not_supported, "nvmlDeviceGetName": lambda handle: "GPU",
        "nvmlDeviceGetArchitecture": lambda handle: state.architecture,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: state.energy[handle] if state.energy else not_supported(),
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    cuda = SimpleNamespace(get_device_properties=lambda index: SimpleNamespace(uuid="b"))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "_gpus", None)
    nvidia.nvml_is_available.cache_clear()
    yield state
    nvidia.nvml_is_available.cache_clear()


def test_joules_of_a_gpu_are_those_of_the_one_that_works(nvml, passing):
    """The difference of its total-energy counter, in joules."""
    meter = energy.open_meter("cuda", "perf_counter")

    def work():
        passing.seconds += 1.0
        nvml.energy[:] = [99_000, 7250]

    assert meter.window(work) == energy.Window(seconds=1.0, joules=0.25)


def test_a_gpu_that_refuses_its_counter_gives_the_reason(nvml):
    """As virtual GPUs do, whose architecture promises one; and older ones have none: no power is sampled instead."""
    meter = energy.open_meter("cuda", "perf_counter")
    nvml.energy.clear()
    assert meter.window(lambda: None).reason == "no counter on this device: ZeusGPUNotSupportedError: Not Supported"
    gpus._gpus = None
    nvml.architecture = pynvml.NVML_DEVICE_ARCH_PASCAL
    assert energy.open_meter("cuda", "x") == "no counter on this device: GPUs before Volta count no energy"
