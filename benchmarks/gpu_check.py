# SPDX-License-Identifier: Apache-2.0
"""Everything that only a GPU can show, in one unattended command of under nine minutes, without a network.

With whatever torch and transformers the machine has: devices and libraries; roofs; tensors of known size by the
driver's counter and torch's; the main job on llama-3.2-1b with random weights of true size at bf16, and at int8 and nf4
where bitsandbytes is there (weights and peaks against their predictions, driver against allocator, speeds against the
roofs, joules); the suite's timing against a bare loop between CUDA events; energy counters; a hard memory limit that is
exceeded on purpose; and running out of memory phase by phase. Each step is a process of its own with a limit of its
own, so that what hangs or dies costs one step. After each the report is written anew: REPORT.md in the folder, with the
records beside it in `results/`.

    python -m benchmarks.gpu_check [--out FOLDER] [--model llama-3.2-1b] [--device cuda|cpu] [--seconds 520]

Exits 1 if a step failed or something was not as it should be, 2 without a GPU. With `--device cpu` the same steps run
on the processor as far as they can, which tries this command and proves nothing of a GPU. It needs no installed `bench`
but some of its core dependencies; where one is missing it says which in one line. Where there is no network they come
along in a folder: `pip install --target deps nvidia-ml-py numpy psutil pydantic pyyaml rich scipy`, PYTHONPATH=deps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - the machine's own Python, which nothing here has chosen
    sys.exit(f"this needs Python 3.11 or newer, and this is {sys.version.split()[0]}")
try:
    from bench.instruments.machine import describe, device_kind
    from bench.paths import ROOT
    from bench.processes import stop_group, temporary_folder
    from bench.records.surroundings import Machine
    from benchmarks.gpu_check_steps import STEPS, Finding
except ModuleNotFoundError as missing:
    sys.exit(
        f"{missing.name} is not installed here: what is needed, and how it comes along, say the file's first lines"
    )

LIMITS = {"devices": 60, "roofs": 90, "ledger": 60, "job": 240, "bare": 100, "joules": 60, "limits": 150, "phases": 100}
"""Seconds that each step may take, and not more than what is left of all."""
LEAST_S, KEPT_S = 10.0, 15.0
"""With less than that left, a step is not begun; so much is kept for each step that is still to come."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Set before anything is imported: libraries read them then."""
MARKS = {True: "yes", False: "NO", None: ""}


@dataclass(frozen=True)
class Step:
    """One step as it ended."""

    name: str
    seconds: float
    findings: list[Finding] = field(default_factory=list)
    failure: str = ""
    """Why it did not end well, empty if it did."""

    @property
    def holds(self) -> bool:
        """Whether it ended, and all is as it should be."""
        return not self.failure and all(finding.holds is not False for finding in self.findings)


def run(name: str, device: str, model: str, out: Path, limit_s: float) -> Step:
    """One step in a process of its own, ended with all that it started when its time is over."""
    command = [sys.executable, "-m", "benchmarks.gpu_check_steps", name, "--device", device, "--model", model,
               "--out", str(out)]  # fmt: skip
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    began, failure = time.monotonic(), ""
    with temporary_folder() as folder:
        told, log = Path(folder) / "told", Path(folder) / "log"
        with told.open("wb") as output, log.open("wb") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=ROOT,
                env={"BENCH_CACHE": str(out / "cache"), **os.environ, **OFFLINE, "PYTHONPATH": paths},
                start_new_session=True,
            )  # fmt: skip
        try:
            code = process.wait(limit_s)
            last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
            failure = f"exit {code}: {last[0][:200] if last else 'no output'}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"stopped after {limit_s:.0f} s"
        finally:
            stop_group(process)
        found = [one for line in told.read_text(errors="replace").splitlines() if (one := _finding(line))]
    return Step(name, time.monotonic() - began, found, failure)


def _finding(line: str) -> Finding | None:
    """A finding of a line, None where a library printed it or the step was ended in the middle of it."""
    try:
        return Finding(**json.loads(line))
    except (TypeError, ValueError):
        return None


def report(steps: list[Step], left: list[str], told: Machine, model: str) -> str:
    """The report in Markdown, of what has run until now."""
    driver = f"driver {told.driver or 'none'}, CUDA {told.cuda or 'none'}"
    lines = [
        f"# GPU check: {model} on {told.name}", "",
        f"{told.os}, kernel {told.kernel}, Python {told.python}, {driver}.",
        "`python -m benchmarks.gpu_check`; records beside this file in `results/`.",
    ]  # fmt: skip
    if told.kind != "cuda":
        lines += ["", "**Run on a CPU: this tries the command and proves nothing of a GPU.**"]
    for step in steps:
        lines += ["", f"## {step.name} ({step.seconds:.0f} s)", ""]
        if step.findings:
            lines += ["| what | found | as it should be |", "| --- | --- | --- |"]
            lines += [
                f"| {_cell(finding.what)} | {_cell(finding.found)} | {MARKS[finding.holds]} |"
                for finding in step.findings
            ]
        if step.failure:
            lines += ["", f"FAILED: {_cell(step.failure)}"]
    if left:
        lines += ["", f"Not run: {', '.join(left)}."]
    wrong = [step.name for step in steps if not step.holds]
    judged = [finding for step in steps for finding in step.findings if finding.holds is not None]
    good = sum(finding.holds is True for finding in judged)
    seconds = sum(step.seconds for step in steps)
    lines += ["", f"{good} of {len(judged)} as they should be, {seconds:.0f} s"]
    lines[-1] += f"; look at: {', '.join(wrong)}." if wrong else "."
    return "\n".join(lines) + "\n"


def step_seconds(name: str, left_s: float, to_come: int) -> float:
    """How long a step may take: its own limit, and no more than leaves something for those that are still to come."""
    return min(LIMITS[name], max(LEAST_S, left_s - KEPT_S * to_come))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Every step, the report after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--model", default="llama-3.2-1b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=None)
    parser.add_argument("--seconds", type=float, default=520.0)
    parser.add_argument("--steps", default=",".join(STEPS), help="some of: %(default)s")
    asked = parser.parse_args()
    device = asked.device or device_kind()
    if device != "cuda" and asked.device is None:
        print("no NVIDIA GPU is here; --device cpu tries the command itself", file=sys.stderr)
        return 2
    out = asked.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "roof.json").unlink(missing_ok=True)  # of an earlier run, perhaps of another device
    names, steps, end = asked.steps.split(","), list[Step](), time.monotonic() + asked.seconds
    if unknown := [name for name in names if name not in STEPS]:
        parser.error(f"no step {', '.join(unknown)}: there are {', '.join(STEPS)}")
    told = describe(device)
    for place, name in enumerate(names):
        left_s = end - time.monotonic()
        if left_s < LEAST_S:
            break
        to_come = names[place + 1 :]
        steps.append(run(name, device, asked.model, out, step_seconds(name, left_s, len(to_come))))
        text = report(steps, to_come, told, asked.model)
        (out / "REPORT.md").write_text(text, encoding="utf-8")
        print(
            f"{name}: {'as it should be' if steps[-1].holds else steps[-1].failure or 'look at the report'}", flush=True
        )
    print(f"{out / 'REPORT.md'}")
    return 0 if len(steps) == len(names) and all(step.holds for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
