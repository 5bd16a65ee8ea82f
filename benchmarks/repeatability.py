# SPDX-License-Identifier: Apache-2.0
"""Do consecutive runs agree within their stated intervals? The default model's throughput cell, so many fresh runs.

Prints each run's rates with their intervals, and for each pair of neighbours whether the intervals meet; and marks a
run whose device drifted. With --report the same goes through the whole harness on the fake too: twenty-one runs whose
every duration is longer or shorter by up to 8 %, drawn anew in each, so that there are twenty pairs of neighbours and a
truth that is known. What it says is written to FILE in Markdown. Exit 1 if two real neighbours disagree, or fewer than
nineteen of twenty on the fake.

    python -m benchmarks.repeatability [RUNS] [--report FILE] [options of `bench run`]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import bench
from bench.judge.figures import figures
from bench.judge.stats import Estimate
from bench.paths import ROOT
from bench.records.record import Ending, Record

RATES = ("prefill_tokens_per_s", "decode_tokens_per_s")
FAKE = ("--backend", "fake", "--precision", "fp16", "--device", "cpu")
FAKE_RUNS, NOISE = 21, 0.08
WANTED = 0.95
"""Share of neighbours that must agree on the fake: nineteen of twenty."""


@dataclass(frozen=True)
class Fresh:
    """One run of the cell."""

    record: Record
    rates: Mapping[str, Estimate]

    def __str__(self) -> str:
        texts = [f"{name.split('_')[0]} {_interval(self.rates[name])}" for name in RATES]
        return f"{self.record.started}: {', '.join(texts)} tokens/s {' '.join(self.warned)}"

    @property
    def warned(self) -> list[str]:
        """Kinds of its warnings."""
        return list(dict.fromkeys(caveat.kind for caveat in self.record.warnings))


def _interval(found: Estimate) -> str:
    return f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"


def run_afresh(runs: int, options: Sequence[str], noise: float = 0.0) -> list[Fresh]:
    """That many runs of the throughput cell by the command itself, one after another. Exits where one has no answer."""
    with tempfile.TemporaryDirectory(prefix="bench-repeat-") as folder:
        command = [sys.executable, "-m", "bench", "run", "--fresh", "--quiet", "--suite", "throughput", *options]
        for number in range(runs):
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
            if noise:
                env["BENCH_FAKE_NOISE"] = f"{noise}:{number}"
            done = subprocess.run([*command, "--results", folder], check=False, capture_output=True, text=True, env=env)
            records = sorted(bench.read(Path(folder)), key=lambda record: record.started)
            if len(records) != number + 1 or records[-1].outcome.ending is not Ending.OK:
                said = records[-1].outcome.reason if len(records) == number + 1 else done.stderr or done.stdout
                raise SystemExit(f"run {number + 1} of {runs} gave no single answer: {said}")
        return [Fresh(record, figures(record)) for record in records]


def apart(one: Fresh, two: Fresh) -> list[str]:
    """Rates whose intervals do not meet."""
    pairs = ((name, one.rates[name], two.rates[name]) for name in RATES)
    return [name for name, a, b in pairs if a.low > b.high or b.low > a.high]


def agreeing(pairs: Sequence[tuple[Fresh, Fresh]]) -> int:
    """Pairs that agree in both rates."""
    return sum(not apart(*pair) for pair in pairs)


def table(found: Sequence[Fresh], truth: Mapping[str, float] | None = None) -> list[str]:
    """Every run's medians and intervals, the pairs that agree, and how many intervals hold a known truth."""
    lines = [
        "| run | started | repeats | prefill, tokens/s | decode, tokens/s | warnings |",
        "| ---: | --- | ---: | --- | --- | --- |",
    ]
    for number, run in enumerate(found, 1):
        prefill = run.record.measurement("prefill_s")
        repeats = len(prefill.values) if prefill else 0
        cells = [str(number), run.record.started, str(repeats), *(_interval(run.rates[name]) for name in RATES)]
        lines.append(f"| {' | '.join([*cells, ', '.join(run.warned)])} |")
    near, every = list(pairwise(found)), list(combinations(found, 2))
    spread = {n: max(r.rates[n].value for r in found) / min(r.rates[n].value for r in found) - 1 for n in RATES}
    spreads = ", ".join(f"{name.split('_')[0]} {share:.1%}" for name, share in spread.items())
    agree = (
        f"Neighbours that agree in both rates: **{agreeing(near)} of {len(near)}**; of all pairs {agreeing(every)} of "
        f"{len(every)}. Highest median above the lowest: {spreads}."
    )
    lines += ["", agree]
    for number, pair in enumerate(near, 1):
        if missed := apart(*pair):
            lines.append(f"Runs {number} and {number + 1} disagree in {' and '.join(missed)}.")
    if truth:
        holds = sum(run.rates[n].low <= truth[n] <= run.rates[n].high for run in found for n in RATES)
        known = ", ".join(f"{name.split('_')[0]} {value:.0f}" for name, value in truth.items())
        lines += ["", f"Intervals that hold the true rate ({known}): {holds} of {2 * len(found)}."]
    return lines


def report(real: Sequence[Fresh], fake: Sequence[Fresh], command: str) -> str:
    """The Markdown page."""
    from bench.engines.fake import TRUTH

    first = real[0].record
    known = TRUTH[fake[0].record.cell.scheme]
    truth = dict(zip(RATES, (known.prefill_tokens_per_s, known.decode_tokens_per_s), strict=True))
    machine = f"{first.cell.device} ({first.machine.name}, {first.machine.logical_cpus} CPUs)"
    about = (
        f"Written by `{command}`, {first.started[:10]}, {machine}. Every run is a fresh `bench run` of one throughput "
        "cell, one after another; a rate is the median over its repeats, in brackets its 95 % interval. Two runs agree "
        "if their intervals meet, for prefill and for decode."
    )
    cell = f"{first.cell.model}, {first.cell.backend} {first.cell.scheme}, {first.cell.profile} profile"
    injected = (
        f"The same through the same command on the fake backend, all of whose durations are made longer or shorter "
        f"by up to {NOISE:.0%}, drawn evenly and anew in every run. Wanted: nineteen of twenty."
    )
    lines = ["# Do consecutive runs agree?", "", about, "", f"## {cell}, threads {first.threads or 'unknown'}", ""]
    return "\n".join(
        [*lines, *table(real), "", "## The fake with injected noise", "", injected, "", *table(fake, truth), ""]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print; 1 if a pair of neighbours disagrees."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    runs = int(given.pop(0)) if given and given[0].isdigit() else 5
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0], allow_abbrev=False, usage="%(prog)s [RUNS] [--report FILE] [...]",
        epilog="RUNS is 5 if it is not given; other options go to `bench run` (--precision fp32 if there are none).",
    )  # fmt: skip
    parser.add_argument("--report", type=Path, help="Markdown file to write, with twenty pairs on the fake")
    parser.add_argument("--fake-runs", type=int, default=FAKE_RUNS, help=f"of the report, {FAKE_RUNS} if not given")
    asked, options = parser.parse_known_args(given)
    real = run_afresh(runs, options or ["--precision", "fp32"])
    print("\n".join(map(str, real)))
    near = list(pairwise(real))
    for number, pair in enumerate(near, 1):
        missed = apart(*pair)
        print(f"runs {number} and {number + 1}: {'agree' if not missed else 'disagree in ' + ', '.join(missed)}")
    wrong = agreeing(near) < len(near)
    if asked.report:
        fake = run_afresh(asked.fake_runs, FAKE, NOISE)
        pairs = list(pairwise(fake))
        print(f"fake with {NOISE:.0%} of noise: {agreeing(pairs)} of {len(pairs)} neighbours agree")
        wrong |= agreeing(pairs) < WANTED * len(pairs)
        command = " ".join(["python -m benchmarks.repeatability", str(runs), "--report FILE", *options])
        asked.report.parent.mkdir(parents=True, exist_ok=True)
        asked.report.write_text(report(real, fake, command), encoding="utf-8")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
