# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's engine beside bare loops over its own session, and beside transformers at float32: speed, distance.

*Speed*: prefill and decode of the default model by the throughput suite's repeat and by two bare loops over the very
session that the engine opened, taking turns: one hands keys and values on as the library's own values
(`run_with_ort_values`), one as arrays (`run`), as most people write it. *Distance*: log-likelihoods of pieces of the
probe text from transformers at float32, which computes in a process and, with `--python`, an environment of its own.

    python -m benchmarks.onnxruntime [--report FILE] [--python PATH] [--rounds N] [--tokens N] [--part speed|distance]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bench.catalog.entries import DEFAULT_MODEL
from bench.engines.onnxruntime.reader import states
from bench.engines.registry import backend
from bench.instruments.machine import condition, describe
from benchmarks import default_model, exported
from benchmarks.answering import Build
from suites import probe

ROOT = Path(__file__).resolve().parents[1]
TIMED = ("ort-fp32", "ort-int8", "ort-int4-acc4", "ort-int4-acc1")
WIDE = ("ort-fp32", "ort-fp16")
"""Schemes whose log-likelihoods are to be those of transformers at float32."""


class Arrays:
    """The session called with arrays."""

    def __init__(self, session: Any) -> None:
        self.session, self.states = session, states(session)
        self.inputs = {asked.name for asked in session.get_inputs()}
        self.outputs = ["logits", *(state.present for state in self.states)]
        self.held: list[Any] = []

    def clear(self) -> None:
        """Carry nothing."""
        self.held = [self.given(np.zeros((1, state.heads, 0, state.width), np.float32)) for state in self.states]

    def read(self, tokens: Any, held: int) -> Any:
        """Logits (vocabulary) behind the last of some tokens (1, count), which `held` others precede."""
        count = tokens.shape[1]
        mask = np.zeros((1, 1, count, held + count), np.float32)
        if count > 1:
            mask[0, 0, :, held:][~np.tri(count, dtype=np.bool_)] = np.finfo(np.float32).min
        given = {
            "input_ids": tokens, "position_ids": np.arange(held, held + count)[None], "mask": mask,
            "attention_mask": np.ones((1, held + count), np.int64), "rows": np.array([count - 1], np.int64),
        }  # fmt: skip
        feeds = {name: self.given(value) for name, value in given.items() if name in self.inputs}
        feeds |= zip((state.past for state in self.states), self.held, strict=True)
        logits, *self.held = self.run(feeds)
        return self.array(logits).reshape(-1)

    def given(self, value: Any) -> Any:
        """An array as the session takes it."""
        return value

    def array(self, value: Any) -> Any:
        """What the session gives as an array."""
        return value

    def run(self, feeds: dict[str, Any]) -> list[Any]:
        """One call."""
        return self.session.run(self.outputs, feeds)


class Values(Arrays):
    """The session called with the library's own values."""

    def given(self, value: Any) -> Any:
        """An array as the session takes it."""
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(value)

    def array(self, value: Any) -> Any:
        """What the session gives as an array."""
        return value.numpy()

    def run(self, feeds: dict[str, Any]) -> list[Any]:
        """One call."""
        return self.session.run_with_ort_values(self.outputs, feeds)


HEADER = """# ONNX Runtime beside its own session and beside transformers

`python -m benchmarks.onnxruntime{given}`, {date}. {model}, {machine}; load before {before:.2f}, after {after:.2f}.
onnxruntime {library}, optimum-onnx {exporter}, onnx {onnx} on {threads} threads; transformers {transformers} with torch
{torch} in a process of its own. {verdict}
"""
SPEED = """
Prompt of {prompt} tokens, {count} generated, taking turns in one process on one session. *Values*, *arrays*: bare loops
over that session; *suite*: the throughput suite's repeat. Tokens per second of medians; ratios of seconds with 95 %
intervals, 1.03 or less is wanted.

| scheme | phase | values | arrays | suite | suite / values, seconds | suite / arrays, seconds | n |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}
"""
DISTANCE = """
Log-likelihoods of {pieces} pieces of {behind} characters of each register behind the {before} before them: absolute
differences from transformers at float32 in nats a piece, 0.01 or less on average is wanted.

| scheme | register | pieces | tokens | mean | largest | nats a token |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
{rows}
"""
VERSIONS = (
    "import json; from importlib.metadata import version as v; print(json.dumps([v('transformers'), v('torch')]))"
)


def timed(scheme: str, rounds: int, count: int) -> tuple[list[str], bool]:
    """Rows of the report for one scheme, and whether both phases are near enough."""
    engine = default_model.load(backend("onnxruntime"), backend("onnxruntime").scheme(scheme))
    loops: dict[str, exported.Bare] = {"values": Values(engine.session), "arrays": Arrays(engine.session)}
    found = exported.speeds(scheme, engine, loops, rounds, count)
    engine.close()
    return found


def main() -> int:
    """Measure, print, write; 1 if something is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--python", default=sys.executable, help="interpreter of transformers' environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=exported.TOKENS)
    parser.add_argument("--part", choices=("speed", "distance"), help="measure one of the two alone")
    options = parser.parse_args()
    before, begun = condition().load_1min or 0.0, time.perf_counter()
    told = subprocess.run([options.python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    transformers, torch = json.loads(told.stdout)
    missed: list[str] = []

    def kept(what: str, found: tuple[list[str], bool]) -> list[str]:
        if not found[1]:
            missed.append(what)
        print("\n".join(found[0]), f"{time.perf_counter() - begun:.0f} s", flush=True)
        return found[0]

    tables = ""
    if options.part != "distance":
        rows = [row for scheme in TIMED for row in kept(scheme, timed(scheme, options.rounds, options.tokens))]
        tables += SPEED.format(prompt=exported.PROMPT, count=options.tokens, rows="\n".join(rows))
    if options.part != "speed":
        theirs = Build(options.python, ROOT, ("transformers", "fp32"))
        answers = {register: theirs.answer(exported.pieces(register))[1] for register in probe.REGISTERS}
        theirs.close()
        rows = [
            row
            for scheme in WIDE
            for row in kept(f"distance of {scheme}", exported.distances("onnxruntime", scheme, answers))
        ]
        told = {"pieces": exported.PIECES, "behind": exported.BEHIND, "before": exported.BEFORE}
        tables += DISTANCE.format(rows="\n".join(rows), **told)
    machine = describe("cpu")
    own = ("rounds", "tokens", "part")
    given = "".join(
        f" --{name} {getattr(options, name)}" for name in own if getattr(options, name) != parser.get_default(name)
    )
    report = HEADER.format(
        given=given, date=time.strftime("%Y-%m-%d", time.gmtime()), model=DEFAULT_MODEL, machine=machine.device,
        before=before, after=condition().load_1min or 0.0, library=version("onnxruntime"),
        exporter=version("optimum-onnx"), onnx=version("onnx"), threads=machine.logical_cpus,
        transformers=transformers, torch=torch,
        verdict=f"Missed: {', '.join(missed)}." if missed else "All that was wanted is reached.",
    ) + tables  # fmt: skip
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(report, encoding="utf-8")
    print(report, end="")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
