# SPDX-License-Identifier: Apache-2.0
"""What a loaded model can do, and how a backend offers it. Backends implement this; suites use nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bench.catalog.config import Config
from bench.catalog.local_model import Format
from bench.catalog.model import Model
from bench.instruments import Instruments
from bench.instruments.distributions import is_installed
from bench.records.cell import Cell, Precision, Scheme, Weights
from bench.records.census import Census
from bench.records.record import Caveat, Measurement, Provenance
from bench.records.surroundings import Machine, Roof

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DoesNotFit(Exception):
    """The model or its work needs more memory than there is."""

    def __init__(self, phase: str, wanted_bytes: int | None = None, had_bytes: int | None = None) -> None:
        super().__init__(phase, wanted_bytes, had_bytes)
        self.phase, self.wanted_bytes, self.had_bytes = phase, wanted_bytes, had_bytes


class Unsupported(Exception):
    """This backend, device or architecture can never do it; a table prints the message as the reason."""


class Stopped(Exception):
    """A limit ended the work early. A table prints the message; `kept` holds what was measured until then."""

    def __init__(self, reason: str, kept: Sequence[Measurement] = ()) -> None:
        super().__init__(reason)
        self.kept = tuple(kept)


def check_context(tokens: int, context_length: int) -> None:
    """Refuse a sequence that is longer than the context: its figures would mean nothing. Raises Unsupported."""
    if tokens > context_length:
        raise Unsupported(f"{tokens} tokens are more than this model's context of {context_length}")


class NotFinite(Exception):
    """The model's logits are NaN or infinite, so nothing can be scored. The message names the item."""


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """Everything a backend is told about what it must load."""

    model: Model
    weights: Weights
    scheme: Scheme
    device: str
    """`cpu`, `cuda` or `mps`."""
    path: str | None = None
    """Folder or file of local weights, None unless `weights` is local."""
    threads: int | None = None
    """Threads to compute with, None for the engine's own choice."""
    attention: str | None = None
    kv: str | None = None
    """How to attend and what to keep keys and values in (`Cell.way`), None for what the engine takes unasked."""
    plain_scoring: bool = False
    """Share nothing between rows, even where the engine could compute once what they begin with, and generate one
    answer at a time. Scored rows may still stand in one batch; where the scheme says `whole_pass` they never do."""
    max_cost_usd: float | None = None
    """The most that all paid answers together may cost, None for no limit."""
    base: Model | None = None
    """The entry that adapters or a difference are added to, None if the model stands alone."""
    base_path: str | None = None
    """Folder of that base, None to take the entry's own weights."""
    launch: tuple[str, str] | None = None
    """Command line of the server to launch (`bench.catalog.launch`), and in which folder; None for other engines."""
    trust_remote_code: bool = False
    """Whether the user lets the repository's own code run where its entry allows it."""
    small_batches: bool = False
    """Whether memory ran out before: rows are scored in smaller batches, and answers generated one at a time."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that an engine with a layout of its own will need for one cell."""

    weights_bytes: int
    kv_bytes: int
    """Of the positions held."""
    workspace_bytes: int
    """Temporary buffers while the prompt is read, and cache reserved beyond the positions held."""
    peak_bytes: int
    """The sum of all these, including what is reserved but not used."""


@dataclass(frozen=True)
class Row:
    """Tokens to score: `continuation` given `context`. Both are non-empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """Log-probability (nats) of each continuation token, and whether each was the most probable one."""

    log_probs: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-probability of the whole continuation, nats."""
        return sum(self.log_probs)


class Generation(Protocol):
    """Greedy generation for a batch whose prompts have been read (prefilled)."""

    def step(self) -> list[int]:
        """The next token of each sequence, on the host when this returns. Raises Unsupported when the context ends."""

    @property
    def cache_bytes(self) -> int:
        """Bytes of everything carried for the tokens it holds, recurrent states too, counted from its tensors.

        Where some of them are states of one size whatever the text, an attribute `fixed_bytes` says how many.
        """

    @property
    def cache_tokens(self) -> int:
        """Positions the cache holds for each sequence."""

    @property
    def finite(self) -> bool:
        """Whether the last chosen logits are finite (arg max would choose a NaN or an infinity). Not timed."""

    def close(self) -> None:
        """Free the cache."""


class Engine(Protocol):
    """One loaded model."""

    vocabulary: int
    context_length: int
    """Positions one sequence may have."""
    prefix_token: int
    """The token that stands for an empty context (beginning or, failing that, end of sequence)."""
    end_tokens: frozenset[int]
    threads: int | None
    provenance: Provenance
    caveats: tuple[Caveat, ...]
    """Warnings about these weights that must stand beside their figures."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of `text`; with `special`, the ones its tokenizer itself puts around a text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens."""

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> Generation:
        """Read prompts of equal length; returns when the first logits are there.

        Tokens in `suppress` are never generated. Raises DoesNotFit, and Unsupported for more tokens than the context.
        """

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Log-probabilities (nats), float32, shape (len(tokens) - 1, vocabulary): row i predicts tokens[i + 1].

        Raises Unsupported for more tokens than the context, as `score` does.
        """

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Score rows in float32, batched as the engine likes; `done` hears how many rows are finished.

        One sequence a pass, whole, where the scheme says `whole_pass`: then a row's scores are those of its tokens
        alone. Rows that read the very same tokens may share their pass.
        """

    def census(self) -> Census:
        """Count the parameters."""

    def close(self) -> None:
        """Free the model."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One generated answer, as it arrived."""

    text: str
    """The answer itself, without what was thought before it."""
    arrivals_s: tuple[float, ...]
    """Seconds from sending the request to each piece of text, thinking included. A piece may hold any number of
    tokens."""
    thinking: str = ""
    """What it thought before, as far as the server shows it."""
    answer_s: float | None = None
    """Seconds from sending to the first piece of the answer itself, None if it did not begin."""
    input_tokens: int | None
    """Prompt tokens by the server's own count, None if it gives none."""
    output_tokens: int | None
    """Generated tokens it counts (and charges), hidden ones included; None if it gives none."""
    hidden_tokens: int = 0
    """Of those, tokens of thinking that was never shown."""
    cost_usd: float | None
    """Cost by the entry's prices, including failed attempts. None if the entry states no prices."""
    cost_is_bound: bool = False
    """Whether some token count was missing and the cost is an upper bound."""
    finish: str | None = None
    attempts: int = 1
    """Why it ended, in the server's words, and the requests it took."""


@runtime_checkable
class TextEngine(Protocol):
    """A model that someone else serves. Only text goes in and out; its tokens and weights stay unseen."""

    threads: int | None

    @property
    def provenance(self) -> Provenance:
        """Who serves it; `revision` is the version the server names once it has answered."""

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """Warnings about its answers that must stand beside their figures."""

    @property
    def spent_usd(self) -> float:
        """What it has cost so far, by the entry's prices; 0 without prices."""

    def reply(self, prompt: str, *, max_tokens: int, stops: Sequence[str] = ()) -> Reply:
        """The greedy answer to one user message, streamed, cut before the first of `stops`.

        Raises Stopped at the spending limit or when no answer comes any more, UserError for a refused key or request.
        """

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """An engine family. Declared at the top of its module, without importing its library."""

    name: str
    summary: str
    schemes: tuple[Scheme, ...]
    defaults: dict[str, dict[Precision, str]]
    """Scheme by device kind and precision; a kind left out is not supported."""
    requires: tuple[str, ...]
    """Distributions it needs, as installed."""
    install: str
    """The command that installs them."""
    load: Callable[[LoadRequest], Engine | TextEngine]
    """Load a model from what `prepare` made ready. Raises DoesNotFit, Unsupported, UserError."""
    instruments: Callable[[str], Instruments]
    """Clock and memory counters for a device kind, ready before anything is loaded."""
    prepare: Callable[[LoadRequest], None] = lambda request: None
    """Download or convert weights and import libraries: all that is not loading, untimed. Raises as `load`."""
    footprint: Callable[[Config, Scheme, int, int, Mapping[str, object]], Footprint] | None = None
    """Bytes for a config, a scheme, prompt and decoded tokens and a cell's settings, where `Scheme` cannot say them.
    Raises UnknownArchitecture. None: `bench.plan.predict` counts from the scheme alone."""
    refuses: Callable[[Model, Weights], str | None] = lambda model, weights: None
    """Why this backend can never load that model from there, None if it may; asked before anything is loaded."""
    command: Callable[[Model, Provenance, Cell], str | None] = lambda model, provenance, cell: None
    """A shell command that runs what a cell measured, in its very way, without this project; None if it is long."""
    serve: Callable[[Model, Provenance, Cell], str | None] = lambda model, provenance, cell: None
    """The same as a server for clients on this machine; None where the engine has none of its own."""
    adapt: Callable[[Scheme, Machine], Scheme] = lambda scheme, machine: scheme
    """The scheme as a given machine stores it, where its kernels repack weights."""
    attention: Callable[[Machine, str | None], str] | None = None
    try_attention: Callable[[Machine], str] | None = None
    refuses_kv: Callable[[Model, str], str | None] = lambda model, kv: "keeps keys and values in its own way alone"
    """How a device's cells attend, by `--kv`, as far as is known (`UNTRIED`), None where there is one way; what times
    the ways, asked while nothing else measures, and returns a line that tells; why a model's cache is not kept so."""
    versions: tuple[str, ...] = ()
    """Further distributions whose versions belong in a record."""
    scheme_requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scheme_install: Mapping[str, str] = field(default_factory=dict)
    """By scheme, the distributions it needs beyond `requires`; and where it runs, for people: a remedy."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """By name, why a scheme that people may look for is none here."""
    anchor: bool = False
    """Whether its fp32 row is the one that rows of every engine are compared with (`bench.scoring.anchor`)."""
    builds_random: bool = False
    """Whether it can build a model of true size from its architecture, without weights."""
    roof: Callable[[], Roof] | None = None
    """The known roof of a virtual device, None where a real one is to be measured."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """By device kind, the most answers generated side by side (`bench.engines.abilities`); 1 where none is named."""
    reads: Format = Format.HUB
    """What it loads from a disk."""
    needs_repository: bool = field(default=True)
    """Whether a model must have weights to load; the fake backend does not."""
    remote: bool = False
    """Whether it asks a server by an entry's `remote` instead of loading anything."""
    launches: bool = False
    """Whether it launches a server on this machine, by the user's command, and asks that."""
    spreads: bool = False
    """Whether it spreads a model over several cards, and counts the memory of all."""
    text_only: bool = False
    """Whether it loads a `TextEngine`: then the suites are those of `suites/served/`."""

    def missing(self, scheme: str | None = None) -> list[str]:
        """Required distributions that are not installed; those of a scheme alone if one is named."""
        needed = self.requires if scheme is None else self.scheme_requires.get(scheme, ())
        return [name for name in needed if not is_installed(name)]

    def scheme(self, name: str) -> Scheme | None:
        """The scheme of that name, None if this backend has none."""
        return next((scheme for scheme in self.schemes if scheme.name == name), None)

    def default_scheme(self, precision: Precision, device: str) -> Scheme | None:
        """The scheme a precision means on a device kind, None if there is none."""
        name = self.defaults.get(device, {}).get(precision)
        return self.scheme(name) if name else None
