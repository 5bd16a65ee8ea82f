# SPDX-License-Identifier: Apache-2.0
"""What handing loads out costs: `python -m benchmarks.ray_fleet --out results/validation/fleet.md`.

First fake cells of a second over several nodes of a real Ray cluster on this machine, each a load of its own, with a
process that does nothing but wait: ideal is cells x seconds / nodes. Then the whole path, fake loads that take a second
each, through as many nodes as this machine has cores, and through today's runner on one box.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from bench.catalog.entries import read_catalog
from bench.catalog.model import Model
from bench.fleet import call
from bench.fleet.link import RayLink
from bench.fleet.wire import Seen
from bench.instruments import machine
from bench.paths import ROOT
from bench.plan.plan import Plan, make_plan
from bench.plan.selection import Selection
from bench.records.code_digest import sources
from bench.records.record import Record
from bench.records.store import Store
from bench.run.options import RunOptions
from benchmarks.loopback_cluster import Cluster

SCHEMES = ("fake-fp16", "fake-fp32", "fake-int8", "fake-int4")
LOAD_S = 1.0
STARTS = 15


@dataclass
class Times:
    """When each load of a box began and ended, on the one clock that all processes of this machine have."""

    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def take(self, text: str) -> bool:
        """Whether a line of a box told its times."""
        head, found, rest = text.partition(": [")
        if not found:
            return False
        _, began, ended = json.loads(f"[{rest}")
        self.spans.setdefault(head, []).append((began, ended))
        return True

    def gaps(self) -> list[float]:
        """Seconds between the end of a load on a box and the beginning of its next."""
        return [
            following[0] - before[1]
            for spans in self.spans.values()
            for before, following in zip(sorted(spans), sorted(spans)[1:], strict=False)
        ]


def many_models(count: int) -> list[Model]:
    """Copies of the default entry under names of their own."""
    entry = next(model for model in read_catalog() if model.architecture is not None)
    return [entry.model_copy(update={"name": f"m{number:04}"}) for number in range(count)]


class Told(Console):
    """Takes the times out of what people are told."""

    def __init__(self, times: Times) -> None:
        super().__init__(file=io.StringIO())
        self.times = times

    def out(self, *objects: Any, **more: Any) -> None:
        """Keep what tells a time."""
        for text in objects:
            self.times.take(str(text))


def waiting_cells(cells: int, nodes: int) -> dict[str, float]:
    """Cells that only wait, over nodes with a CPU each."""
    seen = Seen(machine=machine.describe("cpu"), free_bytes=0, sources=sources(), lacking={})
    times, models = Times(), many_models(cells // len(SCHEMES))
    asked = Selection(models=("m*",), backends=("fake",), suites=("memory",), schemes=SCHEMES, profile="smoke")

    def planned(box: Seen) -> tuple[Plan, RunOptions]:
        return make_plan(asked, models, box.machine, held=lambda _: False), RunOptions()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = one_record(folder / "one")
        known = {"seen": seen.model_dump(mode="json"), "record": template.model_dump(mode="json"), "cell_s": LOAD_S}
        (folder / "box.json").write_text(json.dumps(known), encoding="utf-8")
        began, store = one_start(folder / "box.json"), Store(folder / "results")
        cluster = Cluster(nodes, surroundings={"FAKE_BOX": str(folder / "box.json"), "PYTHONPATH": str(ROOT)})
        try:
            start = time.monotonic()
            ended = call.run_on_boxes(
                lambda: RayLink(cluster.address, program="benchmarks.fake_box"), asked, "cpu", store, planned,
                lambda run, device: (), Told(times), quiet=False, fresh=True,
            )  # fmt: skip
            wall = time.monotonic() - start
        finally:
            cluster.close()
        stored = len(store.paths())
    spans = [span for each in times.spans.values() for span in each]
    return {
        "cells": len(ended.answers), "stored": stored, "nodes": nodes, "ideal_s": LOAD_S * len(ended.answers) / nodes,
        "wall_s": wall, "busy_s": max(end for _, end in spans) - min(begin for begin, _ in spans),
        "gap_s": median(times.gaps()), "start_s": began,
    }  # fmt: skip


def one_record(folder: Path) -> Record:
    """A record of the fake's memory suite, as this machine makes it."""
    bench(folder, "--precision", "fp16", "--suite", "memory")
    (record,) = Store(folder).records()
    return record


def one_start(known: Path) -> float:
    """Median seconds that a process of this kind takes to begin, with nothing to wait for."""
    found = []
    question = json.dumps({"cells": [], "run": "none"})
    for _ in range(STARTS):
        start = time.monotonic()
        command = [sys.executable, "-m", "bench.processes", str(os.getpid()), "benchmarks.fake_box"]
        env = os.environ | {"FAKE_BOX": str(known)}
        subprocess.run(command, input=question, text=True, check=True, capture_output=True, cwd=ROOT, env=env)
        found.append(time.monotonic() - start)
    return median(found)


def bench(folder: Path, *options: str, env: dict[str, str] | None = None) -> float:
    """Seconds of one `bench run` of the fake into a folder."""
    command = [sys.executable, "-m", "bench", "run", "--backend", "fake", "--profile", "smoke", "--device", "cpu"]
    start = time.monotonic()
    subprocess.run(
        [*command, "--results", str(folder), "--quiet", *options], check=True, cwd=ROOT, env=os.environ | (env or {}),
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.monotonic() - start


def whole_path(models: str, nodes: int) -> dict[str, float]:
    """The same loads through the runner of one box, and through nodes that run it."""
    slow = {"BENCH_FAKE_FAULT": f"hang{LOAD_S}@load"}
    asked = ("--model", models, "--suite", "memory")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = bench(folder / "alone", *asked, env=slow)
        loads = len(Store(folder / "alone").paths())
        cluster = Cluster(nodes, surroundings={**slow, "PYTHONPATH": str(ROOT)})
        try:
            shared = bench(folder / "shared", *asked, "--ray", cluster.address)
        finally:
            cluster.close()
        assert len(Store(folder / "shared").paths()) == loads
    return {"loads": loads, "nodes": nodes, "alone_s": alone, "shared_s": shared}


def report(waited: dict[str, float], whole: dict[str, float]) -> str:
    """The page."""
    over = waited["busy_s"] / waited["ideal_s"] - 1
    each = waited["busy_s"] * waited["nodes"] / waited["cells"] - LOAD_S
    cpu, loads = machine.describe("cpu"), whole["loads"]
    alone, shared = whole["alone_s"], whole["shared_s"]
    return f"""# Many boxes

Made by `python -m benchmarks.ray_fleet`: a real Ray cluster of several nodes on one machine, on loopback.

Machine: {cpu.cpu}, {cpu.logical_cpus} logical CPUs, Python {cpu.python}, {cpu.kernel}.

| fake cells of 1 s, a load each | |
| --- | ---: |
| cells, all stored at home | {waited["cells"]:.0f}, {waited["stored"]:.0f} |
| nodes | {waited["nodes"]:.0f} |
| ideal time, s | {waited["ideal_s"]:.1f} |
| from the first cell's start to the last one's end, s | {waited["busy_s"]:.1f} ({over:+.1%}) |
| whole call, s | {waited["wall_s"]:.1f} |
| beyond its second, for each cell, ms | {1000 * each:.0f} |
| between two cells on a node, median, ms | {1000 * waited["gap_s"]:.0f} |
| of which a process that does nothing takes by itself, ms | {1000 * waited["start_s"]:.0f} |

The cells' processes only wait, so that all nodes fit on this machine; each is a process of its own, as a measurement's
is.

| fake loads of 1 s through everything | s | s a load |
| --- | ---: | ---: |
| `bench run`, one box, {loads:.0f} loads | {alone:.1f} | {alone / loads:.2f} |
| `bench run --ray`, {whole["nodes"]:.0f} nodes on the same cores | {shared:.1f} | {shared / loads:.2f} |

Here each load has the processes and imports of a real one, on a box two processes beside the one that is measured.
"""


def main() -> None:
    """Measure, print, write."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--cells", type=int, default=2000)
    asked.add_argument("--nodes", type=int, default=8)
    asked.add_argument("--models", default="pythia-*m,gpt2*,opt-125m,opt-350m", help="of the whole path")
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["BENCH_CACHE"] = cache
        whole = whole_path(options.models, os.cpu_count() or 1)
        print(whole, flush=True)
        waited = waiting_cells(options.cells, options.nodes)
        print(waited, flush=True)
    text = report(waited, whole)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
