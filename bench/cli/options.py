# SPDX-License-Identifier: Apache-2.0
"""Every option that more than one command takes, declared once: its name, its help, what the shell completes.

The dataclasses are groups of options as `--help` shows them; the first line of a group's docstring is its title.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from bench.cli.console import Format
from bench.errors import UserError
from bench.paths import CATALOG, RESULTS


class DeviceKind(StrEnum):
    """Which kind of device measures."""

    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


@dataclass(frozen=True)
class Devices:
    """Which devices measure."""

    value: str
    """Their kind."""
    very: tuple[str, ...] = ()
    """Which of several, as `cuda:1`; empty for the first of its kind. `all` stands for every one."""


def _devices(text: str) -> Devices:
    """What `--device` says. Raises UserError."""
    asked = [part.strip() for part in text.split(",")]
    if asked == ["all"]:
        return Devices(DeviceKind.CUDA, ("all",))
    if len(asked) == 1 and asked[0] in list(DeviceKind):
        return Devices(asked[0])
    if "cpu" in asked:
        raise UserError(f"no devices {text!r}", "the CPU measures alone: what runs beside it would slow it down")
    cards = [card for part in asked for card in part.split("+")]
    if not all(re.fullmatch(r"cuda:[0-9]{1,3}", card) for card in cards) or len(set(cards)) < len(cards):
        several = "several side by side as cuda:0,cuda:1, one model over several as cuda:0+cuda:1"
        raise UserError(f"no device {text!r}", f"cpu, cuda, mps, cuda:1, {several}, or all")
    return Devices(DeviceKind.CUDA, tuple(asked))


def split(values: Sequence[str]) -> list[str]:
    """The names in an option that may be repeated and may hold several, separated by commas."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def named(option: str, text: str, known: Callable[[], Iterable[str]] = tuple) -> OptionInfo:
    """An option that takes names; the shell offers the known ones that begin as the part after the last comma does."""

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in known() if name.startswith(begun)]

    declared: OptionInfo = typer.Option(option, help=text, metavar="NAME", autocompletion=complete)
    return declared


def _models() -> list[str]:
    from bench.catalog.entries import read_catalog

    return [model.name for model in read_catalog(CATALOG)]


def _precisions() -> list[str]:
    from bench.records.cell import Precision

    return [str(precision) for precision in Precision]


def _backends() -> list[str]:
    from bench.engines.registry import backend_names

    return list(backend_names())


def _suites() -> list[str]:
    import suites

    return list(suites.ORDER)


def _profiles() -> list[str]:
    from bench.records.cell import PROFILES

    return list(PROFILES)


def timeout(text: str) -> tuple[float | None, float]:
    """Seconds that a load or a cell may take, None for its own limit, and how many times its prediction that is.

    Raises UserError.
    """
    from bench.run import options

    try:
        return options.timeout(text)
    except ValueError:
        remedy = "90s, 20min, 2h, or 10x for ten times what is predicted; left out, 30x"
        raise UserError(f"no timeout {text!r}", remedy) from None


def money(value: float | None) -> float | None:
    """A limit of spending that can be reached. Raises UserError."""
    if value is not None and not 0 <= value < math.inf:
        raise UserError(f"no spending limit of {value:g} USD", "an amount from 0; left out, there is no limit")
    return value


MOST_THREADS = 4096
MOST_TOKENS = 2**31 - 1
Models = Annotated[list[str], named("--model", "Name or glob; a Hub repository; comma or repeat.", _models)]
Precisions = Annotated[list[str], named("--precision", "fp32, fp16, int8, int4; comma or repeat.", _precisions)]
Schemes = Annotated[list[str], named("--scheme", "Exact schemes instead of a precision's default.")]
Backends = Annotated[list[str], named("--backend", "Engine: transformers, llamacpp, fake …", _backends)]
Backend = Annotated[str, named("--backend", "Engine whose needs are predicted.", _backends)]
SuiteNames = Annotated[
    list[str], named("--suite", "memory, throughput, divergence, quality (default: these four), kv, capacity.", _suites)
]
WeightsFrom = Annotated[
    str,
    typer.Option("--weights", help="hub, package, random or local=PATH[,NEXT]; default by entry.", metavar="SOURCE"),
]
Device = Annotated[
    Devices | None,
    typer.Option(
        "--device",
        parser=_devices,
        metavar="NAME",
        help="cpu, cuda, mps, cuda:0,cuda:1, all. Default: what is there.",
    ),
]
DeviceSlug = Annotated[str, named("--device", "Device slug or glob, as in results/.")]
Budget = Annotated[
    str,
    typer.Option(
        "--budget",
        help="Seconds of measuring, loading apart: 90s, 20min, none. Default: 8min a model, profile standard.",
        show_default=False,
        metavar="TIME",
    ),
]
Timeout = Annotated[
    str,
    typer.Option(
        "--timeout",
        help="What one load or cell may take: 90s, 20min, or 10x what is predicted. Default: 30x.",
        show_default=False,
        metavar="TIME",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write it.")]
CatalogFolder = Annotated[
    Path, typer.Option("--catalog", help="Folder of the catalogue.", show_default=False, metavar="FOLDER")
]


def _results(given: str | Path) -> Path:
    """The folder of the records: of a URL its mirror, brought up to date. Raises UserError."""
    from bench.records.mirror import Mirror, is_address

    if not is_address(str(given)):
        return Path(given)
    mirror = Mirror(str(given))
    mirror.fetch()
    return mirror.root


ResultsFolder = Annotated[
    Path,
    typer.Option(
        "--results", help="Folder of the records, or a URL: s3://BUCKET/PATH.", show_default=False, metavar="FOLDER",
        parser=_results,
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What to measure."""

    model: Models = field(default_factory=list)
    backend: Backends = field(default_factory=lambda: ["transformers"])
    weights: WeightsFrom = ""
    device: Device = None


@dataclass(frozen=True, kw_only=True)
class Cells(Subject):
    """What to measure."""

    precision: Precisions = field(default_factory=list)
    scheme: Schemes = field(default_factory=list)
    suite: SuiteNames = field(default_factory=list)
    base: Annotated[
        str, typer.Option("--base", help="Folder of the base of an adapter or a difference.", metavar="FOLDER")
    ] = ""
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run a repository's code if its entry allows it.")
    ] = False
    api_url: Annotated[
        str, typer.Option("--api-url", help="OpenAI-compatible server to ask for --model NAME (api).", metavar="URL")
    ] = ""
    launch: Annotated[
        str,
        typer.Option(
            "--launch",
            help="Command that serves the model (served): 'llama-server -m {path} --port {port} -c {pool}'.",
            metavar="COMMAND",
        ),
    ] = ""
    missing: Annotated[bool, typer.Option("--missing", help="Only what no record answers.")] = False


@dataclass(frozen=True, kw_only=True)
class How:
    """How to measure."""

    profile: Annotated[str, named("--profile", "smoke, standard or full: items and repetitions.", _profiles)] = (
        "standard"
    )
    task: Annotated[
        list[str],
        typer.Option("--task", help="lm-eval tasks instead of the offline ones: names, YAML files.", metavar="TASK"),
    ] = field(default_factory=list)
    task_folder: Annotated[
        str, typer.Option("--task-folder", help="Folder of your own lm-eval task files.", metavar="FOLDER")
    ] = ""
    trust_task_code: Annotated[
        list[str], named("--trust-task-code", "Code of task files that may run, by the names the refusal lists.")
    ] = field(default_factory=list)
    max_length: Annotated[
        int,
        typer.Option(
            "--max-length", help="Tokens a scored sequence may have.", min=0, max=MOST_TOKENS, metavar="TOKENS"
        ),
    ] = 0
    chat_template: Annotated[bool, typer.Option("--chat-template", help="Ask in the tokenizer's chat template.")] = (
        False
    )
    kv: Annotated[
        str, typer.Option("--kv", help="Keep keys and values as fp16, int8, int4; apart: int8/int4.", metavar="TYPE")
    ] = ""
    text: Annotated[str, typer.Option("--text", help="Divergence over this file, or wikitext2.", metavar="FILE")] = ""
    plain_scoring: Annotated[
        bool,
        typer.Option(
            "--plain-scoring",
            help="Share nothing between rows, generate one answer at a time: slower. An item moves by rounding (about "
            "1e-5 nats at fp32, 0.1 at 16 and 4 bits); LLM.int8() is never packed.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits."""

    memory_limit: Annotated[
        str,
        typer.Option(
            "--memory-limit",
            help="Run under a hard limit: 12GB, 12GiB, 512M, or bytes.",
            show_default=False,
            metavar="SIZE",
        ),
    ] = ""
    force: Annotated[bool, typer.Option("--force", help="Also what is predicted not to fit.")] = False


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Output."""

    folder: CatalogFolder = CATALOG
    results: ResultsFolder = RESULTS


@dataclass(frozen=True, kw_only=True)
class Output(Folders):
    """Output."""

    format: FormatOption = Format.TABLE


@dataclass(frozen=True, kw_only=True)
class View:
    """Output."""

    format: FormatOption = Format.TABLE
    warnings: Annotated[bool, typer.Option("--warnings", help="Every warning in full, not what they mean.")] = False
    results: ResultsFolder = RESULTS


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which records."""

    model: Models = field(default_factory=list)
    precision: Precisions = field(default_factory=list)
    scheme: Schemes = field(default_factory=list)
    backend: Backends = field(default_factory=list)
    device: DeviceSlug = "*"
