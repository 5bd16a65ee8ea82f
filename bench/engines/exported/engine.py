# SPDX-License-Identifier: Apache-2.0
"""What every engine of an exported graph does alike, over a reader of its own: generating, scoring, the proof."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.abilities import LEFT_SHARE, ROWS, Asked, Take, smaller_batches
from bench.engines.contract import LoadRequest, Row, Score, check_context
from bench.engines.exported.logits import Floats, log_probs
from bench.engines.exported.reading import Reader
from bench.engines.exported.side_by_side import SideBySide
from bench.engines.exported.tokens import Texts
from bench.engines.exported.tree_scoring import FEWER_TOKENS, PACK_TOKENS, TreeScorer, padded, taken
from bench.instruments.memory import host_free_bytes
from bench.records.record import Caveat, Provenance

DEFAULT_CONTEXT = 2048
"""Positions of a model that declares none."""
PROBED = "One two three, the river runs under an old red house."
"""Ordinary tokens for the passes of the proof."""
SAME = 0.1
"""Two ways of reading a text are the same within this share of the logits' own spread: more than rounding costs."""


class ExportedGeneration:
    """Greedy generation over one reader."""

    def __init__(self, engine: ExportedEngine, prompts: Sequence[Sequence[int]], suppress: Collection[int]) -> None:
        self.engine, self.sequences = engine, len(prompts)
        self.suppress = np.array(sorted(suppress), np.int64)
        self.tokens: list[int] | None = None
        self.reader = engine.take()
        self.read(prompts)

    def read(self, texts: Sequence[Sequence[int]]) -> None:
        """Tokens of each sequence behind those it holds."""
        count = len(texts[0])
        check_context(self.reader.held + count, self.engine.context_length)
        with self.engine.fits("generate"):
            self.logits = self.reader.read(texts, np.arange(1, self.sequences + 1) * count - 1).copy()
        self.tokens = None

    def step(self) -> list[int]:
        """The next token of each sequence."""
        if self.tokens is not None:
            self.read([[token] for token in self.tokens])
        if len(self.suppress):
            self.logits[:, self.suppress] = -np.inf
        self.tokens = [int(token) for token in self.logits.argmax(-1)]
        return list(self.tokens)

    @property
    def finite(self) -> bool:
        """Whether the logits of the tokens chosen last are numbers."""
        return bool(np.isfinite(self.logits[np.arange(self.sequences), self.tokens]).all())

    @property
    def cache_tokens(self) -> int:
        """Positions held."""
        return self.reader.held

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of the positions held."""
        return self.engine.position_bytes * self.reader.held * self.sequences

    @property
    def kept_in(self) -> str:
        """The type of keys and values."""
        return self.engine.kept_in

    def close(self) -> None:
        """Leave the reader to the next generation."""
        self.engine.give(self.reader)


class ExportedEngine(ABC):
    """One loaded graph that predicts the next token."""

    trees: bool
    """Whether the graph takes a mask of ours, so that rows are packed into trees."""
    threads: int | None
    caveats: tuple[Caveat, ...]
    same_going_on = SAME
    """Share of the logits' own spread within which going on from what is carried is reading the whole text."""

    def __init__(self, request: LoadRequest, folder: Path, provenance: Provenance) -> None:
        self.request, self.folder, self.provenance = request, folder, provenance
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.config = config | (config.get("text_config") or {})
        self.texts = Texts(folder, self.config)
        self.vocabulary = self.texts.rows
        positions = self.config.get("max_position_embeddings") or self.config.get("n_positions")
        self.context_length = int(positions or DEFAULT_CONTEXT)
        self.prefix_token, self.end_tokens = self.texts.prefix_token, self.texts.end_tokens
        self.chat_template = self.texts.chat_template
        self.most_answers = ROWS["cpu"]
        self.spare: Reader | None = None

    @property
    @abstractmethod
    def position_elements(self) -> int:
        """Numbers of keys and values of one sequence at one position."""

    @property
    @abstractmethod
    def position_bytes(self) -> int:
        """Bytes they take."""

    @property
    @abstractmethod
    def kept_in(self) -> str:
        """Their type, in this project's words."""

    @abstractmethod
    def reader(self) -> Reader:
        """A new reader that carries nothing."""

    @abstractmethod
    def fits(self, phase: str) -> AbstractContextManager[None]:
        """Turn the library's ways of running out of memory into DoesNotFit."""

    def take(self) -> Reader:
        """A reader that carries nothing: the one left by the last user, or a new one."""
        reader, self.spare = self.spare or self.reader(), None
        reader.clear()
        return reader

    def give(self, reader: Reader) -> None:
        """Keep a reader for the next user."""
        reader.clear()
        self.spare = reader

    def release(self) -> None:
        """Free the reader kept for the next user."""
        self.spare = None

    @contextmanager
    def reading(self, phase: str = "score") -> Iterator[Reader]:
        """A reader for as long as a block runs."""
        reader = self.take()
        with self.fits(phase):
            yield reader
        self.give(reader)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens by the tokenizer's own file."""
        return self.texts.encode(text, special=special)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones shown."""
        return self.texts.decode(tokens)

    def chat(self, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
        """A conversation as the tokenizer's template writes it."""
        return self.texts.chat(messages, answer=answer)

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> ExportedGeneration:
        """Read the prompts."""
        return ExportedGeneration(self, prompts, suppress)

    @property
    def generates_together(self) -> int:
        """Answers side by side; one at a time where asked for, and where the model takes no mask of ours."""
        alone = self.request.plain_scoring or self.request.small_batches or self.request.scheme.whole_pass
        return 1 if alone or not self.trees else self.most_answers

    def generate(self, asked: Sequence[Asked], take: Take) -> None:
        """Greedy answers side by side."""
        left = int(LEFT_SHARE * host_free_bytes())
        most = SideBySide(self, asked, take, left).run(self.generates_together)
        if most < self.generates_together:
            self.most_answers = most
            self.caveats = (*self.caveats, smaller_batches(most))

    def log_probs(self, tokens: Sequence[int]) -> Floats:
        """Float32 log-softmax of every position but the last."""
        return next(self.log_probs_together([tokens]))

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[Floats]:
        """As `log_probs`, of equally long sequences in one batch."""
        count = len(rows[0]) - 1
        check_context(count, self.context_length)
        with self.reading() as reader:
            logits = reader.read([row[:-1] for row in rows], np.arange(count * len(rows)))
            found = [log_probs(self.cut(logits[at : at + count])) for at in range(0, len(logits), count)]
        yield from found

    def log_probs_stepwise(self, tokens: Sequence[int]) -> Floats:
        """As `log_probs`, one token a pass."""
        return self.read_in_pieces(tokens[:-1], 1, range(len(tokens) - 1))

    def read_in_pieces(self, tokens: Sequence[int], piece: int, keep: Sequence[int]) -> Floats:
        """Log-probabilities behind the positions of `keep`, `piece` tokens read at a time."""
        check_context(len(tokens), self.context_length)
        found: list[Floats] = []
        with self.reading() as reader:
            for start in range(0, max(keep) + 1, piece):
                wanted = [position - start for position in keep if start <= position < start + piece]
                logits = reader.read([tokens[start : start + piece]], wanted)
                found.append(log_probs(self.cut(logits)))
        return np.concatenate(found)

    def cut(self, logits: Floats) -> Floats:
        """Without the rows by which a head was filled up."""
        return logits[:, : self.vocabulary]

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Score rows in packs with shared beginnings, or padded where the model takes no mask.

        One sequence a pass, whole, where the scheme's arithmetic looks at the whole pass.
        """
        if not rows:
            return []
        check_context(max(len(row.context) + len(row.continuation) - 1 for row in rows), self.context_length)
        most = FEWER_TOKENS if self.request.small_batches else PACK_TOKENS
        with self.reading() as reader:
            if self.request.scheme.whole_pass:
                return [self._alone(reader, row, done, index) for index, row in enumerate(rows, 1)]
            if self.trees and not self.request.plain_scoring:
                return TreeScorer(reader, self.vocabulary, most).score(rows, done)
            return padded(reader, rows, self.vocabulary, done, most)

    def _alone(self, reader: Reader, row: Row, done: Callable[[int], None], finished: int) -> Score:
        """One row in a pass of its own, the head's part of it too."""
        reader.clear()
        text = [*row.context, *row.continuation]
        logits = self.cut(reader.read([text[:-1]], np.arange(len(text) - 1)))
        wanted = np.arange(len(row.context) - 1, len(text) - 1)
        chosen, best = taken(logits[wanted], np.arange(len(wanted)), np.array(row.continuation))
        done(finished)
        return Score(tuple(chosen.tolist()), bool(best.all()))

    def refuted(self) -> str | None:
        """Why its figures would mean nothing: it reads ahead, or goes on otherwise than it reads; None if neither.

        Packed trees that are read otherwise than each sequence alone are not used. A scheme that has one scale for a
        whole pass moves every token by those after it, and is as far from itself when it goes on: not its figures but
        its noise floor tells of that, and the graph that it was made of is proven.
        """
        if self.request.scheme.whole_pass:
            return None
        tokens = [*dict.fromkeys(self.encode(PROBED)), *range(9)][:9]
        text, other = tokens[:8], tokens[8]
        with self.reading() as reader:
            whole = reader.read([text], np.arange(8)).copy()
            spread = float(whole.std())
            reader.clear()
            ahead = reader.read([[*text[:-1], other]], np.arange(7))
            if not np.abs(ahead - whole[:7]).mean() <= SAME * spread:
                return "each token is read together with those after it: it predicts none"
            reader.clear()
            reader.read([text[:4]], [3])
            if not np.abs(reader.read([text[4:]], np.arange(4)) - whole[4:]).mean() <= self.same_going_on * spread:
                return "going on from what it carries is not reading the whole text"
        if self.trees:
            rows = [Row(tuple(text[:4]), tuple(end)) for end in (text[4:], [other, *text[5:]], [text[6], other])]
            self.trees = self._same_scores(rows, SAME * spread)
        return None

    def _same_scores(self, rows: Sequence[Row], allowed: float) -> bool:
        """Whether packed trees give what each row gives by itself."""
        packed = self.score(rows)
        with self.reading() as reader:
            alone = padded(reader, rows, self.vocabulary, lambda finished: None)
        apart: list[NDArray[Any]] = [np.subtract(p.log_probs, a.log_probs) for p, a in zip(packed, alone, strict=True)]
        return bool(np.abs(np.concatenate(apart)).mean() <= allowed)
