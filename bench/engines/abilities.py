# SPDX-License-Identifier: Apache-2.0
"""What some engines can do beyond the contract, each asked for by `isinstance`: other ways to the same distributions.

Most measure an engine against itself (`suites/noise_floor.py`): the same tokens beside others, one by one, and with the
same weights in float32. One proves that what it predicts is a prediction at all, one generates many answers at once,
and one has a chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from bench.engines.contract import Engine, TextEngine, Unsupported
from bench.records.record import Caveat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@runtime_checkable
class Chats(Protocol):
    """An engine whose tokenizer may have a chat template."""

    chat_template: str | None
    """The template itself, None if the tokenizer has none."""

    def chat(self, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
        """The text of a conversation; with `answer`, up to where the model's next answer begins."""


@runtime_checkable
class ScoresTogether(Protocol):
    """An engine that can also score several sequences in one forward pass."""

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """As `log_probs` of each of several equally long sequences, all read in one batch."""


@runtime_checkable
class ScoresStepwise(Protocol):
    """An engine that can also score a sequence as generating reads it."""

    def log_probs_stepwise(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """As `log_probs`, each token read in a pass of its own behind the cache of those before it."""


@runtime_checkable
class ReadsInPieces(Protocol):
    """An engine that can read a text piece by piece behind its cache, as long conversations are read."""

    def log_probs_in_pieces(
        self, tokens: Sequence[int], piece: int, keep: Sequence[int], *, own_cache: bool
    ) -> NDArray[np.float32]:
        """Log-probabilities (nats), float32, shape (len(keep), vocabulary): row i predicts the token behind keep[i].

        Of `tokens`, `piece` at a time are read. `own_cache` says whether keys and values are kept as the engine would
        unasked, or as its request says; how it attends is the same for both.
        """


@runtime_checkable
class ReadsOn(Protocol):
    """A generation that can read further tokens behind those it holds.

    Where room must be made for them first, which nobody should time, an attribute `reserve(tokens)` makes it.
    """

    def read(self, texts: Sequence[Sequence[int]]) -> None:
        """Read equally many more of each sequence; the next step chooses by the last. Raises Unsupported."""


@runtime_checkable
class DequantizesItself(Protocol):
    """An engine that can compute with its own quantized weights taken back to float32."""

    def dequantized(self) -> AbstractContextManager[Engine | None]:
        """A second engine with the very weights of this one in float32, computed in float32, freed on leaving.

        None where nothing was quantized, or where that engine would take more than `DEQUANTIZED_SHARE` of the memory
        that is left or more than `DEQUANTIZED_BYTES`: it is made for a few windows and must stay cheap.
        """


@runtime_checkable
class ProvesItself(Protocol):
    """An engine that can tell by itself whether its figures would mean anything."""

    def refuted(self) -> str | None:
        """Why they would not, None if they would; what else it finds out is in its caveats.

        A few short forward passes, so it is asked once loading has been timed and read.
        """


@dataclass(frozen=True)
class Asked:
    """A prompt, and the most tokens its answer may have."""

    tokens: tuple[int, ...]
    limit: int


Take: TypeAlias = Callable[[int, int | None], bool]
"""Told a prompt's index and its answer's next token, None for logits that are no numbers; whether it is to go on."""


@runtime_checkable
class GeneratesTogether(Protocol):
    """An engine that can generate answers to prompts of different lengths side by side."""

    @property
    def generates_together(self) -> int:
        """How many at most; 1 where this model, scheme or request wants each by itself: then `prefill` serves."""

    def generate(self, asked: Sequence[Asked], take: Take) -> None:
        """Greedy answers, every token handed to `take` until it wants no more of that answer.

        Fewer stand side by side where memory runs out, and a caveat says so. Raises DoesNotFit for one alone, and
        Unsupported for more tokens than the context.
        """


ROWS = {"cpu": 32, "cuda": 64, "mps": 16}
"""Most answers side by side: fixed by the device, so that precisions share their batches."""
SMALLER = 8
"""By how much scoring's batches are smaller where memory has run out."""
CACHE_BYTES = 1 << 29
"""Most bytes of keys and values side by side, counted in float32 whatever the type, so that precisions share their
batches: what scoring's logits take."""
LEFT_SHARE = 0.5
"""Of the memory that is left, the most they may take: a limit that ends the process is not met by trying."""


def rows_side_by_side(most: int, positions: int, elements: int) -> int:
    """How many answers stand side by side, at most `most`: as many as CACHE_BYTES hold.

    Each takes so many positions with its prompt, and each position so many numbers.
    """
    return max(1, min(most, CACHE_BYTES // max(1, 4 * positions * elements)))


@runtime_checkable
class RunsItsServer(Protocol):
    """A text engine whose server this process has started, so that its memory and its clients are there to be seen."""

    launched: str
    """Its command line as a record may hold it."""
    files_bytes: int
    """Bytes of the weight files that it was given, 0 where they are not on this disk."""

    @property
    def pool_bytes(self) -> tuple[int, int | None, str] | None:
        """Bytes of the room for keys and values it took, the tokens that go in, and who says so; None if nobody does.

        Tokens are None where the server does not say.
        """

    def another_client(self) -> TextEngine:
        """The same server over a connection of its own; closing it leaves the server as it is."""


@dataclass(frozen=True)
class ScoredToken:
    """One token of a text as a server reads it."""

    text: str
    start: int
    """Its first character in the text."""
    log_prob: float | None
    """Nats; None for a token that nothing stands before."""
    likeliest: bool
    """Whether it was the most probable one."""


class TextNotShown(Unsupported):
    """The tokens of this very text are not told, or cannot be placed in it; those of another may be."""


@runtime_checkable
class ScoresTexts(Protocol):
    """A text engine that may also tell the log-probability of every token of a text one chooses."""

    def unproven(self) -> str:
        """Why these are not to be used, empty once they have proven themselves.

        Greedily generated tokens, sent back as part of a text, must get the values that they were generated with.
        """

    def scored(self, text: str) -> list[ScoredToken]:
        """The tokens of a text, those alone that a tokenizer puts around it left out.

        Raises as `reply`, and TextNotShown.
        """


DEQUANTIZED_SHARE = 0.5
"""Of the memory that is left."""
DEQUANTIZED_BYTES = 4 << 30
"""About a billion weights: writing, reading and computing with more takes longer than the cell that asks."""


def worth_dequantizing(weights: int, left_bytes: int) -> bool:
    """Whether so many weights may be held a second time, in float32."""
    return 4 * weights <= min(DEQUANTIZED_BYTES, DEQUANTIZED_SHARE * left_bytes)


def smaller_batches(most: int) -> Caveat:
    """What stands beside answers that were generated in smaller batches than usual."""
    return Caveat(
        kind="smaller_batches", text=f"memory was short, so at most {most} answers were generated side by side",
        advice="at 16 bits and fewer another batch may change an answer: --plain-scoring generates one at a time",
    )  # fmt: skip
