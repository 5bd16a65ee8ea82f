# SPDX-License-Identifier: Apache-2.0
"""The steps of `gpu_check.py`, each in a process of its own: prints one line of JSON, a list of findings.

    python -m benchmarks.gpu_check_steps STEP --device cuda|cpu --model NAME --out FOLDER

What only CUDA can show says so on a CPU: nothing stands in for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from bench.catalog.entries import read_catalog, select
from bench.engines.contract import DoesNotFit, LoadRequest
from bench.engines.registry import backend
from bench.instruments import energy, machine
from bench.instruments.roof import measure_roof
from bench.judge.figures import figures
from bench.judge.stats import ratio_of_medians
from bench.plan.plan import Plan, make_plan
from bench.plan.selection import Selection
from bench.records.cell import Weights
from bench.records.record import Ending, Record, Run
from bench.records.store import Store
from bench.records.surroundings import Roof
from bench.run.assemble import now
from bench.run.display import LiveDisplay
from bench.run.options import RunOptions
from bench.run.runner import Runner, new_run_id
from bench.units import human_bytes
from suites.repeats import one_repeat

SCHEMES = ("bf16", "bnb-int8", "bnb-nf4")
NEED = {"bnb-int8": "bitsandbytes", "bnb-nf4": "bitsandbytes"}
LOAD_S, CELLS_S = 70.0, 60.0
"""Longest load or cell, and seconds of measuring of one scheme."""
PROMPT, TOKENS, ROUNDS = 512, 64, 8
NEAR, WEIGHTS_NEAR, PEAK_NEAR, PEAK_FLOOR = 0.03, 0.01, 0.05, 150 << 20
"""How far a bare loop, predicted weights and predicted peaks may be; a peak is near within the floor too."""
KNOWN = 1 << 30
"""Bytes of the tensors by which counters are tried."""
CONTEXT_BYTES = 2 << 30
"""What the driver may hold beyond the allocator: context, kernels, libraries' workspaces."""
CUDA_ALONE = "only CUDA shows this"
UNENDED = "null"
UNTOLD = "no UUID"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    found: str
    holds: bool | None = None
    """Whether it is as it should be, None where it is told and not judged."""


class Here:
    """What a step is about."""

    def __init__(self, device: str, model: str, out: Path) -> None:
        self.device, self.out = device, out
        (self.model,) = select(read_catalog(), [model])
        self.engines = backend("transformers")
        self.store = Store(out / "results")

    @property
    def cuda(self) -> bool:
        """Whether it computes on a GPU."""
        return self.device == "cuda"

    def asked(self, scheme: str) -> LoadRequest:
        """What an engine is told to load here."""
        found = self.engines.scheme(scheme)
        assert found is not None
        return LoadRequest(model=self.model, weights=Weights.RANDOM, scheme=found, device=self.device)

    def loaded(self, scheme: str) -> Any:
        """The engine itself."""
        asked = self.asked(scheme)
        self.engines.prepare(asked)
        return self.engines.load(asked)

    def cells(self, scheme: str, *, suites: tuple[str, ...], limit: int | None = None) -> list[Record]:
        """Those cells through the harness's own runner, one process for the load, records in the folder."""
        described = machine.describe(self.device)
        asked = Selection(
            models=(self.model.name,), schemes=(scheme,), suites=suites, weights=Weights.RANDOM, device=self.device,
            profile="standard", memory_limit_bytes=limit, force=True,
        )  # fmt: skip
        made = make_plan(asked, read_catalog(), described, self.store.records(), 0)
        before = machine.condition(self.device).model_copy(update={"roof": self.roof()})
        options = RunOptions(timeout_s=LOAD_S, budget_s=CELLS_S)
        run, plan = new_run_id(), Plan(cells=made.cells, left_out=())
        with LiveDisplay(plan, Console(stderr=True), quiet=True) as display:
            runner = Runner(
                run=run, store=self.store, described=described, before=before, observer=display, options=options
            )
            records = runner.run(plan)
        after = machine.condition(self.device)
        ended = f"{now():%Y-%m-%dT%H:%M:%SZ}"
        self.store.write_run(Run(run=run, device=described.device, ended=ended, before=before, after=after))
        return records

    def roof(self) -> Roof | None:
        """The look that an earlier step kept, else one now; None where that one did not come to its end."""
        kept = self.out / "roof.json"
        if not kept.exists():
            kept.write_text(UNENDED, encoding="utf-8")  # what hangs or dies here is not tried again by the next step
            kept.write_text(measure_roof("torch", self.device).model_dump_json(), encoding="utf-8")
        text = kept.read_text(encoding="utf-8")
        return None if text == UNENDED else Roof.model_validate_json(text)


def devices(here: Here) -> Iterator[Finding]:
    """Libraries, the cards that torch and the driver see, and whether they mean the same first one."""
    import torch

    installed = machine.installed(["torch", "transformers", "bitsandbytes", "accelerate", "lm_eval", "zeus"])
    yield Finding("libraries", ", ".join(f"{name} {version}" for name, version in installed.items()))
    yield Finding("torch is built for", f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        card = torch.cuda.get_device_properties(index)
        yield Finding(
            f"CUDA device {index}",
            f"{card.name}, capability {card.major}.{card.minor}, {human_bytes(card.total_memory)}, {_uuid(card)}",
        )
        yield from tried(f"CUDA device {index} computes", lambda index=index: _computes(index))  # type: ignore[misc]
    driver = machine.gpu()
    if not here.cuda or driver is None or not count:
        yield Finding("CUDA devices", f"torch sees {count}, the driver {'one or more' if driver else 'none'}", None)
        return
    first = _uuid(torch.cuda.get_device_properties(0)).removeprefix("GPU-")
    yield Finding("the driver's first card", f"{driver['name']}, driver {driver['driver']}, CUDA {driver['cuda']}")
    same = str(driver["uuid"]).removeprefix("GPU-") == first
    told = "the same" if same else f"{driver['uuid']} and {first}"
    judged = first != UNTOLD and driver["uuid"] is not None
    yield Finding("first card of driver and torch", told, same if judged else None)


def tried(what: str, work: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of one part; where it fails that is a finding, and the parts behind it are looked at too."""
    try:
        yield from work()
    except Exception as error:  # noqa: BLE001 - whatever a library raises on a machine that nobody has seen
        said = next(iter(str(error).splitlines()), "")
        yield Finding(what, f"failed: {type(error).__name__}: {said[:200]}", holds=False)


def _uuid(card: Any) -> str:
    """As torch tells it, which older ones do not."""
    return str(getattr(card, "uuid", UNTOLD))


def _computes(index: int) -> Iterator[Finding]:
    """A sum on that card, and what is free on it."""
    import torch

    found = float(torch.ones(1000, device=f"cuda:{index}").sum())
    free, _ = torch.cuda.mem_get_info(index)
    yield Finding(f"CUDA device {index} computes", f"{found:g} of 1000 ones, {human_bytes(free)} free", found == 1000)


def roofs(here: Here) -> Iterator[Finding]:
    """What the device can do at most."""
    roof = here.roof()
    assert roof is not None, "an earlier look did not come to its end"
    for name, rate in sorted(roof.quantities().items()):
        yield Finding(f"roof: {name}", f"{rate:.3g}/s", rate > 0)
    for name, why in sorted(roof.lacking.items()):
        yield Finding(f"roof: {name}", f"none: {why}")


def job(here: Here) -> Iterator[Finding]:
    """Memory and speed of the model at true size with random weights, at every precision whose library is here."""
    for scheme in SCHEMES:
        package = NEED.get(scheme)
        if package and not machine.installed([package]):
            yield Finding(scheme, f"{package} is not installed")
            continue
        yield from tried(scheme, lambda scheme=scheme: _measured(here, scheme))  # type: ignore[misc]


def _measured(here: Here, scheme: str) -> Iterator[Finding]:
    """The cells of one scheme."""
    for record in here.cells(scheme, suites=("memory", "throughput")):
        yield from _judged(here, record)


def _judged(here: Here, record: Record) -> Iterator[Finding]:
    """How one cell ended, what it gave, and how far predictions and counters are apart."""
    at = f"{record.cell.scheme} {record.cell.suite}"
    ok = record.outcome.ending is Ending.OK
    yield Finding(f"{at}: outcome", f"{record.outcome.ending} {record.outcome.reason}".strip(), ok)
    if not ok:
        return
    found, predicted = figures(record), record.predicted
    if "weights_bytes" in found and predicted.weights_bytes:
        off = predicted.weights_bytes / found["weights_bytes"].value - 1
        yield Finding(f"{at}: weights predicted", f"{off:+.2%} of the census", abs(off) <= WEIGHTS_NEAR)
    if "peak_bytes" in found and predicted.peak_bytes:
        peak = found["peak_bytes"].value
        off = predicted.peak_bytes - peak
        near = abs(off) <= max(PEAK_NEAR * peak, PEAK_FLOOR)
        yield Finding(f"{at}: peak predicted", f"{off / peak:+.1%} of {human_bytes(peak)}", near)
    yield from _counters(here, record, at)
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s"):
        if name in found:
            yield Finding(f"{at}: {name}", f"{found[name].value:.1f} ±{found[name].half_width or 0:.1f}")
    for name in ("decode_bandwidth_share", "prefill_matrix_share"):
        if name in found:
            yield Finding(f"{at}: {name}", f"{found[name].value:.0%}", found[name].value <= 1)
    for joules in (m for m in record.measurements if m.name.endswith("_j")):
        told = f"{joules.values[0]:.2f} J ({joules.counter})" if joules.values else str(joules.labels.get("reason"))
        yield Finding(f"{at}: {joules.name}", told)


def _counters(here: Here, record: Record, at: str) -> Iterator[Finding]:
    """The driver's figure against the allocator's, at the peak of the memory suite."""
    total, reserved = record.measurement("peak_bytes"), record.measurement("peak_reserved_bytes")
    if not here.cuda or total is None or reserved is None:
        return
    beyond = total.values[0] - reserved.values[0]
    told = f"{human_bytes(total.values[0])} ({total.counter}), {human_bytes(beyond)} beyond the allocator"
    yield Finding(f"{at}: driver against allocator", told, 0 <= beyond <= CONTEXT_BYTES)


def bare(here: Here) -> Iterator[Finding]:
    """Decode by the throughput suite and by a bare loop, between two CUDA events, taking turns in one process."""
    import torch

    engine = here.loaded("bf16")
    clock = here.engines.instruments(here.device).clock
    size = min(PROMPT, engine.context_length - TOKENS)
    prompt = [7 + index % 1000 for index in range(size)]
    ends = torch.tensor(sorted(engine.end_tokens), device=here.device)
    given = torch.tensor([prompt], device=here.device)

    @contextmanager
    def timed(taken: list[float]) -> Iterator[None]:
        if here.cuda:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            torch.cuda.synchronize()
            taken.append(first.elapsed_time(last) / 1000)
        else:
            start = time.perf_counter()
            yield
            taken.append(time.perf_counter() - start)

    def loop() -> tuple[float, float]:
        taken: list[float] = []
        with torch.inference_mode():
            with timed(taken):
                out = engine.model(given, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
            token.item()
            with timed(taken):
                for _ in range(TOKENS - 1):
                    out = engine.model(token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
                    token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
                    token.item()
        return taken[0], taken[1]

    def suite() -> tuple[float, float]:
        found = one_repeat(engine, clock, [prompt], TOKENS)
        return found.prefill_s, sum(found.gaps_s)

    ways: dict[str, Callable[[], tuple[float, float]]] = {"loop": loop, "suite": suite}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name in sorted(ways, reverse=bool(turn % 2)):
            gc.collect()
            taken = ways[name]()
            if turn:  # the first warms up
                seconds[name].append(taken)
    timer = "CUDA events" if here.cuda else "perf_counter"
    for place, phase in enumerate(("prefill", "decode")):
        theirs, own = ([one[place] for one in seconds[name]] for name in ("loop", "suite"))
        ratio = ratio_of_medians(own, theirs)
        told = f"{median(own):.4f} s, {ratio.value:.3f} [{ratio.low}, {ratio.high}] of the loop's by {timer}"
        yield Finding(f"{phase} against a bare loop", told, abs(ratio.value - 1) <= NEAR)


def ledger(here: Here) -> Iterator[Finding]:
    """Tensors of known size, seen by the counter, at the peak and after they are gone."""
    import torch

    memory = here.engines.instruments(here.device).memory
    torch.ones(1, device=here.device)
    before = memory.read()
    memory.reset_peak()
    held = torch.ones(KNOWN, dtype=torch.uint8, device=here.device)
    during, peak = memory.read(), memory.peak()
    del held
    memory.trim()
    after = memory.read()
    grown, freed = during.total_bytes - before.total_bytes, after.total_bytes - before.total_bytes
    slack = 32 << 20
    yield Finding(f"{human_bytes(KNOWN)} held, by {memory.name}", human_bytes(grown), abs(grown - KNOWN) <= slack)
    high = peak.total_bytes - before.total_bytes
    yield Finding("the same at the peak", human_bytes(high), abs(high - KNOWN) <= slack)
    yield Finding("left when it is gone", human_bytes(max(0, freed)), abs(freed) <= slack)
    if here.cuda:
        yield Finding("the driver tells this process's memory", memory.name, memory.name == "NVML process")
        own = (during.allocated_bytes or 0) - (before.allocated_bytes or 0)
        yield Finding("the same by torch's allocator", human_bytes(own), own == KNOWN)


def joules(here: Here) -> Iterator[Finding]:
    """Energy counters: more for a second of products than for an idle one."""
    import torch

    clock = here.engines.instruments(here.device).clock
    meter = energy.open_meter(here.device, clock.name)
    if isinstance(meter, str):
        yield Finding("energy counter", meter)
        return
    side = 4096 if here.cuda else 512
    one = torch.ones(side, side, device=here.device)

    def work() -> None:
        end = clock.now() + 1.0
        while clock.now() < end:
            for _ in range(20):
                torch.mm(one, one)
        clock.now()

    work()
    idle, busy = energy.idle(meter, 1.0), meter.window(work)
    for name, window in (("idle", idle), ("busy", busy)):
        told = f"{window.joules / window.seconds:.1f} W" if window.joules else window.reason
        yield Finding(f"{name}, by {meter.name}", told, bool(window.joules))
    if idle.joules and busy.joules:
        more = busy.joules / busy.seconds / (idle.joules / idle.seconds)
        yield Finding("busy over idle", f"{more:.2f}", more > 1)


def limits(here: Here) -> Iterator[Finding]:
    """A hard limit that is exceeded on purpose, and one that holds what is needed."""
    asked = here.asked("bf16")
    predicted = make_plan(
        Selection(models=(here.model.name,), schemes=("bf16",), suites=("memory",), weights=Weights.RANDOM,
                  device=here.device), [here.model], machine.describe(here.device),
    ).cells[0].predicted  # fmt: skip
    assert predicted.weights_bytes is not None
    assert predicted.needed_bytes is not None
    for share, limit, wanted in (
        ("half of the weights", predicted.weights_bytes // 2, Ending.DOES_NOT_FIT),
        ("1.5 times what is needed", round(1.5 * predicted.needed_bytes), Ending.OK),
    ):
        what = f"limit of {share}, {human_bytes(limit)}"
        held = lambda what=what, limit=limit, wanted=wanted: _held(here, asked.scheme.name, what, limit, wanted)  # noqa: E731
        yield from tried(what, held)


def _held(here: Here, scheme: str, what: str, limit: int, wanted: Ending) -> Iterator[Finding]:
    """One load under a hard limit."""
    (record,) = here.cells(scheme, suites=("memory",), limit=limit)
    ending, held = record.outcome.ending, record.memory_limit
    by = f" ({held.enforced_by})" if held else ""
    yield Finding(f"{what}{by}", f"{ending} {record.outcome.reason}".strip(), ending is wanted)
    if held and held.highest_bytes:
        within = held.highest_bytes <= held.bytes
        yield Finding("the highest charged against it", human_bytes(held.highest_bytes), within)


def phases(here: Here) -> Iterator[Finding]:
    """Memory that runs out while loading, reading, generating and scoring is told apart."""
    if not here.cuda:
        yield Finding("running out of memory, phase by phase", CUDA_ALONE)
        return
    filled = Filled(here)
    yield from tried("no room for the weights", lambda: _out_of_memory("the weights", "load", filled.load))
    yield from tried("the model, loaded with all the memory there is", filled.loads)
    for name, phase, work in (
        ("a prompt", "generate", filled.read), ("the cache to grow", "generate", filled.decode),
        ("rows to score", "score", filled.score),
    ):  # fmt: skip
        yield from tried(f"no room for {name}", partial(_out_of_memory, name, phase, work))


def _out_of_memory(name: str, phase: str, work: Callable[[], object]) -> Iterator[Finding]:
    """What running out of memory in that phase is told as; all memory is there again behind it."""
    import torch

    try:
        work()
    except DoesNotFit as error:
        told = f"out of memory in {error.phase}, wanted {human_bytes(error.wanted_bytes or 0)}"
        right = error.phase == f"{phase}, on the GPU" and bool(error.wanted_bytes)
        yield Finding(f"no room for {name}", told, right)
    else:
        yield Finding(f"no room for {name}", "it fitted", holds=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


class Filled:
    """A card on which the allocator may have little more than it holds, and work that needs more."""

    prompt = tuple(7 + index % 1000 for index in range(2048))

    def __init__(self, here: Here) -> None:
        self.here = here
        self.engine: Any = None

    def room(self, count: int) -> None:
        """Let the allocator have so many bytes more than it holds."""
        import torch

        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + count) / total))

    def load(self) -> None:
        """The weights, with room for a tenth of them."""
        import torch

        torch.ones(1, device="cuda")
        self.room(256 << 20)
        self.here.loaded("bf16")

    def loads(self) -> Iterator[Finding]:
        """The model that the other phases need."""
        self.engine = self.here.loaded("bf16")
        yield Finding("the model, loaded with all the memory there is", "loaded", holds=True)

    def read(self) -> None:
        """Four prompts."""
        self.room(16 << 20)
        self.engine.prefill([self.prompt] * 4)

    def decode(self) -> None:
        """Their answers."""
        with closing(self.engine.prefill([self.prompt] * 4)) as generation:
            self.room(4 << 20)
            for _ in range(512):
                generation.step()

    def score(self) -> None:
        """Eight rows of half a prompt each."""
        from bench.engines.contract import Row

        self.room(16 << 20)
        self.engine.score([Row(self.prompt[:1024], self.prompt[1024:])] * 8)


STEPS: dict[str, Callable[[Here], Iterator[Finding]]] = {
    "devices": devices, "roofs": roofs, "ledger": ledger, "job": job, "bare": bare, "joules": joules,
    "limits": limits, "phases": phases,
}  # fmt: skip


def main() -> int:
    """One step: its findings, as they are made."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=list(STEPS))
    for name in ("device", "model", "out"):
        parser.add_argument(f"--{name}", required=True)
    asked = parser.parse_args()
    here = Here(asked.device, asked.model, Path(asked.out))
    for finding in STEPS[asked.step](here):
        print(json.dumps(dataclasses.asdict(finding)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
