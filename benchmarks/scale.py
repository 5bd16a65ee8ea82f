# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of the commands that read records, at a thousand, ten thousand and a hundred thousand of them.

python -m benchmarks.scale FOLDER [--base CHECKOUT] > results/validation/scale.md

FOLDER gets the records (`benchmarks.many_records`, 2 GB) and is used again where it holds them. `--base` is another
checkout, measured in turns; a command of it that ran longer than LONGEST is not asked for more records.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil

from bench.paths import ROOT
from benchmarks.many_records import composition, make

SIZES = (1_000, 10_000, 100_000)
COMMANDS = (("show",), ("compare",), ("recommend",))
OF_BASE = COMMANDS[:2]
LONGEST = 20.0
"""Seconds beyond which the base is not measured at the next size: it would take its square."""
WARM = 3
TITLES = ("records", "command", "cold s", "cold MB", "warm s", "warm MB", "base s", "base MB")


def measured(command: tuple[str, ...], results: Path, cache: Path, checkout: Path = ROOT) -> tuple[float, float]:
    """Wall seconds of one command and the highest MB of all its processes together, looked at every 20 ms."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "BENCH_CACHE": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as for everyone who starts a command twice
    arguments = [sys.executable, "-m", "bench", *command, "--results", str(results)]
    began, most = time.perf_counter(), 0
    with subprocess.Popen(arguments, cwd=checkout, env=environment, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, sum(_resident(watched)))
            time.sleep(0.02)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return time.perf_counter() - began, most / 1e6


def _resident(process: psutil.Process) -> Iterator[int]:
    for each in (process, *process.children(recursive=True)):
        try:
            yield each.memory_info().rss
        except psutil.NoSuchProcess:
            continue


def rows(folder: Path, base: Path | None, sizes: tuple[int, ...]) -> Iterator[list[str]]:
    """A line of the table for each size and command."""
    too_long: set[tuple[str, ...]] = set()
    for size in sizes:
        results = folder / str(size)
        if not results.is_dir():
            make(results, size)
            time.sleep(3)  # files younger than two seconds are read twice
        for command in COMMANDS:
            cache = Path(tempfile.mkdtemp(dir=folder))
            cold = measured(command, results, cache)
            told = (
                measured(command, results, cache, base)
                if base and command in OF_BASE and command not in too_long
                else None
            )
            warm = [measured(command, results, cache) for _ in range(WARM)]
            shutil.rmtree(cache)
            if told and told[0] > LONGEST:
                too_long.add(command)
            seconds, megabytes = (median(found[i] for found in warm) for i in (0, 1))
            compared = [f"{told[0]:.1f}", f"{told[1]:,.0f}"] if told else ["-", "-"]
            plain = [f"{cold[0]:.1f}", f"{cold[1]:,.0f}", f"{seconds:.2f}", f"{megabytes:,.0f}", *compared]
            yield [f"{size:,}", " ".join(command), *plain]


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    print("| " + " | ".join(TITLES) + " |\n| ---: | --- |" + " ---: |" * (len(TITLES) - 2))
    for row in rows(asked.folder.resolve(), asked.base and asked.base.resolve(), tuple(asked.sizes)):
        print("| " + " | ".join(row) + " |", flush=True)
    for size in asked.sizes:
        print(f"\n{composition(asked.folder.resolve() / str(size))}.")


if __name__ == "__main__":
    main()
