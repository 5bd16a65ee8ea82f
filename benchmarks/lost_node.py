# SPDX-License-Identifier: Apache-2.0
"""A run that loses a node and finishes: `python -m benchmarks.lost_node --out results/validation/lost-node.md`.

Starts two nodes on this machine, measures the default model on them (or what follows `--`), kills the node that is
measuring once some records are home, and keeps what the command said, with the seconds since it began.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from bench.instruments import machine
from bench.paths import ROOT
from bench.records.store import Store
from benchmarks.loopback_cluster import Cluster, processes

USUAL = ("--profile", "smoke", "--suite", "memory,throughput,divergence", "--device", "cpu")
WORKER = "bench.run.worker"


class Log:
    """Lines with the time at which they came."""

    def __init__(self) -> None:
        self.began, self.lines = time.monotonic(), list[str]()

    def say(self, text: str) -> None:
        """One more."""
        line = f"{time.monotonic() - self.began:6.1f} s  {text}".rstrip()
        self.lines.append(line)
        print(line, flush=True)


def measuring(nodes: list[Any]) -> Any:
    """The node that measures now, None if none does."""
    for node in nodes:
        for process in processes(node):
            try:
                if WORKER in process.cmdline():
                    return node
            except psutil.Error:
                continue
    return None


def main() -> None:
    """Measure, kill, wait, write."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--after", type=int, default=4, help="records that are home when the node is killed")
    asked.add_argument("--out", type=Path)
    asked.add_argument("options", nargs="*", default=list(USUAL), help="of bench run, behind --")
    options = asked.parse_args()
    cluster, log = Cluster(2, cpus=float(os.cpu_count() or 1)), Log()
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "results"
        command = ["bench", "run", "--ray", cluster.address, "--results", str(results), *options.options]
        try:
            log.say("$ " + " ".join(command).replace(str(results), "RESULTS"))
            call = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            watcher = threading.Thread(target=kill_one, args=(cluster, results, options.after, log))
            watcher.start()
            assert call.stdout is not None
            for text in call.stdout:
                log.say(text.rstrip("\n").replace(str(results), "RESULTS"))
            code = call.wait()
            watcher.join()
            log.say(f"exit code {code}")
        finally:
            cluster.close()
        found = list(Store(results).records())
    keys = Counter(record.cell.key for record in found)
    log.say(f"{len(found)} records, {len(keys)} cells, {len({record.run for record in found})} run")
    if options.out:
        options.out.write_text(page(log), encoding="utf-8")
    sys.exit(code or int(max(keys.values(), default=2) > 1))


def kill_one(cluster: Cluster, results: Path, after: int, log: Log) -> None:
    """Kill the node that measures, once so many records are home."""
    seen = 0
    while seen < after:
        time.sleep(0.1)
        count = len(list(results.glob("*/*/*/*/*.json")))
        if count > seen:
            seen = count
            log.say(f"# {count} records are home")
    while (node := measuring(cluster.nodes)) is None:
        time.sleep(0.1)
    found = processes(node)
    log.say(f"# kill -9 of the {len(found)} processes of node {node.node_id[:6]}, which is measuring: a power cut")
    cluster.kill(node)


def page(log: Log) -> str:
    """The log as it is kept."""
    cpu = machine.describe("cpu")
    return f"""# A run that lost a node and finished

Made by `python -m benchmarks.lost_node`: two nodes of a Ray cluster on one machine, of which one is killed while it
measures. Lines with `#` are the script's. On one machine two nodes measure in turns, for they share its device.

Machine: {cpu.cpu}, {cpu.logical_cpus} logical CPUs, Python {cpu.python}, {cpu.kernel}.

```
{chr(10).join(log.lines)}
```
"""


if __name__ == "__main__":
    main()
