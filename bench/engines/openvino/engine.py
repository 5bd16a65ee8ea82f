# SPDX-License-Identifier: Apache-2.0
"""A causal model exported to OpenVINO's IR as an Engine, on a CPU.

Weights are mapped while the model is compiled and held as its kernels want them afterwards. A request (keys and values,
buffers) is made at the first prompt and left to the next one.
"""

from __future__ import annotations

import copy
import gc
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench.catalog.model import Objective
from bench.engines.abilities import LEFT_SHARE, ROWS, Asked, Take, smaller_batches, worth_dequantizing
from bench.engines.contract import DoesNotFit, LoadRequest, Row, Score, Unsupported, check_context
from bench.engines.exported.logits import log_probs
from bench.engines.exported.tokens import Texts
from bench.engines.exported.tree_scoring import FEWER_TOKENS, PACK_TOKENS, TreeScorer, padded
from bench.engines.openvino import census, graph, layout
from bench.engines.openvino.compiled import EXACT, WAYS, Way, asked_of, check, compiled, core
from bench.engines.openvino.files import MODEL, WEIGHTS, proven_mask
from bench.engines.openvino.locate import locate
from bench.engines.openvino.reader import Reader, fits
from bench.engines.openvino.side_by_side import SideBySide
from bench.instruments.memory import ProcessMemory, host_free_bytes
from bench.records.census import Census
from bench.records.record import Caveat

DEFAULT_CONTEXT = 2048
"""Positions of a model that declares none."""
QUANTIZED = ("int8", "int4")
"""Keys and values that have scales."""
PROBED = "One two three, the river runs under an old red house."
"""Ordinary tokens for the passes of the proof."""
SAME = 0.1
"""Two ways of reading a text are the same within this share of the logits' own spread: more than rounding costs."""
SAME_THROUGH_4_BITS = 0.5
"""The same where one of them reads back 4-bit keys and values; what forgets its text is further off than the spread."""
WIDENED = Caveat(
    kind="computed_wider",
    text="float16 is how these weights lie in the file: OpenVINO holds and multiplies them as float32 here",
    advice="its memory and speed are those of float32; ov-bf16 is 16-bit where the CPU multiplies bfloat16",
)


class OpenVinoGeneration:
    """Greedy generation over one request."""

    def __init__(self, engine: OpenVinoEngine, prompts: Sequence[Sequence[int]], suppress: Collection[int]) -> None:
        self.engine, self.sequences = engine, len(prompts)
        self.suppress = np.array(sorted(suppress), np.int64)
        self.tokens: list[int] | None = None
        self.reader = engine.take()
        self.read(prompts)

    def read(self, texts: Sequence[Sequence[int]]) -> None:
        """Tokens of each sequence behind those it holds."""
        count = len(texts[0])
        check_context(self.reader.held + count, self.engine.context_length)
        with fits("generate"):
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
        """Bytes of the keys and values of the positions held, by the model's own states and the type it keeps."""
        carried = self.engine.carried
        each = 0.0
        for numbers, kind in zip((carried.keys, carried.values), layout.kept_in(self.kept_in), strict=True):
            each += numbers * layout.KV_BYTES[kind] + (carried.heads * layout.KV_SCALES if kind in QUANTIZED else 0)
        return int(each) * self.reader.held * self.sequences

    @property
    def kept_in(self) -> str:
        """As the compiled model says."""
        return self.engine.way.kept_in

    def close(self) -> None:
        """Leave the request to the next generation."""
        self.engine.give(self.reader)


class OpenVinoEngine:
    """One compiled model."""

    def __init__(self, request: LoadRequest) -> None:
        if request.model.objective is not Objective.CAUSAL:
            raise Unsupported(f"{request.model.objective} models are not supported by this backend")
        located = locate(request)
        self.folder, self.provenance, self.request = located.folder, located.provenance, request
        size, capacity = (self.folder / WEIGHTS).stat().st_size, ProcessMemory().capacity_bytes()
        if size > capacity:
            raise DoesNotFit("load", size, capacity)
        config: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        config |= config.get("text_config") or {}
        self.texts = Texts(self.folder, config)
        self.vocabulary = self.texts.rows
        self.context_length = int(config.get("max_position_embeddings") or config.get("n_positions") or DEFAULT_CONTEXT)
        self.prefix_token, self.end_tokens = self.texts.prefix_token, self.texts.end_tokens
        self.chat_template = self.texts.chat_template
        self.sees_all = graph.sees_all(config) and proven_mask(self.folder)
        self.most_answers = ROWS["cpu"]
        asked = asked_of(request)
        self.compile(asked)
        check(asked, self.way)
        self.threads: int | None = int(self.compiled.get_property("INFERENCE_NUM_THREADS"))
        self.caveats: tuple[Caveat, ...] = (WIDENED,) if request.scheme.name == "ov-fp16" else ()

    def compile(self, asked: Way) -> None:
        """Compile the folder's model, with the inputs that this engine adds."""
        with fits("load"):
            model = core().read_model(self.folder / MODEL)
            carried = graph.carried(model)
            if carried is None:
                raise Unsupported("the exported model carries other states than keys and values")
            self.carried = carried
            graph.pick_rows(model)
            self.trees = self.sees_all and graph.take_mask(model)
            self.compiled, self.way = compiled(model, asked, self.request.threads)
        self.trees = self.trees and self.way.carries
        self.spare: Reader | None = None

    def take(self) -> Reader:
        """A request that carries nothing: the one left by the last user, or a new one."""
        reader, self.spare = self.spare or Reader(self.compiled), None
        reader.clear()
        return reader

    def give(self, reader: Reader) -> None:
        """Keep a request for the next user."""
        reader.clear()
        self.spare = reader

    def release(self) -> None:
        """Free the request kept for the next user."""
        self.spare = None

    @contextmanager
    def reading(self, phase: str = "score") -> Iterator[Reader]:
        """A request for as long as a block runs."""
        reader = self.take()
        with fits(phase):
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

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> OpenVinoGeneration:
        """Read the prompts."""
        return OpenVinoGeneration(self, prompts, suppress)

    @property
    def generates_together(self) -> int:
        """Answers side by side; one at a time where asked for, and where the model takes no mask of ours."""
        alone = self.request.plain_scoring or self.request.small_batches or not self.trees
        return 1 if alone else self.most_answers

    def generate(self, asked: Sequence[Asked], take: Take) -> None:
        """Greedy answers side by side."""
        left = int(LEFT_SHARE * host_free_bytes())
        most = SideBySide(self, asked, take, left).run(self.generates_together)
        if most < self.generates_together:
            self.most_answers = most
            self.caveats = (*self.caveats, smaller_batches(most))

    @property
    def position_elements(self) -> int:
        """Numbers of keys and values of one sequence at one position."""
        return self.carried.keys + self.carried.values

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Float32 log-softmax of every position but the last."""
        return next(self.log_probs_together([tokens]))

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """As `log_probs`, of equally long sequences in one batch."""
        count = len(rows[0]) - 1
        check_context(count, self.context_length)
        with self.reading() as reader:
            logits = reader.read([row[:-1] for row in rows], np.arange(count * len(rows)))
            found = [log_probs(self._cut(logits[at : at + count])) for at in range(0, len(logits), count)]
        yield from found

    def log_probs_stepwise(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """As `log_probs`, one token a pass."""
        check_context(len(tokens) - 1, self.context_length)
        with self.reading() as reader:
            return np.concatenate([log_probs(self._cut(reader.read([[token]], [0]))) for token in tokens[:-1]])

    def log_probs_in_pieces(
        self, tokens: Sequence[int], piece: int, keep: Sequence[int], *, own_cache: bool
    ) -> NDArray[np.float32]:
        """Log-probabilities behind some positions, read piece by piece."""
        check_context(len(tokens), self.context_length)
        engine = copy.copy(self)
        if own_cache and self.request.kv:
            engine.compile(WAYS[self.request.scheme.name])
        found: list[NDArray[np.float32]] = []
        with engine.reading() as reader:
            for start in range(0, max(keep) + 1, piece):
                wanted = [position - start for position in keep if start <= position < start + piece]
                logits = reader.read([tokens[start : start + piece]], wanted)
                found.append(log_probs(self._cut(logits)))
        return np.concatenate(found)

    def _cut(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Without the rows by which a head was filled up."""
        return logits[:, : self.vocabulary]

    @contextmanager
    def dequantized(self) -> Iterator[Self | None]:
        """The same file compiled to widen its weights to float32 and to compute with these, where both fit."""
        weights = self.census().linear_weights
        if not self.request.scheme.quantizes or not worth_dequantizing(weights, ProcessMemory().capacity_bytes()):
            yield None
            return
        twin = copy.copy(self)
        twin.compile(EXACT)
        yield twin
        twin.close()

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Score rows in packs with shared beginnings, or padded where the model takes no mask."""
        if not rows:
            return []
        check_context(max(len(row.context) + len(row.continuation) - 1 for row in rows), self.context_length)
        most = FEWER_TOKENS if self.request.small_batches else PACK_TOKENS
        with self.reading() as reader:
            if self.trees and not self.request.plain_scoring:
                return TreeScorer(reader, self.vocabulary, most).score(rows, done)
            return padded(reader, rows, self.vocabulary, done, most)

    def refuted(self) -> str | None:
        """Why its figures would mean nothing: it reads ahead, or goes on otherwise than it reads; None if neither.

        Packed trees that are read otherwise than each sequence alone are not used.
        """
        tokens = [*dict.fromkeys(self.encode(PROBED)), *range(9)][:9]
        text, other = tokens[:8], tokens[8]
        with self.reading() as reader:
            whole = reader.read([text], np.arange(8)).copy()
            allowed = SAME * float(whole.std())
            reader.clear()
            ahead = reader.read([[*text[:-1], other]], np.arange(7))
            if not np.abs(ahead - whole[:7]).mean() <= allowed:
                return "each token is read together with those after it: it predicts none"
            stepwise = reader
            stepwise.clear()
            stepwise.read([text[:4]], [3])
            through = allowed if self.way.carries else SAME_THROUGH_4_BITS / SAME * allowed
            if not np.abs(stepwise.read([text[4:]], np.arange(4)) - whole[4:]).mean() <= through:
                return "going on from what it carries is not reading the whole text"
        if self.trees:
            rows = [Row(tuple(text[:4]), tuple(end)) for end in (text[4:], [other, *text[5:]], [text[6], other])]
            self.trees = self._same_scores(rows, allowed)
        return None

    def _same_scores(self, rows: Sequence[Row], allowed: float) -> bool:
        """Whether packed trees give what each row gives by itself."""
        packed = self.score(rows)
        with self.reading() as reader:
            alone = padded(reader, rows, self.vocabulary, lambda finished: None)
        apart = [np.subtract(p.log_probs, a.log_probs) for p, a in zip(packed, alone, strict=True)]
        return bool(np.abs(np.concatenate(apart)).mean() <= allowed)

    def census(self) -> Census:
        """Count the file's constants."""
        return census.count(self.folder, self.way.compute)

    def close(self) -> None:
        """Free every request, then the model."""
        self.spare = None
        del self.compiled
        gc.collect()
