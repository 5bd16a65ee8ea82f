# SPDX-License-Identifier: Apache-2.0
# The fakes have the names of the libraries they stand for, and those need no explaining.
# ruff: noqa: D102
"""The roof of a device: known rates come back, a run whose device changed is marked, shares are those of the roof."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import make_cell, make_condition, make_record, sample, speed_samples

from bench.cli import app, guarded
from bench.engines import fake
from bench.instruments import machine, roof, roofline
from bench.instruments.disturbance import change, drift, most_changed
from bench.judge.figures import figures
from bench.judge.joined import joined
from bench.judge.reasons import no_share
from bench.judge.rows import newest
from bench.processes import module
from bench.records.record import Run, Unit
from bench.records.store import Store
from bench.records.surroundings import ROOF_METHOD, Condition, Roof
from bench.run import measure
from bench.views.roofs import OLDER, TYPES, roofs
from bench.views.table import people


class Virtual:
    """Kernels that copy a gigabyte a second and multiply at a known rate, on a clock of their own."""

    name, threads = "virtual", 1
    layouts: tuple[str, ...] = ("linear", "matmul")

    def __init__(self, **slower: float) -> None:
        """`slower` divides the rate of a layout."""
        self.seconds = 0.0
        self.slower = slower
        self.tried: list[tuple[str, str, roofline.Shape]] = []

    def now(self) -> float:
        return self.seconds

    def spend(self, seconds: float) -> None:
        self.seconds += seconds

    def copy(self, size: int) -> Callable[[], object]:
        return lambda: self.spend(2 * size / 1e9)

    def rate(self, kind: str, shape: roofline.Shape) -> float:
        return {"fp32": 1e11, "bf16": 1e10, "fp16": 1e14}[kind]

    def product(self, kind: str, layout: str, shape: roofline.Shape) -> Callable[[], object]:
        if kind == "int8":
            raise RuntimeError("no such kernel\nand more")
        self.tried.append((kind, layout, shape))
        rate = self.rate(kind, shape) / self.slower.get(layout, 1)
        return lambda: self.spend(2 * math.prod(shape) / rate)

    def read(self, kind: str, size: int) -> Callable[[], object]:
        if kind == "fp16":
            raise RuntimeError("cannot read")
        return lambda: self.spend(size / roofline.SLICES / {"fp32": 2e9, "bf16": 5e8}[kind])


def test_known_rates_come_back() -> None:
    """Bytes over seconds, two operations for each multiply-add; what lacks a kernel says so."""
    kernels = Virtual(matmul=2)
    rates = roofline.measure(kernels, "cpu", kernels.now)
    assert rates.copy_bytes_per_s == pytest.approx([1e9] * 3)
    assert {kind: values[0] for kind, values in rates.read_bytes_per_s.items()} == pytest.approx(
        {"fp32": 2e9, "bf16": 5e8}
    )
    assert {kind: values[0] for kind, values in rates.matrix_per_s.items()} == pytest.approx(
        {"fp32": 1e11, "bf16": 1e10, "fp16": 1e14}
    )
    assert rates.lacking == {"int8": "RuntimeError: no such kernel", "read fp16": "RuntimeError: cannot read"}


@pytest.mark.parametrize(("slow", "fast"), [("matmul", "linear"), ("linear", "matmul")])
def test_the_best_layout_is_the_roof_and_a_hopeless_one_is_tried_once(slow: str, fast: str) -> None:
    """As bfloat16 without AVX-512: row-major thirteen times slower than as a linear layer."""
    kernels = Virtual(**{slow: 13})
    rates = roofline.measure(kernels, "cpu", kernels.now)
    assert max(rates.matrix_per_s["bf16"]) == pytest.approx(1e10)
    assert rates.products["bf16"].startswith(fast)
    assert len([shape for _, layout, shape in kernels.tried if layout == slow]) == 3  # once for each type


def test_the_best_shape_is_the_roof() -> None:
    """A unit that does narrow layers at a tenth, or wide ones: what the model reaches is below it in either case."""
    for favourite in roofline.SHAPES:
        kernels = Virtual()
        kernels.rate = lambda kind, shape, best=favourite: 5e11 if shape == best else 1e11  # type: ignore[method-assign, misc]
        rates = roofline.measure(kernels, "cpu", kernels.now)
        assert rates.products["fp32"].split()[1] == "x".join(map(str, favourite))
        assert max(rates.matrix_per_s["fp32"]) == pytest.approx(5e11)


def test_no_product_is_tried_that_would_take_long() -> None:
    """Expected to take 0.06 s by those before it: an emulated type is measured at small shapes, a fast one at all."""
    kernels = Virtual()
    roofline.measure(kernels, "cpu", kernels.now)
    tried = {kind: [shape for k, layout, shape in kernels.tried if k == kind and layout == "linear"] for kind in TYPES}
    assert max(tried["bf16"]) == (256, 576, 1536)
    assert max(tried["fp32"]) == (512, 2048, 2048)
    assert max(tried["fp16"]) == (2048, 2048, 2048)


def test_calls_that_all_wait_for_their_threads_do_not_keep_a_roof_at_its_smallest_shape() -> None:
    """48 ms for any call beside six other programs: its seconds do not grow with its work, so larger ones are tried."""
    kernels = Virtual()
    plain = kernels.product

    def waiting(kind: str, layout: str, shape: roofline.Shape) -> Callable[[], object]:
        call = plain(kind, layout, shape)
        return lambda: (call(), kernels.spend(0.048))

    kernels.product = waiting  # type: ignore[method-assign]
    roofline.measure(kernels, "cpu", kernels.now)
    assert ("fp32", "linear", (256, 576, 1536)) in kernels.tried


def test_a_unit_that_speeds_up_while_it_is_used_is_measured_when_it_has() -> None:
    """Half as fast in the first 40 ms of work with a type: no sample is."""
    kernels = Virtual()
    plain = kernels.product
    began: dict[str, float] = {}

    def slow_at_first(kind: str, layout: str, shape: roofline.Shape) -> Callable[[], object]:
        call = plain(kind, layout, shape)

        def product() -> None:
            call()
            if kernels.seconds - began.setdefault(kind, kernels.seconds) < 0.04:
                call()

        return product

    kernels.product = slow_at_first  # type: ignore[method-assign]
    rates = roofline.measure(kernels, "cpu", kernels.now)
    assert rates.matrix_per_s["fp16"] == pytest.approx([1e14] * 25)
    assert {round(rate) for rate in rates.matrix_per_s["bf16"]} == {10_000_000_000}


@pytest.mark.parametrize("rate", [5e9, 2e10, 1e11, 5e11, 5e12])
def test_a_roof_costs_less_than_three_seconds_on_a_slow_device(rate: float) -> None:
    """10 GB/s, and all types at one rate, row-major ones a tenth: twice a run, and two starts of the library."""
    kernels = Virtual(matmul=10)
    kernels.copy = lambda size: lambda: kernels.spend(2 * size / 1e10)  # type: ignore[method-assign]
    kernels.read = lambda kind, size: lambda: kernels.spend(size / 4 / 1e10)  # type: ignore[method-assign]
    kernels.rate = lambda kind, shape: rate  # type: ignore[method-assign]
    rates = roofline.measure(kernels, "cpu", kernels.now)
    assert len(rates.matrix_per_s) == 3
    assert 0.5 < kernels.seconds < 2.2


def test_numpy_multiplies_and_copies() -> None:
    """The products are right and every byte arrives."""
    kernels = roofline.NumpyKernels(2)
    kernels.copy(1001)()
    for layout in kernels.layouts:
        assert float(kernels.product("fp32", layout, (2, 4, 3))()[1][2]) == 0.5
    size = roofline.SLICES * 3 * roofline.READ_WIDTH * 4
    value = struct.unpack("f", bytes([roofline.FILLING] * 4))[0]
    assert kernels.read("fp32", size)() == pytest.approx([roofline.READ_WIDTH * value] * 3, rel=1e-5)
    for ask in (lambda: kernels.product("int8", "linear", (2, 4, 3)), lambda: kernels.read("bf16", size)):
        with pytest.raises(NotImplementedError, match="fp32 alone"):
            ask()


def test_torch_multiplies_and_reads_every_type() -> None:
    """The products are right in either layout; a slice of the weights is read, the next one by the next call."""
    torch = pytest.importorskip("torch")
    kernels = roofline.TorchKernels(torch, "cpu", 1)
    size = roofline.SLICES * 3 * roofline.READ_WIDTH * 4
    try:
        kernels.copy(size)()
        for kind in TYPES:
            for layout in kernels.layouts:
                found = kernels.product(kind, layout, (32, 48, 16))()[0]
                assert (found.shape, float(found.float().mean())) == ((32, 16), 48.0)
            width = 1 if kind == "int8" else 2 if kind.endswith("16") else 4
            assert kernels.read(kind, size)()[0].shape == (1, 12 // width)
    finally:
        torch.set_grad_enabled(True)


def test_the_worker_answers_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints is what the parent reads."""
    from bench.instruments import roof_worker

    monkeypatch.setattr(roofline, "BUDGET_S", 0.0)
    monkeypatch.setattr(roofline, "WARM_S", 0.0)
    monkeypatch.setattr(roofline, "LONGEST_S", 0.0)
    monkeypatch.setattr(roofline, "READ_S", 0.0)
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(sys, "argv", ["roof_worker", "cpu", "numpy", "1"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    assert roof_worker.main() == 0
    found = roof.parse(capsys.readouterr().out)
    assert found.engine.startswith("numpy ") and found.threads == 1
    assert found.method == ROOF_METHOD and found.products["fp32"].endswith("128x256x256")
    assert len(found.copy_bytes_per_s) == len(found.matrix_per_s["fp32"]) == len(found.read_bytes_per_s["fp32"]) == 3
    assert sorted(found.lacking) == ["bf16", "fp16", "int8"]


@pytest.mark.parametrize(("requires", "library"), [(("torch",), "torch"), (("numpy",), "numpy")])
def test_the_library_is_the_one_the_models_run_on(
    monkeypatch: pytest.MonkeyPatch, requires: tuple[str, ...], library: str
) -> None:
    """Torch where a backend needs it, else NumPy; a CPU's roof is asked without a GPU, in the threads it may use."""
    asked: dict[str, Any] = {}

    def begin(command: list[str], **options: Any) -> AbstractContextManager[SimpleNamespace]:
        asked.update(command=command, env=options["env"])
        said = 'noise\n{"engine": "x", "copy_bytes_per_s": [1234567.0], "matrix_per_s": {}}\n'
        return nullcontext(SimpleNamespace(communicate=lambda *_, **__: (said, ""), kill=lambda: None, returncode=0))

    monkeypatch.setattr(subprocess, "Popen", begin)
    engine = replace(fake.BACKEND, roof=None, requires=requires)
    assert measure.roof_of([engine], "cpu", 3, lambda: None).copy_bytes_per_s == (1234600.0,)
    assert asked["command"] == module("bench.instruments.roof_worker", "cpu", library, 3)
    assert (asked["env"]["CUDA_VISIBLE_DEVICES"], asked["env"]["OMP_NUM_THREADS"]) == ("", "3")


def replaced(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let this code run instead of the worker."""
    monkeypatch.setattr(roof, "module", lambda *_: [sys.executable, "-c", code])


def test_a_roof_whose_process_failed_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on without one."""
    replaced(monkeypatch, "import sys; sys.exit('a\\nboom')")
    found = roof.measure_roof("numpy", "cpu")
    assert (found.copy_bytes_per_s, found.lacking) == ((), {"copy": "exit 1: boom"})


def test_a_roof_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed, and the run goes on without a roof."""
    started = []

    def late(process: subprocess.Popen[str], *_: Any, **__: Any) -> None:
        started.append(process)
        raise subprocess.TimeoutExpired("x", 5)

    replaced(monkeypatch, "input()")
    monkeypatch.setattr(subprocess.Popen, "communicate", late)
    found = roof.measure_roof("numpy", "cpu")
    assert found.lacking == {"copy": "TimeoutExpired: Command 'x' timed out after 5 seconds"}
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_a_roof_is_measured_when_others_are_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its process has begun by then, and has measured nothing."""
    begun = tmp_path / "begun"
    replaced(
        monkeypatch, f"open({str(begun)!r}, 'w').close(); input(); open({str(tmp_path / 'went on')!r}, 'w').close()"
    )
    seen = []

    def until() -> None:
        while not begun.exists():
            pass
        seen.append(sorted(path.name for path in tmp_path.iterdir()))

    roof.measure_roof("numpy", "cpu", None, until)
    assert seen == [["begun"]]
    assert (tmp_path / "went on").exists()


def conditions(before: Roof | None, after: Roof | None) -> tuple[Condition, Condition]:
    return make_condition(roof=before), make_condition(roof=after)


USED = ("memory", "fp32")


def test_a_device_that_kept_its_speed_is_not_marked() -> None:
    """Up to 10 % in the median is no drift; one wild sample of many is none; nor is a run that nobody looked at."""
    steady = Roof(engine="x", copy_bytes_per_s=(100, 100, 100), matrix_per_s={"fp32": (50,)})
    later = Roof(engine="x", copy_bytes_per_s=(91, 91, 10), matrix_per_s={"fp32": (54,), "int8": (1,)})
    assert drift(*conditions(steady, later), USED) is None
    assert drift(*conditions(steady, None), USED) is None
    assert drift(*conditions(None, steady), USED) is None


def test_a_device_that_slowed_down_is_marked_with_its_worst_change() -> None:
    """The caveat names the quantity and by how much."""
    before = Roof(engine="x", copy_bytes_per_s=(100,), matrix_per_s={"fp32": (50,)})
    after = Roof(engine="x", copy_bytes_per_s=(88,), matrix_per_s={"fp32": (40,)})
    found = drift(*conditions(before, after), USED)
    assert found is not None
    assert (found.kind, found.text) == (
        "drifted", "between its start and its end this run's fp32 matrix rate changed by -20%",
    )  # fmt: skip
    slower = drift(*conditions(before, after), ["memory"])
    assert slower is not None and "memory bandwidth changed by -12%" in slower.text


def test_a_change_of_what_a_row_does_not_use_is_none() -> None:
    """bf16 43 times as fast, as a first row-major product once was: nothing to a row of float32."""
    before = Roof(engine="x", copy_bytes_per_s=(100,), matrix_per_s={"fp32": (50,), "bf16": (1,)})
    after = before.model_copy(update={"matrix_per_s": {"fp32": (51,), "bf16": (43,)}})
    assert most_changed(before, after) == ("bf16", pytest.approx(42))
    assert drift(*conditions(before, after), USED) is None
    assert drift(*conditions(before, after), ()) is None
    assert drift(*conditions(before, after), ["bf16"]) is not None


@pytest.mark.parametrize("other", [{"engine": "y"}, {"threads": 1}, {"method": 2}])
def test_only_comparable_looks_tell_a_change(other: dict[str, Any]) -> None:
    """The same library, as many threads, the same method."""
    before = Roof(engine="x", threads=2, copy_bytes_per_s=(100,))
    after = Roof(engine="x", threads=2, copy_bytes_per_s=(50,))
    assert change(before, after, "memory") == -0.5
    assert change(before, after, "fp32") is None
    after = after.model_copy(update=other)
    assert change(before, after, "memory") is None
    assert most_changed(before, after) == ("", 0.0)
    assert drift(*conditions(before, after), USED) is None


def test_what_memory_sustains_is_the_best_of_copying_and_reading() -> None:
    """Of today's method the best sample counts, whatever the type; an older look copied alone and its median counts."""
    roof = Roof(engine="x", copy_bytes_per_s=(1, 100, 3), read_bytes_per_s={"fp32": (90, 120), "bf16": (4,)})
    today = roof.model_copy(update={"method": 2})
    assert (today.memory(), today.rates(), today.reads()) == (120, {"copy": 100}, {"fp32": 120, "bf16": 4})
    assert roof.model_copy(update={"read_bytes_per_s": {}}).memory() == 3
    assert Roof(engine="x").memory() is None
    assert Roof.model_validate({"engine": "x", "copy_bytes_per_s": [5]}).method == 1  # as older records are read


def test_drift_marks_the_records_that_share_its_roof(tmp_path: Path) -> None:
    """Not those of an interrupted call with the same run id, whose own end nobody saw; nor what holds no speed."""
    store = Store(tmp_path)
    first, second = (Roof(engine="x", copy_bytes_per_s=(value,)) for value in (100.0, 101.0))
    for name, found in (("a", first), ("b", second)):
        for suite, measured in (("throughput", speed_samples()), ("memory", ())):
            cell = make_cell(suite, scheme=f"fake-{name}")
            store.write(make_record(cell, run="r", measurements=measured, before=make_condition(roof=found)))
    after = make_condition(roof=Roof(engine="x", copy_bytes_per_s=(50.0,)))
    path = store.write_run(
        Run(run="r", device="cpu-test", ended="2026-01-01T00:00:00Z", before=make_condition(roof=second), after=after)
    )
    assert path == tmp_path / "cpu-test/runs/20260101T000000Z-r.json"
    found = joined(store.records(), store.runs())
    kinds = {(record.cell.scheme[-1], record.cell.suite): [c.kind for c in record.warnings] for record in found}
    assert kinds == {
        ("a", "throughput"): [],
        ("a", "memory"): [],
        ("b", "throughput"): ["drifted"],
        ("b", "memory"): [],
    }
    path.write_text("{}")
    assert len(list(joined(store.records(), store.runs()))) == 4
    assert store.unreadable[0].startswith(f"{path}:")


def test_shares_are_those_of_the_roof() -> None:
    """40 bytes a step at 10 steps a second of 1000; 6 operations a token at 200 tokens a second of 4800."""
    terms = (
        sample("read_bytes_per_step", 40.0, Unit.BYTE, prompt_tokens=100, batch=1),
        sample("operations_per_token", 6.0, Unit.COUNT, compute="bf16"),
    )
    speed = speed_samples(prefill_s=(0.5, 0.5), itl_s=(0.1, 0.1, 0.1, 0.1))
    measured = make_condition(roof=Roof(engine="x", copy_bytes_per_s=(1000,), matrix_per_s={"bf16": (4800,)}))
    found = figures(make_record(make_cell("throughput"), measurements=speed + terms, before=measured))
    assert found["decode_bandwidth_share"].value == pytest.approx(0.4)
    assert found["prefill_matrix_share"].value == pytest.approx(0.25)
    lacking = make_condition(roof=Roof(engine="numpy", copy_bytes_per_s=(1000,), matrix_per_s={"fp32": (1,)}))
    assert "prefill_matrix_share" not in figures(
        make_record(make_cell("throughput"), measurements=speed + terms, before=lacking)
    )
    assert "decode_bandwidth_share" not in figures(make_record(make_cell("throughput"), measurements=speed + terms))


def test_the_roofs_of_every_run_are_listed_with_what_changed_and_what_they_cost() -> None:
    """Medians at start and end, why a type has none; what changed most, and whether that counts."""
    lacking = {"fp16": "no kernel", "bf16": "no kernel"}
    before = Roof(
        engine="torch 2.13.0+cpu", threads=2, seconds=2.56, copy_bytes_per_s=(25e9, 26e9, 9e9), lacking=lacking,
        matrix_per_s={"fp32": (3.6e11,), "int8": (3e12, 4e12)},
    )  # fmt: skip
    after = before.model_copy(update={"seconds": 2.4, "matrix_per_s": {"fp32": (3.6e11,), "int8": (2.8e12,)}})
    steady = before.model_copy(update={"matrix_per_s": {**before.matrix_per_s, "fp32": (3.78e11,)}})
    listed = [
        Run(run="r", device="c", ended=f"2026-01-0{day}T03:31:01Z", before=make_condition(roof=before), after=end)
        for day, end in ((2, make_condition(roof=steady)), (1, make_condition(roof=after)), (3, make_condition()))
    ]  # fmt: skip
    table = roofs(listed)
    assert table.titles[3:] == ["copy GB/s", "read GB/s", "fp32", "bf16", "fp16", "int8", "took", "change"]
    start = ["start", "torch 2.13.0 [1]", "25", "n/a [2]", "0.36", "n/a [3]", "n/a [3]", "3.5", "2.6 s", ""]
    assert table.rows[0] == ["2026-01-01", *start]
    assert table.rows[1][:3] + table.rows[1][8:] == [
        "03:31:01",
        "end",
        "2 threads",
        "2.8",
        "2.4 s",
        "int8 -20% drifted",
    ]
    assert table.rows[2] == ["2026-01-02", *start]
    assert table.rows[3][-1] == "fp32 +5%"
    assert (len(table.rows), table.notes) == (4, [OLDER, "not measured", "no kernel"])
    today = before.model_copy(update={"method": 2, "read_bytes_per_s": {"fp32": (27e9, 21e9), "bf16": (1e9,)}})
    end = make_condition(roof=today)
    other = Run(run="r", device="c", ended="2026-01-03T03:31:01Z", before=make_condition(roof=before), after=end)
    (start, end) = roofs([other]).rows
    assert (start[-1], end[2:6], end[-1]) == ("", ["2 threads", "26", "27", "0.36"], "not comparable [1]")


@pytest.mark.parametrize(
    ("change", "decode", "prefill"),
    [
        ({}, "", ""),
        ({"compute": "bf16"}, "", "bf16 was not measured of its device: numpy has none"),
        ({"compute": None}, "", "the type that its kernels multiply in is not known"),
        ({"copy": ()}, "copy was not measured of its device: too small", ""),
        ({"roof": False}, *["measured without the roof of its device or the bytes and operations of a token"] * 2),
        ({"objective": "masked"}, *["bytes and operations of a token are counted for decoders alone"] * 2),
    ],
)
def test_a_rate_that_is_no_share_says_why(change: dict[str, Any], decode: str, prefill: str) -> None:
    """In a footnote of the speed view, where the cell reads n/a; a figure that is there says nothing."""
    roof = Roof(
        engine="numpy", copy_bytes_per_s=change.get("copy", (1e9,)), matrix_per_s={"fp32": (1e11,)},
        lacking={"bf16": "numpy has none", "copy": "too small"},
    )  # fmt: skip
    cell = make_cell("throughput")
    objective = {"objective": change["objective"]} if "objective" in change else {}
    terms = (
        sample("read_bytes_per_step", 40.0, Unit.BYTE, prompt_tokens=100, batch=1),
        sample("operations_per_token", 6.0, Unit.COUNT, compute=change.get("compute", "fp32")),
    )
    record = make_record(
        cell.model_copy(update={"settings": {**cell.settings, **objective}}),
        measurements=speed_samples() + (() if objective else terms),
        before=make_condition(roof=roof if change.get("roof", True) else None),
    )
    assert (no_share(record, "decode_bandwidth_share"), no_share(record, "prefill_matrix_share")) == (decode, prefill)
    assert no_share(record, "ttft_s") == ""
    table = people(newest([record]), ["decode_share", "prefill_share"])
    assert [cell.startswith("n/a [") for cell in table.rows[0][3:]] == [bool(decode), bool(prefill)]
    assert set(table.notes) == {decode, prefill} - {""}


def test_the_command_lists_roofs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a real run on the fake; where nobody ran, it says what to do."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))

    def ask(*words: str) -> str:
        capsys.readouterr()
        guarded(lambda: app([*words, "--results", str(tmp_path)], standalone_mode=False))
        return capsys.readouterr().out

    assert "no run that measured its device matches" in ask("show", "--columns", "roof")
    ask(
        "run",
        "--backend",
        "fake",
        "--profile",
        "smoke",
        "--suite",
        "throughput",
        "--precision",
        "fp16",
        "--device",
        "cpu",
    )
    page = ask("show", "--columns", "roof", "--format", "md")
    assert "| known | 1 | 0.9 | 0.1 | 0.05 | n/a [1] | 0.2 | 0.0 s |" in page
    assert "`drifted`" in page


def test_a_run_measures_its_roof_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real command: the fake's known shares come back, and a slower end marks the records."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    halved = {kind: tuple(rate / 2 for rate in rates) for kind, rates in fake.ROOF.read_bytes_per_s.items()}
    slower = fake.ROOF.model_copy(update={"copy_bytes_per_s": (8e8,), "read_bytes_per_s": halved})
    answers = iter([fake.ROOF, slower])
    happened: list[str] = []
    look = machine.condition
    monkeypatch.setattr(measure, "roof_of", lambda *_: happened.append("roof") or next(answers))
    monkeypatch.setattr(measure.machine, "condition", lambda *given: happened.append("state") or look(*given))
    monkeypatch.setattr(measure.threads, "chosen", lambda *_: happened.append("sweep"))
    chosen = ["--backend", "fake", "--profile", "smoke", "--suite", "throughput", "--precision", "fp16"]
    guarded(lambda: app(["run", *chosen, "--device", "cpu", "--results", str(tmp_path)], standalone_mode=False))
    store = Store(tmp_path)
    (record,), (run,) = joined(store.records(), store.runs()), store.runs()
    # whatever this call computes before its cells would pass for a busy machine
    assert happened[0] == "state"
    assert [what for what in happened if what != "sweep"] == ["state", "roof", "state", "roof"]
    found = figures(record)
    # 18 MB less 0.5 MB looked up, and 136 positions of 1000 bytes, 40 times a second, of 1 GB/s
    assert found["decode_bandwidth_share"].value == pytest.approx(40 * (17_500_000 + 136_000) / 1e9)
    assert found["prefill_matrix_share"].value == pytest.approx(2000 * 16_000_000 / 5e10)
    assert (run.run, run.before, run.after.roof) == (record.run, record.before, slower)
    assert "drifted" in [caveat.kind for caveat in record.warnings]
    stored = json.loads(next(tmp_path.glob("*/*/*/*/*.json")).read_text())
    assert "drifted" not in [caveat["kind"] for caveat in stored["warnings"]]


def test_the_parent_stays_light() -> None:
    """Asking for a roof imports no framework into the process that waits."""
    code = "import sys, bench.run.measure; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    paths = {**os.environ, "PYTHONPATH": str(machine.ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=paths)
    assert done.stdout == "[]\n"
