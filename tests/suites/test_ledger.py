# SPDX-License-Identifier: Apache-2.0
"""The memory ledger adds up; a known leak, a known spike and known kinds of memory come back with their true size."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from builders import make_cell, make_record, memory_samples, sample, suite_run

from bench.engines import fake
from bench.instruments import Instruments, Reading, sampler
from bench.instruments.memory import ProcessMemory
from bench.judge.figures import figures
from bench.judge.rows import newest
from bench.paths import ROOT
from bench.views.columns import VIEWS
from bench.views.table import people
from suites import memory

MIB = 1 << 20
TERMS = ("weights_bytes", "kv_bytes", "workspace_bytes", "runtime_bytes", "unexplained_bytes")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def ledger(engine, tmp_path, monkeypatch=None):
    """Figures of the memory suite on the fake, its weights loaded on a clean counter."""
    run = suite_run("memory", engine, tmp_path, fake.instruments("cpu"))
    now = fake._MEMORY.read()
    before = Reading(total_bytes=now.total_bytes - 18_000_000)
    run.loading = type(run.loading)(seconds=1.0, baseline=before, peak=now, ready=now, loaded=now)
    return figures(make_record(make_cell("memory"), measurements=tuple(memory.measure(run)))), run


def test_a_clean_engine_leaves_nothing(engine, tmp_path):
    """Weights, cache and workspace are the whole peak."""
    found, _ = ledger(engine, tmp_path)
    assert {name: found[name].value for name in TERMS} == {
        "weights_bytes": 18_000_000, "kv_bytes": 135_000, "workspace_bytes": 3_000_000, "runtime_bytes": 0,
        "unexplained_bytes": 0,
    }  # fmt: skip
    assert sum(found[name].value for name in TERMS) == found["peak_bytes"].value


def test_a_known_leak_comes_back_as_runtime(engine, tmp_path, monkeypatch):
    """Five megabytes that closing does not give back are five megabytes that the work left behind."""
    plain = fake.FakeGeneration.close

    def close(self):
        plain(self)
        fake._MEMORY.use(5_000_000)

    monkeypatch.setattr(fake.FakeGeneration, "close", close)
    found, _ = ledger(engine, tmp_path)
    fake._MEMORY.use(-5_000_000)
    assert found["runtime_bytes"].value == 5_000_000


def test_a_known_spike_comes_back_in_the_peak(engine, tmp_path, monkeypatch):
    """Seven megabytes for 50 ms in the middle of a step are seven megabytes more workspace and peak."""
    clean, _ = ledger(engine, tmp_path)
    plain = fake.FakeGeneration.step

    def step(self):
        fake._MEMORY.use(7_000_000)
        fake._CLOCK.advance(0.050)
        fake._MEMORY.use(-7_000_000)
        return plain(self)

    monkeypatch.setattr(fake.FakeGeneration, "step", step)
    found, _ = ledger(engine, tmp_path)
    # the largest step is the last: 134 positions then, 135 in the end, and one more is taken after the spike
    assert found["peak_bytes"].value - clean["peak_bytes"].value == 7_000_000 - 1_000
    assert found["workspace_bytes"].value - clean["workspace_bytes"].value == 7_000_000 - 1_000
    assert found["runtime_bytes"].value == 0


def test_counters_that_contradict_each_other_are_a_caveat(engine, tmp_path, monkeypatch):
    """A sampler that saw more than the high-water mark proves that one of them is wrong."""
    import contextlib

    seen = sampler.Sampled(highest=Reading(total_bytes=10**11, anonymous_bytes=10**10, file_bytes=9 * 10**10))
    monkeypatch.setattr(memory, "sampling", lambda counter: contextlib.nullcontext(seen))
    found, run = ledger(engine, tmp_path)
    assert [caveat.kind for caveat in run.caveats] == ["peak_disputed"]
    assert (found["peak_anonymous_bytes"].value, found["peak_file_bytes"].value) == (10**10, 9 * 10**10)


def test_each_figure_names_its_own_counter(engine, tmp_path):
    """What is read now, the peak and the allocator's shares of it come from different ones."""

    class Told(fake.ArithmeticMemory):
        name = "driver"

        def read(self):
            return Reading(total_bytes=5, allocated_bytes=3, counter="now")

        def peak(self):
            return Reading(total_bytes=9, anonymous_bytes=4)

    run = suite_run("memory", engine, tmp_path, Instruments(fake._CLOCK, Told()))
    counters = {m.name: m.counter for m in memory.measure(run)}
    names = ("settled_bytes", "settled_allocated_bytes", "peak_bytes", "peak_anonymous_bytes")
    assert [counters[name] for name in names] == ["now", "torch's allocator", "driver", "driver"]
    assert all(counter for name, counter in counters.items() if name.endswith("_bytes"))


def test_a_driver_that_cannot_tell_processes_apart_is_a_caveat(engine, tmp_path):
    """Another tenant's memory would be in the figure: its reader must know."""
    told = fake.ArithmeticMemory()
    told.name = "NVML device minus baseline"
    run = suite_run("memory", engine, tmp_path, Instruments(fake._CLOCK, told))
    memory.measure(run)
    assert [caveat.kind for caveat in run.caveats] == ["not_per_process"]
    assert run.caveats[0].advice


def test_nothing_is_sampled_where_the_counter_is_no_process_s():
    """The fake's memory and a GPU's are not in /proc."""
    with sampler.sampling(fake.ArithmeticMemory()) as found:
        pass
    assert found.highest is None


SPIKE = """
import json, mmap, time
from bench.instruments.memory import ProcessMemory
from bench.instruments.sampler import sampling
counter = ProcessMemory()
with sampling(counter) as warm:
    pass
before = counter.read()
with sampling(counter) as found:
    counter.reset_peak()
    pids = counter._pids()
    block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, 64 << 20, mmap.PAGESIZE):
        block[start] = 1
    time.sleep(0.05)
    block.close()
    peak = counter.peak()
highest = found.highest
print(json.dumps([before.total_bytes, before.anonymous_bytes, peak.total_bytes, highest.total_bytes,
                  highest.anonymous_bytes, found.samples, len(pids), counter.name]))
"""


@linux
@pytest.mark.alone
def test_a_real_spike_of_50_ms_is_seen_by_both_counters():
    """64 MiB for 50 ms in a process of its own: the mark, the sampler and its anonymous share all say so."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SPIKE], capture_output=True, text=True, check=True, env=env)
    total, anonymous, peak, sampled, private, samples, pids, name = json.loads(done.stdout)
    assert sampled - total == pytest.approx(64 * MIB, rel=0.05)
    assert private - anonymous == pytest.approx(64 * MIB, rel=0.05)
    if name == "VmHWM":
        assert peak - total == pytest.approx(64 * MIB, rel=0.05)
    assert samples >= 5
    assert pids == 1  # the sampler itself is no part of what is measured


@linux
def test_the_sampler_s_child_counts_the_whole_tree(monkeypatch, capsys):
    """This process and what it started, itself left out, until a line arrives."""
    from bench.instruments import sampler_child

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= set(sampler_child.tree(os.getpid(), -1))
        assert child.pid not in sampler_child.tree(os.getpid(), child.pid)
        child.kill()
    total, private = sampler_child.resident(os.getpid())
    assert total > private > MIB
    assert sampler_child.resident(2**30) == (0, 0)
    monkeypatch.setattr(sys, "argv", ["child", str(os.getpid()), "0"])
    monkeypatch.setattr(sampler_child.select, "select", lambda *_: ([sys.stdin], [], []))
    sampler_child.main()
    begun, answer = capsys.readouterr().out.splitlines()
    assert (begun, answer.split()[2]) == ("begun", "1")
    assert int(answer.split()[0]) == pytest.approx(ProcessMemory().read().total_bytes, rel=0.2)


def test_the_table_adds_up_for_its_reader():
    """The terms stand before the peak they make, the metadata apart, and old records have no runtime."""
    parts = (sample("weights_part_bytes", 60, storage="nf4 metadata"), sample("settled_bytes", 1530 + 8))
    found = figures(make_record(make_cell(), measurements=memory_samples() + parts))
    assert sum(found[name].value for name in TERMS) == found["peak_bytes"].value
    assert (found["runtime_bytes"].value, found["metadata_bytes"].value) == (8, 60)
    old = figures(make_record(make_cell(), measurements=memory_samples()))
    assert "runtime_bytes" not in old
    assert old["workspace_bytes"].value == 70
    table = people(newest([make_record(make_cell(), measurements=memory_samples() + parts)]), VIEWS["memory"])
    assert table.titles[3:9] == ["weights", "KV", "workspace", "runtime", "unexplained", "peak memory"]
    assert [cell.split()[0] for cell in table.rows[0][3:10]] == ["500", "40", "62", "8", "30", "640", "60"]


def test_two_gpus_each_have_their_own_figures():
    """The counter of the second card asks torch and the driver for the second card alone."""
    from bench.instruments.memory import CudaMemory

    class Two:
        NVMLError = RuntimeError

        def __getattr__(self, name):
            if name.startswith(("memory_", "max_memory_")):
                return lambda index: (index + 1) * (100 if "allocated" in name else 200) * MIB
            if name == "get_device_properties":
                return lambda index: SimpleNamespace(uuid=f"card-{index}")
            if name == "nvmlDeviceGetHandleByUUID":
                return lambda uuid: uuid
            if name == "nvmlDeviceGetComputeRunningProcesses":
                return lambda handle: [
                    SimpleNamespace(pid=os.getpid(), usedGpuMemory=(500 if "0" in handle else 700) * MIB),
                    SimpleNamespace(pid=1, usedGpuMemory=9_000 * MIB),
                ]
            if name == "nvmlDeviceGetMemoryInfo":
                return lambda handle: SimpleNamespace(used=9_500 * MIB, free=(10 if "0" in handle else 20) * MIB)
            return lambda *_: None

    two = Two()
    first, second = CudaMemory(two, two, 0), CudaMemory(two, two, 1)
    assert first.read() == Reading(total_bytes=500 * MIB, allocated_bytes=100 * MIB, reserved_bytes=200 * MIB)
    assert second.read() == Reading(total_bytes=700 * MIB, allocated_bytes=200 * MIB, reserved_bytes=400 * MIB)
    assert (first.capacity_bytes(), second.capacity_bytes()) == (510 * MIB, 720 * MIB)
