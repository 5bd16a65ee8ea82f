# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of the commands that read many records or entries, this checkout and an older one in turns.

python -m benchmarks.scale FOLDER make --sizes 1000 10000 100000 --entries 5000
python -m benchmarks.scale FOLDER records --sizes 1000 --commands show --base CHECKOUT
python -m benchmarks.scale FOLDER entries --base CHECKOUT
python -m benchmarks.scale FOLDER today --base CHECKOUT
python -m benchmarks.scale FOLDER report > results/validation/scale.md

FOLDER gets the records (`benchmarks.many_records`, 2 GB), the catalogue (`benchmarks.many_entries`) and all samples, so
that a long measurement can be taken in pieces. Cold: without an index; then as often as `--rounds` says with the index
that this left. The base is killed after `--longest` seconds.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil

from bench.instruments.machine import describe
from bench.paths import RESULTS, ROOT
from benchmarks import many_entries, many_records

SIZES = (1_000, 10_000, 100_000)
COMMANDS = ("show", "compare", "recommend")
ENTRIES = 5_000
ROUNDS = 3
TODAY_ROUNDS = 10
LONGEST = 240.0
SETTLED_S = 3.0
"""Files younger than two seconds are read again by the next command."""
OF_ENTRIES = {"plan": ("plan", "--model", "*"), "catalog": ("catalog",)}


def measured(arguments: list[str], cache: Path, checkout: Path, longest: float) -> tuple[float, float, bool]:
    """Wall seconds, the highest MB of all its processes together (looked at every 20 ms), and whether it ended."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "BENCH_CACHE": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as for everyone who starts a command twice
    began, most = time.perf_counter(), 0
    with subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments], cwd=checkout, env=environment, stdout=subprocess.DEVNULL
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, sum(_resident(watched)))
            time.sleep(0.02)
            if time.perf_counter() - began > longest:
                process.kill()
    ended = time.perf_counter() - began <= longest
    assert process.returncode in {0, 1} or not ended, f"{arguments} ended with {process.returncode}"
    return time.perf_counter() - began, most / 1e6, ended


def _resident(process: psutil.Process) -> Iterator[int]:
    for each in (process, *process.children(recursive=True)):
        try:
            yield each.memory_info().rss
        except psutil.NoSuchProcess:
            continue


class Samples:
    """What was measured so far, one line of JSON for each command."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "samples.jsonl"

    def take(self, of: str, command: str, state: str, arguments: list[str], cache: Path, base: Path | None,
             longest: float) -> None:  # fmt: skip
        """Measure a command of this checkout, or of the base where one is given."""
        seconds, megabytes, ended = measured(arguments, cache, base or ROOT, longest)
        told = {"of": of, "command": command, "who": "base" if base else "this", "state": state, "s": seconds,
                "mb": megabytes, "ended": ended}  # fmt: skip
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
        print(told, flush=True)

    def all(self) -> list[dict]:
        """Every sample in the order taken."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def records(folder: Path, asked: argparse.Namespace) -> None:
    """Cold, the base, and warm, for each size and command."""
    samples = Samples(folder)
    for size in asked.sizes:
        for command in asked.commands:
            cache = Path(tempfile.mkdtemp(dir=folder))
            arguments, of = [command, "--results", str(folder / str(size))], f"{size:,} records"
            samples.take(of, command, "cold", arguments, cache, None, asked.longest)
            if asked.base and command != "recommend":
                samples.take(of, command, "cold", arguments, cache / "base", asked.base, asked.longest)
            for _ in range(asked.rounds):
                samples.take(of, command, "warm", arguments, cache, None, asked.longest)
            shutil.rmtree(cache)


def entries(folder: Path, asked: argparse.Namespace) -> None:
    """The commands that read the catalogue, over today's records."""
    cache = Path(tempfile.mkdtemp(dir=folder))
    for command, arguments in OF_ENTRIES.items():
        given = [*arguments, "--catalog", str(folder / "catalog")]
        for number in range(asked.rounds + 1):
            state = "warm" if number else "cold"
            Samples(folder).take(f"{ENTRIES:,} entries", command, state, given, cache, None, asked.longest)
            if asked.base and number < 1:
                cold = cache / "base"
                Samples(folder).take(f"{ENTRIES:,} entries", command, state, given, cold, asked.base, asked.longest)
    shutil.rmtree(cache)


def today(folder: Path, asked: argparse.Namespace) -> None:
    """`show` and `catalog` over the committed records and catalogue."""
    cache = Path(tempfile.mkdtemp(dir=folder))
    for number in range(TODAY_ROUNDS + 1):
        for command in ("show", "catalog"):
            for base in (None, asked.base) if asked.base else (None,):
                given = [command, "--results", str(RESULTS)]
                at = cache / ("base" if base else "this")
                state = "warm" if number else "cold"
                Samples(folder).take("today's records", command, state, given, at, base, asked.longest)
    shutil.rmtree(cache)


def make(folder: Path, asked: argparse.Namespace) -> None:
    """What is measured, where it is not there yet."""
    for size in asked.sizes:
        if not (folder / str(size)).is_dir():
            many_records.make(folder / str(size), size)
    if not (folder / "catalog").is_dir():
        many_entries.make(folder / "catalog", asked.entries)
    time.sleep(SETTLED_S)


def report(folder: Path, asked: argparse.Namespace) -> None:
    """The page."""
    samples, machine = Samples(folder).all(), describe("cpu")
    print("# Many records, many entries\n")
    print("Made by `python -m benchmarks.scale`: wall seconds and highest resident MB of a command with all its")
    print("processes. Cold: without an index, n = 1; warm: the median of those that follow. Base: the older checkout")
    print(f"({asked.base_name}), in turns; it has no index. A `>` says that it was ended then.\n")
    print(f"Machine: {machine.name}, {machine.logical_cpus} logical CPUs, Python {platform.python_version()}, "
          f"{platform.system()}.\n")  # fmt: skip
    print("| of | command | cold s | cold MB | warm s | warm MB | n | base s | base MB | n |")
    print("| --- | --- |" + " ---: |" * 8)
    for of, command in dict.fromkeys((each["of"], each["command"]) for each in samples):
        cells = [of, command]
        for who, states in (("this", ("cold",)), ("this", ("warm",)), ("base", ("cold", "warm"))):
            found = [s for s in samples if (s["of"], s["command"], s["who"]) == (of, command, who)]
            found = [s for s in found if s["state"] in states]
            if who == "base" and len(found) > 1:
                found = [s for s in found if s["state"] == "warm"]
            if not found:
                cells += ["-", "-", "0"] if states != ("cold",) else ["-", "-"]
                continue
            sign = "" if all(s["ended"] for s in found) else "> "
            cells += [f"{sign}{median(s['s'] for s in found):.2f}", f"{median(s['mb'] for s in found):,.0f}"]
            cells += [str(len(found))] if states != ("cold",) else []
        print("| " + " | ".join(cells) + " |")
    for size in asked.sizes:
        if (folder / str(size)).is_dir():
            print(f"\n{many_records.composition(folder / str(size))}.")


WHAT = {"make": make, "records": records, "entries": entries, "today": today, "report": report}


def main() -> None:
    """Make, measure a piece, or print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--base", type=lambda text: Path(text).resolve())
    parser.add_argument("--base-name", default="46e504a")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--longest", type=float, default=LONGEST)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    WHAT[asked.what](folder, asked)


if __name__ == "__main__":
    main()
