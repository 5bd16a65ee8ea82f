# SPDX-License-Identifier: Apache-2.0
"""The roofs of a run: what its device can do at most, asked of a short process before and after its cells.

In a process of its own the parent stays light. The library is torch where one of the run's backends uses it, for then
the roof is that of the kernels the models run on; else NumPy, which the core needs anyway and which knows fp32 alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

from bench.instruments.machine import computing_on
from bench.paths import ROOT
from bench.processes import module
from bench.records.surroundings import Roof

PATIENCE_S = 120.0
"""A roof takes about 3 s; a first import of torch from a cold disk can take a minute."""
DIGITS = 5


def measure_roof(
    library: str, kind: str, threads: int | None = None, until: Callable[[], object] = lambda: None
) -> Roof:
    """The roof of a device of that kind for kernels of `library` (`torch` or `numpy`), or one that says why not.

    The process begins at once, and measures when `until` has returned: what both do before may take place together.
    """
    command = module("bench.instruments.roof_worker", kind, library, *([threads] if threads else []))
    own = computing_on(kind)
    if threads:
        own |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if library == "numpy" and kind != "cpu":
        return Roof(engine=library, lacking={"copy": f"numpy cannot use a {kind} device"})
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=ROOT, env={**os.environ, "PYTHONPATH": paths, **own},
        ) as process:  # fmt: skip
            try:
                until()
                output, errors = process.communicate("go\n", timeout=PATIENCE_S)
            finally:
                process.kill()
        if process.returncode:
            last = (errors.strip().splitlines() or ["no output"])[-1]
            return Roof(engine=library, lacking={"copy": f"exit {process.returncode}: {last[:160]}"})
        return parse(output)
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return Roof(engine=library, lacking={"copy": f"{type(error).__name__}: {error}"[:160]})


def parse(output: str) -> Roof:
    """The roof in a worker's last line, samples to DIGITS significant digits. Raises ValueError, IndexError."""
    answer = json.loads(output.strip().splitlines()[-1])
    answer["copy_bytes_per_s"] = [_rounded(value) for value in answer["copy_bytes_per_s"]]
    for name in ("matrix_per_s", "read_bytes_per_s"):
        answer[name] = {kind: [_rounded(v) for v in values] for kind, values in answer.get(name, {}).items()}
    return Roof.model_validate(answer)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
