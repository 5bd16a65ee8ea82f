# SPDX-License-Identifier: Apache-2.0
"""Small valid values for tests: a machine, cells, records and their measurements. Every argument overrides a field."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.model import Kind, Model
from bench.engines import fake
from bench.engines.contract import Engine, LoadRequest
from bench.instruments import Instruments, Reading, machine
from bench.plan.plan import make_plan
from bench.plan.questions import Planned
from bench.plan.selection import Selection
from bench.records.cell import Cell, Precision, Scheme, Weights
from bench.records.record import Ending, Measurement, Outcome, Prediction, Provenance, Record, Unit, Versions
from bench.records.surroundings import Condition, Machine
from bench.run.memory_limit import own_group
from bench.suite import Loading, SuiteRun
from suites import suite

DEVICE = "cpu-test"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
"""What each line of a run's log begins with in a pipe."""
PRECISIONS = {"fp32": Precision.FP32, "fp16": Precision.FP16, "int8": Precision.INT8, "int4": Precision.INT4}
TINY_FAMILY = """\
family: test
organisation: Tests
models:
  - name: tiny
    display: Tiny
    kind: open weights
    repo: tests/tiny
"""
"""A file of the catalogue with one entry, to which fields can be added."""
CLOSED_ENTRY = """\
  - name: closed
    display: Closed
    kind: api only
"""
_ids = count(1)


def make_machine(**overrides: Any) -> Machine:
    """A CPU with two cores and 8 GiB."""
    fields: dict[str, Any] = {
        "device": DEVICE,
        "kind": "cpu",
        "name": "Test CPU",
        "os": "Linux Test",
        "kernel": "6.0",
        "python": "3.11.7",
        "cpu": "Test CPU",
        "cpu_flags": ("avx2",),
        "logical_cpus": 2,
        "memory_bytes": 8 * 2**30,
    }
    return Machine(**fields | overrides)


def make_condition(**overrides: Any) -> Condition:
    """An idle machine."""
    return Condition(**{"load_1min": 0.1, "available_bytes": 4 * 2**30, "cpu_mhz": 2000.0} | overrides)


def make_versions(**packages: str) -> Versions:
    """Versions of this project and of the named packages; `lm_eval="0.4.13"`."""
    return Versions(bench="0.1.0", git="0123456789ab", suite_sha256="0123456789ab", packages=packages)


def make_model(**overrides: Any) -> Model:
    """An open model of one layer."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "display": "Tiny",
        "family": "test",
        "organisation": "Tests",
        "kind": Kind.OPEN,
        "repo": "tests/tiny",
        "architecture": {
            "model_type": "llama",
            "vocab_size": 100,
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 128,
        },
    }
    return Model(**fields | overrides)


def make_scheme(**overrides: Any) -> Scheme:
    """16 bits a weight."""
    return Scheme(**{"name": "fake-fp16", "precision": Precision.FP16, "bits": 16, "method": "known"} | overrides)


def make_cell(suite_name: str = "memory", precision: str = "fp16", **overrides: Any) -> Cell:
    """What the fake backend is asked at the smoke profile."""
    found = suite(suite_name)
    fields: dict[str, Any] = {
        "model": "tiny",
        "weights": Weights.RANDOM,
        "source": "fake",
        "backend": "fake",
        "scheme": f"fake-{precision}",
        "precision": PRECISIONS[precision],
        "suite": suite_name,
        "suite_version": found.VERSION,
        "profile": "smoke",
        "settings": dict(found.PROFILES["smoke"]),
        "device": DEVICE,
    }
    return Cell(**fields | overrides)


def make_record(cell: Cell | None = None, **overrides: Any) -> Record:
    """An `ok` record of `cell` (the fp16 memory cell if none is given) with an id of its own."""
    fields: dict[str, Any] = {
        "id": f"{next(_ids):08x}",
        "run": "20260101T000000Z-abcd",
        "cell": cell or make_cell(),
        "outcome": Outcome(ending=Ending.OK),
        "started": "2026-01-01T00:00:00Z",
        "seconds": 1.5,
        "predicted": Prediction(weights_bytes=100, kv_bytes=10, peak_bytes=200, seconds=1.0),
        "provenance": Provenance(source="fake", files={"none": "0:0"}),
        "threads": 1,
        "machine": make_machine(),
        "before": make_condition(),
        "after": make_condition(),
        "versions": make_versions(),
    }
    return Record(**fields | overrides)


def failed(cell: Cell, ending: Ending = Ending.FAILED, reason: str = "it broke", **overrides: Any) -> Record:
    """A record without measurements and with a reason."""
    return make_record(cell, outcome=Outcome(ending=ending, reason=reason), provenance=None, **overrides)


def sample(name: str, values: Sequence[float] | float, unit: Unit = Unit.BYTE, **labels: Any) -> Measurement:
    """A measurement of one value or many."""
    samples = tuple(values) if isinstance(values, Sequence) else (values,)
    return Measurement(name=name, unit=unit, values=samples, counter="test", labels=labels)


def memory_samples(
    *,
    baseline: int = 1000,
    weights: int = 500,
    unexplained: int = 30,
    slack: int = 20,
    kv: int = 40,
    workspace: int = 70,
) -> tuple[Measurement, ...]:
    """What the memory suite stores when the ledger is this; the cache holds 10 tokens."""
    loaded = baseline + weights + unexplained
    return (
        sample("baseline_bytes", baseline),
        sample("load_peak_bytes", loaded + slack + 5),
        sample("ready_bytes", loaded + slack),
        sample("loaded_bytes", loaded),
        sample("peak_bytes", loaded + kv + workspace),
        sample("peak_anonymous_bytes", 7, part="anonymous"),
        sample("load_s", 2.0, Unit.SECOND),
        sample("kv_bytes", kv, tokens=10),
        sample("weights_bytes", weights),
        sample("weights_part_bytes", weights, storage="bfloat16"),
        sample("linear_quantized", 0.0, Unit.FRACTION),
        sample("linear_bits", 16.0, Unit.BIT),
    )


def speed_samples(
    *,
    prefill_s: Sequence[float] = (0.5, 0.25),
    itl_s: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    per_repeat: int = 2,
    prompt_tokens: int = 100,
    batch: int = 1,
) -> tuple[Measurement, ...]:
    """What the throughput suite stores."""
    labels = {"prompt_tokens": prompt_tokens, "batch": batch}
    return (
        sample("prefill_s", prefill_s, Unit.SECOND, **labels),
        sample("ttft_s", prefill_s, Unit.SECOND, **labels),
        sample("itl_s", itl_s, Unit.SECOND, per_repeat=per_repeat, **labels),
    )


def divergence_samples(
    *,
    kld: Sequence[float] = (0.1, 0.3, 0.2, 0.6),
    nll: Sequence[float] = (2.0, 3.0),
    reference: Sequence[float] = (1.5, 2.5),
    window_tokens: int = 2,
) -> tuple[Measurement, ...]:
    """What the divergence suite stores for a row that is not the reference."""
    labels = {"window_tokens": window_tokens}
    return (
        sample("kld_nat", kld, Unit.NAT, **labels),
        sample("same_top1", [1.0, 0.5], Unit.FRACTION, **labels),
        sample("nll_nat", nll, Unit.NAT, **labels),
        sample("reference_nll_nat", reference, Unit.NAT, **labels),
    )


ANCHOR = "fake fake-fp32 0123456789ab"


def anchor_samples(
    *, kld: Sequence[float] = (0.2, 0.4, 0.3, 0.7), top1: Sequence[float] = (1.0, 0.5), anchor: str = ANCHOR
) -> tuple[Measurement, ...]:
    """What the divergence suite adds for a row that found the fp32 reference of all engines."""
    labels = {"window_tokens": 2, "anchor": anchor}
    return (
        sample("anchor_kld_nat", kld, Unit.NAT, **labels),
        sample("anchor_same_top1", top1, Unit.FRACTION, **labels),
    )


def anchor_row(reference: Cell, kld: Sequence[float] = (0.01, 0.03, 0.02, 0.06), **cell: Any) -> Record:
    """The divergence record of the fp32 row that is that reference, and so measured how far `reference` is from it."""
    labels = {"window_tokens": 2, "anchor": ANCHOR, "reference": f"{reference.key}-0123456789ab"}
    measurements = (*divergence_samples(), sample("anchor_reference_kld_nat", kld, Unit.NAT, **labels))
    return make_record(make_cell("divergence", "fp32", **cell), measurements=measurements)


def quality_samples(
    tasks: Mapping[str, Sequence[float]], *, digest: str = "d1", chance: float = 0.5
) -> tuple[Measurement, ...]:
    """What the quality suite stores: each item's `acc` by task."""
    return tuple(
        sample("acc", values, Unit.FRACTION, task=task, digest=digest, chance=chance) for task, values in tasks.items()
    )


def planned(suite_name: str) -> Planned:
    """A smoke cell of the fake at 16 bits, as the plan makes it."""
    own = Model(name="m", display="M", family="own", organisation="-", kind=Kind.OPEN, repo="a/m")
    selection = Selection(
        models=("m",), schemes=("fake-fp16",), backends=("fake",), suites=(suite_name,), profile="smoke"
    )
    return make_plan(selection, [own], machine.describe("cpu")).cells[0]


def suite_run(suite_name: str, engine: Engine, cache: Path, tools: Instruments | None = None) -> SuiteRun:
    """What a suite is given: that engine, just loaded, and the fake's clock and memory unless others are given."""
    nothing = Reading(total_bytes=0)
    loading = Loading(seconds=1.0, baseline=nothing, peak=nothing, ready=nothing, loaded=nothing)
    tools = tools or Instruments(fake._CLOCK, fake.ArithmeticMemory())
    return SuiteRun(cell=planned(suite_name).cell, engine=engine, instruments=tools, loading=loading, cache=cache)


def dead_process() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    return process.pid


def can_make_group() -> bool:
    """Whether this process may make a memory cgroup of its own, found out without the code under test."""
    one, two = own_group(1), own_group(2)
    if two is not None and "memory" in (two / "cgroup.subtree_control").read_text().split():
        return os.access(two, os.W_OK)
    return one is not None and os.access(one, os.W_OK)


def called(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str, str]:
    """`bench` with these arguments in this process: exit code, stdout and stderr."""
    from bench.cli import app, guarded

    capsys.readouterr()
    try:
        code: Any = guarded(lambda: app([str(argument) for argument in arguments]))
    except SystemExit as done:
        code = done.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def engine_of(scheme: str) -> fake.FakeEngine:
    """The fake at that scheme."""
    asked = LoadRequest(
        model=planned("memory").model, weights=Weights.RANDOM, scheme=fake.BACKEND.scheme(scheme), device="cpu"
    )
    return fake.FakeEngine(asked)


def divergence_run(scheme: str, folder: Path, **changes: Any) -> SuiteRun:
    """A divergence cell of that scheme whose reference and anchor lie in a folder."""
    run = suite_run("divergence", engine_of(scheme), folder)
    run.cell = run.cell.model_copy(update={"scheme": scheme, "precision": fake.BACKEND.scheme(scheme).precision})
    run.reference, run.anchor = folder / "reference", folder / "anchor-1"
    run.is_reference, run.is_anchor = scheme == "fake-fp16", scheme == "fake-fp32"
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def unlogged(errors: str) -> str:
    """What a run in a pipe said on stderr besides its log."""
    return "".join(line for line in errors.splitlines(keepends=True) if not re.match(STAMP, line))
