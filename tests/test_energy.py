# SPDX-License-Identifier: Apache-2.0
"""Joules come from counters, per token; a window that proves nothing gives its reason. The monitor is substituted."""

import sys
from types import SimpleNamespace

import pytest
from builders import make_cell, make_record, speed_samples
from test_suites import engine, suite_run  # noqa: F401 - a fixture

from bench.backends import fake
from bench.figures import figures
from bench.instruments import energy as instrument
from bench.table import VIEWS, newest, people
from suites import energy


class Monitor:
    """Zeus over a device that takes 10 W idle and 50 W at work, on the fake's clock."""

    def __init__(self, gpu_indices, cpu_indices, cpus=1, soc=False):
        self.gpu_indices = gpu_indices
        self.cpu_indices = list(range(cpus)) if cpu_indices is None else cpu_indices
        self.soc_is_present, self.watts, self.cancelled = soc, 50.0, 0

    def begin_window(self, key, sync_execution):
        """Remember the time."""
        self.start, self.synced = fake._CLOCK.now(), sync_execution

    def end_window(self, key, sync_execution, cancel=False):
        """Energy since then, in the device's own field."""
        self.cancelled += cancel
        seconds = fake._CLOCK.now() - self.start
        joules = seconds * self.watts
        return SimpleNamespace(
            time=seconds, gpu_energy=dict.fromkeys(self.gpu_indices, joules), soc_energy=None,
            cpu_energy=dict.fromkeys(self.cpu_indices, joules * 0.75) or None,
            dram_energy=dict.fromkeys(self.cpu_indices, joules * 0.25) or None,
        )  # fmt: skip


@pytest.fixture
def zeus(monkeypatch):
    """The package, with what `set` says of its monitor."""
    options = {}
    module = SimpleNamespace(ZeusMonitor=lambda **asked: Monitor(**asked, **options))
    monkeypatch.setitem(sys.modules, "zeus", SimpleNamespace(monitor=module))
    monkeypatch.setitem(sys.modules, "zeus.monitor", module)
    return options


def run_of(engine, tmp_path, monkeypatch, meter):  # noqa: F811
    """The throughput suite's surroundings with that meter, idling on the virtual clock."""
    monkeypatch.setattr(energy.energy, "open_meter", lambda device, clock: meter)

    def sleep(seconds):
        meter.monitor.watts = 10.0
        fake._CLOCK.advance(seconds)

    monkeypatch.setattr(instrument.time, "sleep", sleep)
    return suite_run("throughput", engine, tmp_path)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_known_joules_come_back_per_token(engine, tmp_path, monkeypatch, device):  # noqa: F811
    """At a steady power, joules a token are watts over tokens a second; idle watts stand apart."""
    meter = instrument.Meter(Monitor([0] if device == "cuda" else [], None if device == "cpu" else []), device)
    run = run_of(engine, tmp_path, monkeypatch, meter)
    found = energy.measure(run, list(range(128)))
    read = figures(make_record(make_cell("throughput"), measurements=(*speed_samples(), *found)))
    assert read["idle_w"].value == pytest.approx(10.0)
    assert read["prefill_j_per_token"].value == pytest.approx(10 / 2000)  # the substituted power stays at 10 W
    assert read["decode_j_per_token"].value == pytest.approx(10 / 40)
    assert {m.counter for m in found} == {"zeus NVML" if device == "cuda" else "zeus RAPL"}
    assert meter.monitor.synced == (device == "cuda")


def test_decoding_ends_where_the_context_does(engine, tmp_path, monkeypatch):  # noqa: F811
    """And the short window has a reason, no number."""
    monkeypatch.setattr(type(engine), "context_length", 137)
    meter = instrument.Meter(Monitor([0], []), "cuda")
    found = energy.measure(run_of(engine, tmp_path, monkeypatch, meter), list(range(128)))
    decode = next(m for m in found if m.name == "decode_j")
    assert (decode.values, decode.labels["tokens"]) == ((), 8)
    assert decode.labels["reason"] == "the window of 0.20 s is shorter than counters can tell"


@pytest.mark.parametrize(
    ("seconds", "joules", "reason"),
    [
        (1.0, 5.0, ""),
        (0.4, 5.0, "the window of 0.40 s is shorter than counters can tell"),
        (1.0, 0.0, "the counter did not move"),
        (1.0, -3.0, "the counter ran backwards"),
        (1.0, None, "no counter on this device"),
    ],
)
def test_an_invalid_window_gives_its_reason_and_no_number(seconds, joules, reason):
    """A figure or a reason, never both."""
    found = instrument.judged(seconds, joules)
    assert (found.reason, found.joules) == (reason, None if reason else joules)


def test_work_that_breaks_cancels_its_window():
    """The error goes on, and the next window can begin."""
    monitor = Monitor([0], [])
    with pytest.raises(ZeroDivisionError):
        instrument.Meter(monitor, "cuda").window(lambda: 1 / 0)
    assert monitor.cancelled == 1


def test_the_device_s_own_counters_are_opened(zeus):
    """The first visible GPU alone on CUDA, the packages alone on a CPU."""
    cuda, cpu = instrument.open_meter("cuda", "perf_counter"), instrument.open_meter("cpu", "perf_counter")
    assert (cuda.monitor.gpu_indices, cuda.monitor.cpu_indices) == ([0], [])
    assert (cpu.monitor.gpu_indices, cpu.monitor.cpu_indices) == ([], [0])
    zeus["cpus"] = 0
    assert instrument.open_meter("cpu", "perf_counter").startswith("no counter on this device (RAPL")
    assert instrument.open_meter("mps", "perf_counter") == "no counter on this device"


def test_a_driver_that_fails_is_a_reason(monkeypatch, zeus):
    """Whatever it raises."""

    def broken(**_):
        raise RuntimeError("no permission\nand more")

    sys.modules["zeus.monitor"].ZeusMonitor = broken
    assert instrument.open_meter("cuda", "x") == "no counter on this device: RuntimeError: no permission"
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)
    assert instrument.open_meter("cuda", "x") == "zeus is not installed: pip install -e '.[energy]'"


def test_the_column_says_that_there_is_no_counter(engine, tmp_path):  # noqa: F811
    """With the reason in a footnote."""
    found = energy.measure(suite_run("throughput", engine, tmp_path), [1, 2])
    assert [m.values for m in found] == [(), (), ()]
    record = make_record(make_cell("throughput"), measurements=(*speed_samples(), *found))
    table = people(newest([record]), VIEWS["energy"])
    assert table.rows[0][4] == table.rows[0][6] == table.rows[0][7] == "none [1]"
    assert table.notes == ["a virtual device uses none"]
