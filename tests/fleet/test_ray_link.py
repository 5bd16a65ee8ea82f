# SPDX-License-Identifier: Apache-2.0
"""A real Ray cluster of several nodes on this machine: nodes and the head killed, and nothing but loopback is open."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from builders import called

from bench.fleet import link
from bench.fleet.link import RayLink, Said
from bench.fleet.wire import Box, Look, Needs, Value
from bench.paths import ROOT
from bench.records.record import Record
from bench.records.store import Store

if importlib.util.find_spec("ray") is None:  # not imported yet: it reads its switches then
    pytest.skip("no Ray here", allow_module_level=True)
from benchmarks.loopback_cluster import Cluster, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel who listens")
PATIENCE_S = 90.0
"""Longest wait for a cluster; reached only when something is wrong."""
QUICK = ("--backend", "fake", "--profile", "smoke", "--suite", "memory,throughput,divergence", "--device", "cpu")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What boxes find around them: a cache of their own, and fakes that take half a second to load."""
    return {"BENCH_CACHE": str(tmp_path_factory.mktemp("boxes")), "BENCH_FAKE_FAULT": "hang0.5@load"}


@pytest.fixture(scope="module")
def cluster(slow: dict[str, str]) -> Iterator[Cluster]:
    """Two nodes with a CPU each, beside a head that measures nothing."""
    made = Cluster(2, surroundings=slow)
    yield made
    made.close()


class Call:
    """`bench run --ray` as a process of its own."""

    def __init__(self, address: str, results: Path | str, *options: str) -> None:
        command = [sys.executable, "-m", "bench", "run", *QUICK, "--ray", address, "--results", str(results), *options]
        self.results = Path(results)
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.append(text.rstrip("\n"))

    def until(self, records: int) -> None:
        """Wait until so many records are home."""
        end = time.monotonic() + PATIENCE_S
        while len(self.stored()) < records:
            assert time.monotonic() < end and self.process.poll() is None, self.lines
            self.process.poll()
            threading.Event().wait(0.05)

    def done(self) -> int:
        """The exit code."""
        code = self.process.wait(PATIENCE_S)
        self.reader.join()
        return code

    def stored(self) -> list[Path]:
        """The records' files."""
        return list(self.results.glob("*/*/*/*/*.json"))


def measured(results: Path) -> list[Record]:
    """All records; every file must read, no cell may have two, and nothing half-written may lie about."""
    store = Store(results)
    found = list(store.records())
    assert store.unreadable == [] and list(results.rglob("*.part*")) == []
    assert set(Counter(record.cell.key for record in found).values()) <= {1}
    return found


def ours(slow: dict[str, str]) -> list[psutil.Process]:
    """Processes that measure for a box of these tests; others may measure on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            measures = {"bench.fleet.box", "bench.run.worker"} & set(process.info["cmdline"] or ())
            if measures and process.environ().get("BENCH_CACHE") == slow["BENCH_CACHE"]:
                found.append(process)
    return found


def none_left(slow: dict[str, str]) -> None:
    """They end with what they were started for, a moment later where the kernel has to see to it."""
    end = time.monotonic() + PATIENCE_S
    while ours(slow) and time.monotonic() < end:
        threading.Event().wait(0.1)
    assert ours(slow) == []


def test_records_come_home_and_nothing_but_loopback_listens(
    cluster: Cluster, slow: dict[str, str], tmp_path: Path
) -> None:
    """Measured at niceness 0 with the engine's own threads, on this machine's device, in one run."""
    call = Call(cluster.address, tmp_path)
    call.until(1)
    assert cluster.listening() <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert call.done() == 0, call.lines
    found = measured(tmp_path)
    assert len(found) == 12 and {record.after.niceness for record in found} == {0}
    assert len({record.run for record in found}) == 1
    assert len(list(tmp_path.glob("*/runs/*.json"))) >= 1
    assert [text for text in call.lines if text.startswith("box 127.0.0.1 (")]
    none_left(slow)


def test_a_node_killed_in_the_middle_costs_no_cell(cluster: Cluster, slow: dict[str, str], tmp_path: Path) -> None:
    """Its cells are measured by the other, its processes end with it, and a new node takes its place."""
    victim = cluster.add()
    call = Call(cluster.address, tmp_path)
    call.until(2)
    cluster.kill(victim)
    assert call.done() == 0, call.lines
    assert len(measured(tmp_path)) == 12
    none_left(slow)


@pytest.mark.parametrize(("sign", "ends"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)])
def test_a_call_killed_in_the_middle_goes_on_where_it_stopped(
    cluster: Cluster, slow: dict[str, str], tmp_path: Path, sign: signal.Signals, ends: int
) -> None:
    """What its boxes were measuring ends with it; the same command measures the rest, in the same run."""
    call = Call(cluster.address, tmp_path)
    call.until(3)
    call.process.send_signal(sign)
    assert call.done() == ends
    none_left(slow)
    before = len(call.stored())
    again = Call(cluster.address, tmp_path)
    assert again.done() == 0, again.lines
    found = measured(tmp_path)
    assert 3 <= before < len(found) == 12 and len({record.run for record in found}) == 1


def test_a_head_that_is_started_again_is_waited_for(slow: dict[str, str], tmp_path: Path) -> None:
    """All of the cluster is gone and comes back under the same address; what was home is not measured again."""
    first = Cluster(2, surroundings=slow)
    port = int(first.address.rpartition(":")[2])
    call = Call(first.address, tmp_path)
    try:
        call.until(2)
        for node in (*first.nodes, first.cluster.head_node):
            for process in processes(node):
                process.send_signal(signal.SIGKILL)
        first.close()
        second = Cluster(2, port=port, surroundings=slow)
        try:
            assert call.done() == 0, call.lines
        finally:
            second.close()
    finally:
        call.process.kill()
    assert len(measured(tmp_path)) == 12
    assert any("the cluster does not answer" in text for text in call.lines)
    assert any("the cluster answers again" in text for text in call.lines)


def test_a_box_of_another_kind_is_another_device(cluster: Cluster, tmp_path: Path) -> None:
    """A node that may use one CPU beside nodes that may use all: rows of their own."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    other = cluster.add(only=[min(os.sched_getaffinity(0))])
    try:
        call = Call(cluster.address, tmp_path)
        assert call.done() == 0, call.lines
    finally:
        cluster.kill(other)
    count = Counter(record.cell.device for record in measured(tmp_path))
    assert sorted(count.values()) == [12, 12]
    assert {device.split("-")[-2] for device in count} == {"1c", f"{len(os.sched_getaffinity(0))}c"}


class Asking:
    """One question after another through Ray."""

    def __init__(self, address: str, program: str) -> None:
        self.link = RayLink(address, program=program)
        self.box: Box | None = None

    def answer(self, question: Value) -> list[dict[str, Any]]:
        """The lines of a box."""
        end, lines, name = time.monotonic() + PATIENCE_S, list[dict[str, Any]](), "one"
        while time.monotonic() < end:
            event = self.link.hear(1.0)
            if isinstance(event, link.Boxes) and self.box is None:
                self.box = next(box for box in event.boxes if box.cpus)
                self.link.ask(name, self.box, question, Needs(cpus=1.0))
            elif isinstance(event, Said):
                lines.append(json.loads(event.line))
            elif isinstance(event, link.Over | link.Lost):
                return lines
        raise AssertionError(lines)


@pytest.mark.parametrize(
    ("program", "said"), [("bench.nowhere", ["No module named bench.nowhere"]), ("bench.fleet.wire", [])]
)
def test_whatever_a_box_s_process_does_it_runs_once(cluster: Cluster, program: str, said: list[str]) -> None:
    """A harness that is not there is told; one that ends without a word is over, and not run again."""
    asking = Asking(cluster.address, program)
    try:
        lines = asking.answer(Look(backends=("fake",)))
    finally:
        asking.link.close()
    assert [line["ended"][1].strip().rpartition(": ")[2] for line in lines] == said


def test_an_address_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In a limited time, with what to do; nothing is written."""
    code, out, err = called(capsys, "run", *QUICK, "--ray", "127.0.0.1:1", "--results", tmp_path / "results")
    said = " ".join(err.split())
    assert (code, out) == (2, "") and said.startswith("bench: no Ray cluster answers at 127.0.0.1:1: ")
    assert said.endswith(link.START) and len(said) < 500
    assert list((tmp_path / "results").rglob("*.json")) == []


def test_records_of_boxes_go_on_to_an_object_store(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What boxes measured is shown from there, by somebody with another cache."""
    s3fs, moto = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    try:
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("boxes")
        call = Call(cluster.address, "s3://boxes/results")
        assert call.done() == 0, call.lines
        assert "records: s3://boxes/results" in call.lines
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "another"))
        code, out, _ = called(capsys, "show", "--results", "s3://boxes/results")
        assert code == 0 and out.count("fake-") >= 4
    finally:
        server.stop()
