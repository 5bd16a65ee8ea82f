# SPDX-License-Identifier: Apache-2.0
"""Do consecutive runs agree within their stated intervals? The default model's throughput cell, so many fresh runs.

Prints each run's rates with their intervals, and for each pair of neighbours whether the intervals meet; and marks a
run whose device drifted. Tests show twenty pairs on a fake with injected noise; this asks a real machine.

    python benchmarks/repeatability.py [RUNS] [options of `bench run`]
"""

import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from bench.figures import figures
from bench.record import Ending
from bench.store import Store

RATES = ("prefill_tokens_per_s", "decode_tokens_per_s")


def main() -> int:
    """Measure, print; 1 if a pair of neighbours disagrees."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    options = sys.argv[2:] or ["--precision", "fp32"]
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-repeat-") as folder:
        for _ in range(runs):
            command = [sys.executable, "-m", "bench", "run", "--fresh", "--quiet", "--suite", "throughput", *options]
            subprocess.run([*command, "--results", folder], check=True, stdout=subprocess.DEVNULL)
        records = sorted(Store(Path(folder)).records(), key=lambda record: record.started)
    for record in records:
        if record.outcome.ending is not Ending.OK:
            print(f"{record.cell}: {record.outcome.ending}: {record.outcome.reason}")
            return 1
        read = figures(record)
        found.append(read)
        texts = [f"{n.split('_')[0]} {read[n].value:.1f} [{read[n].low:.1f}, {read[n].high:.1f}]" for n in RATES]
        print(f"{record.started}: {', '.join(texts)} tokens/s {' '.join(c.kind for c in record.warnings)}")
    apart = 0
    for number, (one, two) in enumerate(pairwise(found), 1):
        missed = [n for n in RATES if one[n].low > two[n].high or two[n].low > one[n].high]
        apart += bool(missed)
        print(f"runs {number} and {number + 1}: {'agree' if not missed else 'disagree in ' + ', '.join(missed)}")
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
