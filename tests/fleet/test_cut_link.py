# SPDX-License-Identifier: Apache-2.0
"""Hosts in network namespaces of their own, and a link between two of them that is cut while `bench.fleet` measures."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.paths import ROOT
from bench.records.store import Store

if importlib.util.find_spec("ray") is None:
    pytest.skip("no Ray here", allow_module_level=True)
RAY = Path(sys.executable).parent / "ray"
IP = shutil.which("ip") or ""
NET = f"bench{os.getpid() % 10000}"
QUICK_TO_NOTICE = {
    "RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_timeout_ms": "1000", "RAY_health_check_initial_delay_ms": "1000", "RAY_worker_niceness": "0",
}  # fmt: skip
PATIENCE_S = 180.0


def ip(*arguments: str) -> bool:
    """Run `ip`; whether that was allowed."""
    return bool(IP) and subprocess.run([IP, *arguments], check=False, capture_output=True).returncode == 0


class Host:
    """A network namespace with an address on the wire to host 0."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name, self.address, self.folder = f"{NET}-{number}", f"10.213.7.{number + 1}", folder

    def command(self, *arguments: object) -> list[str]:
        """A command as this host runs it."""
        return [IP, "netns", "exec", self.name, *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        """Boxes find slow fakes and a cache of their own."""
        own = {"BENCH_CACHE": str(self.folder / self.name), "BENCH_FAKE_FAULT": "hang1@load", "PYTHONPATH": str(ROOT)}
        return os.environ | QUICK_TO_NOTICE | own

    def ray(self, *options: object) -> subprocess.Popen[bytes]:
        """A node of Ray on this host, for as long as its process lives."""
        small = ("--object-store-memory=80000000", f"--node-ip-address={self.address}", "--disable-usage-stats")
        command = self.command(RAY, "start", "--block", *small, *options)
        log = (self.folder / f"{self.name}.log").open("wb")
        return subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log, start_new_session=True)

    def end(self) -> None:
        """Kill all that runs here: an orderly end waits for a head that may be gone."""
        found = subprocess.run([IP, "netns", "pids", self.name], check=False, capture_output=True, text=True)
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    """Three hosts; 1 and 2 each have a cable to a switch in 0."""
    if not ip("netns", "add", f"{NET}-0"):
        pytest.skip("network namespaces are not allowed here")
    found = [Host(number, tmp_path) for number in range(3)]
    zero = found[0].name
    try:
        ip("-n", zero, "link", "add", "switch", "type", "bridge")
        ip("-n", zero, "addr", "add", f"{found[0].address}/24", "dev", "switch")
        for host in found[1:]:
            ip("netns", "add", host.name)
            cable = f"to{host.name[-1]}"
            assert ip("link", "add", cable, "netns", zero, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            ip("-n", zero, "link", "set", cable, "master", "switch", "up")
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            ip("-n", host.name, "link", "set", "eth0", "up")
        for host in found:
            ip("-n", host.name, "link", "set", "lo", "up")
        ip("-n", zero, "link", "set", "switch", "up")
        yield found
    finally:
        for host in found:
            ip("netns", "del", host.name)


def test_a_link_that_is_cut_costs_no_cell(hosts: list[Host], tmp_path: Path) -> None:
    """The box behind it is gone for the others, whose loads it had; every cell is measured once in the end."""
    head, near, far = hosts
    address, results = f"{head.address}:6399", tmp_path / "results"
    nodes = [head.ray("--head", "--port=6399", "--num-cpus=0", "--include-dashboard=false")]
    try:
        nodes += [host.ray(f"--address={address}", "--num-cpus=1") for host in (near, far)]
        command = head.command(
            sys.executable, "-m", "bench", "run", "--ray", address, "--results", results, "--device", "cpu",
            "--backend", "fake", "--profile", "smoke", "--suite", "memory,throughput", "--model", "pythia-*",
        )  # fmt: skip
        call = subprocess.Popen(
            command, cwd=ROOT, env=head.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        _until(results, 6, call)
        assert ip("-n", head.name, "link", "set", f"to{far.name[-1]}", "down")
        said, _ = call.communicate(timeout=PATIENCE_S)
    finally:
        for host in hosts:
            host.end()
        for node in nodes:
            node.wait(30)
    assert call.returncode == 0, said
    assert f"box {far.address} (" in said and f"box {near.address} (" in said
    assert "given back" in said
    store = Store(results)
    keys = [record.cell.key for record in store.records()]
    assert store.unreadable == [] and len(keys) == len(set(keys)) > 40


def _until(results: Path, records: int, call: subprocess.Popen[str]) -> None:
    """Wait until so many records are home."""
    end = time.monotonic() + PATIENCE_S
    while len(list(results.glob("*/*/*/*/*.json"))) < records:
        assert call.poll() is None, call.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
