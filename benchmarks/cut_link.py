# SPDX-License-Identifier: Apache-2.0
"""A run over boxes whose link is cut: `python -m benchmarks.cut_link --out results/validation/cut-link.md`.

Three hosts in network namespaces: one calls and has the head of a Ray cluster, two measure fake loads of two seconds.
The link of one is cut for a moment, and later for good; the call must finish, with one record for each cell, and none
torn. Where namespaces cannot be made one line says so.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from bench.instruments import machine
from bench.paths import ROOT
from bench.records.store import Store
from benchmarks.lost_node import Log
from benchmarks.namespaces import Hosts, lacking

PORT = 6379
MOMENT_S = 2.0
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000", "RAY_health_check_failure_threshold": "5",
}  # fmt: skip
"""A host that does not answer for so long is gone: a third of what Ray takes unasked."""
ASKED = ("--backend", "fake", "--profile", "smoke", "--suite", "memory,throughput", "--device", "cpu")
MODELS = "gpt2,gpt2-medium,gpt2-large,pythia-70m"
TOLD = re.compile(r"[0-9]{4}-|box |no box|the cluster|records:|bench:")
CUT_1, CUT_2 = 2, 5
"""Records that are home when the link is cut for a moment, and for good."""
INTO_S = 1.5
"""After that, so that each host is in the middle of a load."""


def environment(folder: Path) -> dict[str, str]:
    """Of a host: a cache of its own, as another machine has."""
    own = {"BENCH_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT), "BENCH_FAKE_FAULT": "hang2@load"}
    return {**os.environ, **HEALTH, **own, "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def begin(hosts: Hosts, host: int, folder: Path) -> None:
    """Start Ray on a host, and leave it running there."""
    folder.mkdir()
    own = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"]
    where = own if host == 0 else [f"--address={hosts.address(0)}:{PORT}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, f"--node-ip-address={hosts.address(host)}"]
    command += [f"--num-cpus={int(host > 0)}", "--object-store-memory=80000000", "--disable-usage-stats"]
    started = hosts.start(
        host, command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip
    said, _ = started.communicate(timeout=120)
    assert started.returncode == 0, said


def strike(hosts: Hosts, results: Path, log: Log, call: subprocess.Popen[str]) -> None:
    """Cut the second host's link for a moment, then for good, as records come home."""
    for wanted, moment in ((CUT_1, True), (CUT_2, False)):
        while call.poll() is None and (home := len(list(results.glob("*/*/*/*/*.json")))) < wanted:
            time.sleep(0.05)  # only the call can end this wait
        time.sleep(INTO_S)
        if call.poll() is not None:
            return
        hosts.cut(2)
        log.say(
            f"# {home} records are home; the link of {hosts.address(2)} is cut {'' if moment else 'for good'}".rstrip()
        )
        if moment:
            time.sleep(MOMENT_S)
            hosts.mend(2)
            log.say(f"# the link carries again, {MOMENT_S:.0f} s later")


def run(log: Log, models: str = MODELS) -> tuple[int, Counter[str], list[str]]:
    """One call; its exit code, how often each cell was answered, and what does not read."""
    with tempfile.TemporaryDirectory(prefix="cut-") as name, Hosts(2) as hosts:
        folder = Path(name)
        for host in range(3):
            begin(hosts, host, folder / str(host))
        results = folder / "results"
        command = ["bench", "run", "--ray", f"{hosts.address(0)}:{PORT}", "--results", str(results)]
        command += [*ASKED, "--model", models]
        log.say("$ " + " ".join(command).replace(str(results), "RESULTS"))
        call = hosts.start(
            0, [sys.executable, "-m", *command], cwd=ROOT, env=environment(folder / "0"), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        watcher = threading.Thread(target=strike, args=(hosts, results, log, call))
        watcher.start()
        assert call.stdout is not None
        for text in call.stdout:
            if TOLD.match(text):  # not the tables
                log.say(text.rstrip("\n").replace(str(results), "RESULTS"))
        code = call.wait()
        watcher.join()
        store = Store(results)
        keys = Counter(record.cell.key for record in store.records())
    log.say(f"exit code {code}: {keys.total()} records, {len(keys)} cells, {len(store.unreadable)} files do not read")
    return code, keys, store.unreadable


def main() -> int:
    """Run, check, write."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--models", default=MODELS)
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    if why := lacking():
        print(why)
        return 0
    log = Log()
    code, keys, torn = run(log, options.models)
    if options.out:
        options.out.write_text(page(log), encoding="utf-8")
    return code or int(max(keys.values(), default=2) > 1 or bool(torn))


def page(log: Log) -> str:
    """The log as it is kept."""
    cpu = machine.describe("cpu")
    return f"""# A run whose link was cut

Made by `python -m benchmarks.cut_link`: three hosts in network namespaces of one machine, one that calls and two that
measure fake loads of two seconds. Lines with `#` are the script's. A host that does not answer for five seconds is gone
there (Ray's own settings: about fifteen).

Machine: {cpu.cpu}, {cpu.logical_cpus} logical CPUs, Python {cpu.python}, {cpu.kernel}.

```
{chr(10).join(log.lines)}
```
"""


if __name__ == "__main__":
    sys.exit(main())
