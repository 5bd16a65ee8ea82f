# SPDX-License-Identifier: Apache-2.0
"""Joules come from counters, per token; a window that proves nothing gives its reason. The monitor is substituted."""

import sys
from types import SimpleNamespace

import pytest
from builders import make_cell, make_record, speed_samples, suite_run

from bench.engines import fake
from bench.instruments import Instruments
from bench.instruments import energy as instrument
from bench.judge.figures import figures
from bench.judge.rows import newest
from bench.views.columns import VIEWS
from bench.views.table import people
from suites import energy


class Monitor:
    """Zeus over a device that takes 10 W idle and 50 W at work, on the fake's clock."""

    def __init__(self, gpu_indices, cpu_indices, cpus=1, soc=False):
        self.gpu_indices, self.cpus = gpu_indices, SimpleNamespace(cpus=[SimpleNamespace()] * cpus)
        self.cpu_indices = list(range(cpus)) if cpu_indices is None else cpu_indices
        self.soc_is_present, self.watts, self.cancelled = soc, 50.0, 0

    def begin_window(self, key, sync_execution):
        """Remember the time."""
        assert not sync_execution  # through torch, which not every engine has
        self.start = fake._CLOCK.now()

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
    gpus = SimpleNamespace(
        gpus=[SimpleNamespace(handle=0), SimpleNamespace(handle=1)],
        supports_get_total_energy_consumption=lambda index: options["architectures"][index] >= 6,
    )
    options = {"architectures": [6, 9], "monitor": {}}
    module = SimpleNamespace(ZeusMonitor=lambda **asked: Monitor(**asked, **options["monitor"]))
    monkeypatch.setitem(sys.modules, "zeus", SimpleNamespace(monitor=module))
    monkeypatch.setitem(sys.modules, "zeus.monitor", module)
    monkeypatch.setitem(sys.modules, "zeus.device", SimpleNamespace(get_gpus=lambda: gpus))
    uuids = SimpleNamespace(nvmlDeviceGetUUID=lambda handle: f"GPU-{'ab'[handle]}")
    monkeypatch.setitem(sys.modules, "pynvml", uuids)
    first(monkeypatch, "a")
    return options


def first(monkeypatch, uuid):
    """Torch calls that GPU the first."""
    cuda = SimpleNamespace(get_device_properties=lambda index: SimpleNamespace(uuid=uuid))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


def run_of(engine, tmp_path, monkeypatch, meter):
    """The throughput suite's surroundings with that meter, idling on the virtual clock."""
    monkeypatch.setattr(energy.energy, "open_meter", lambda device, clock: meter)

    def sleep(seconds):
        meter.monitor.watts = 10.0
        fake._CLOCK.advance(seconds)

    monkeypatch.setattr(instrument.time, "sleep", sleep)
    return suite_run("throughput", engine, tmp_path)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_known_joules_come_back_per_token(engine, tmp_path, monkeypatch, device):
    """At a steady power, joules a token are watts over tokens a second; idle watts stand apart."""
    meter = instrument.Meter(Monitor([0] if device == "cuda" else [], None if device == "cpu" else []), device)
    run = run_of(engine, tmp_path, monkeypatch, meter)
    found = energy.measure(run, list(range(128)))
    read = figures(make_record(make_cell("throughput"), measurements=(*speed_samples(), *found)))
    assert read["idle_w"].value == pytest.approx(10.0)
    assert read["prefill_j_per_token"].value == pytest.approx(10 / 2000)  # the substituted power stays at 10 W
    assert read["decode_j_per_token"].value == pytest.approx(10 / 40)
    assert {m.counter for m in found} == {"zeus NVML" if device == "cuda" else "zeus RAPL"}


def test_windows_begin_and_end_when_the_device_has_finished(engine, tmp_path, monkeypatch):
    """What is read before a window begins and ends is the clock, which waits for the device's queue."""
    meter, log = instrument.Meter(Monitor([0], []), "cuda"), []
    run = run_of(engine, tmp_path, monkeypatch, meter)

    def logged(owner, name, what):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: (log.append(what), plain(*a, **k))[1])

    logged(meter.monitor, "begin_window", "begin")
    logged(meter.monitor, "end_window", "end")
    logged(type(engine), "prefill", "work")
    logged(fake.FakeGeneration, "step", "work")
    clock = SimpleNamespace(name="x", now=lambda: (log.append("clock"), fake._CLOCK.now())[1])
    run.instruments = Instruments(clock, run.instruments.memory)
    energy.measure(run, list(range(128)))
    before = [log[i - 1] for i, what in enumerate(log) if what in {"begin", "end"}]
    assert [what for what in log if what in {"begin", "end"}] == ["begin", "end"] * 3
    assert before == ["clock", "begin", "end", "clock", "clock", "clock"]  # nothing is asked of it while it idles


@pytest.mark.parametrize("broken", ["begin_window", "end_window"])
def test_a_counter_that_cannot_be_read_costs_no_cell(engine, tmp_path, monkeypatch, broken):
    """A virtual GPU may name an architecture that counts and then refuse: a reason in place of the number."""
    meter = instrument.Meter(Monitor([0], []), "cuda")

    def refuse(*_, **__):
        raise RuntimeError("Not Supported")

    run = run_of(engine, tmp_path, monkeypatch, meter)
    monkeypatch.setattr(meter.monitor, broken, refuse)
    found = energy.measure(run, list(range(128)))
    assert [m.values for m in found] == [(), (), ()]
    assert {m.labels["reason"] for m in found} == {"no counter on this device: RuntimeError: Not Supported"}
    done = []
    meter.window(lambda: done.append("work"))
    assert bool(done) == (broken == "end_window")  # without a first reading no second is spent on work


def test_decoding_ends_where_the_context_does(engine, tmp_path, monkeypatch):
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
    zeus["monitor"]["cpus"] = 0
    assert instrument.open_meter("cpu", "perf_counter").startswith("no counter on this device (RAPL")
    assert instrument.open_meter("mps", "perf_counter") == "no counter on this device"


def test_the_gpu_that_was_measured_is_the_one_counted(monkeypatch, zeus):
    """NVML counts along the bus, CUDA the fastest first; one without an energy counter, or not listed, is none."""
    first(monkeypatch, "b")
    assert instrument.open_meter("cuda", "perf_counter").monitor.gpu_indices == [1]
    zeus["architectures"][1] = 5
    assert instrument.open_meter("cuda", "x") == "no counter on this device: GPUs before Volta count no energy"
    first(monkeypatch, "c")
    assert instrument.open_meter("cuda", "x") == "no counter on this device: NVML does not list it"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert instrument.open_meter("cuda", "x").monitor.gpu_indices == [0]


def test_a_driver_that_fails_is_a_reason(monkeypatch, zeus):
    """Whatever it raises."""

    def broken(**_):
        raise RuntimeError("no permission\nand more")

    sys.modules["zeus.monitor"].ZeusMonitor = broken
    assert instrument.open_meter("cuda", "x") == "no counter on this device: RuntimeError: no permission"
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)
    assert instrument.open_meter("cuda", "x") == "zeus is not installed: pip install -e '.[energy]'"
    monkeypatch.setitem(sys.modules, "zeus.device", SimpleNamespace())
    monkeypatch.delitem(sys.modules, "zeus.monitor")
    monkeypatch.setattr("builtins.__import__", lacking("httpx"))
    assert instrument.open_meter("cuda", "x") == "zeus lacks httpx: pip install -e '.[energy]'"


def lacking(name):
    """An import of zeus that fails for want of that package."""
    plain = __import__

    def load(wanted, *rest, **options):
        if wanted.startswith("zeus"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return plain(wanted, *rest, **options)

    return load


def test_the_column_says_that_there_is_no_counter(engine, tmp_path):
    """With the reason in a footnote."""
    found = energy.measure(suite_run("throughput", engine, tmp_path), [1, 2])
    assert [m.values for m in found] == [(), (), ()]
    record = make_record(make_cell("throughput"), measurements=(*speed_samples(), *found))
    table = people(newest([record]), VIEWS["energy"])
    assert table.rows[0][4] == table.rows[0][6] == table.rows[0][7] == "none [1]"
    assert table.notes == ["a virtual device uses none"]
