# SPDX-License-Identifier: Apache-2.0
"""A GGUF loaded by llama.cpp as an Engine.

Weights are mapped from the file, as llama.cpp does by default, and every page is read before the model counts as
loaded: they are file-backed memory. Quantized weights that the CPU's kernels repack are read into anonymous memory
instead (llama.cpp's --no-mmap), because the mapped original would count a second time and is never used again; there a
tied head is held twice, as embedding and repacked, and the second is in the ledger's unexplained part. A context
(cache, graph) is made at the first prompt, for that prompt and 256 tokens more, and grows when a generation goes
beyond; so its memory belongs to generating, not to loading. `cache_bytes` counts the positions held; llama.cpp
reserves `reserved_bytes`. How it attends and what it keeps keys and values in is said by name (`kv_cache`).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from bench.catalog import gguf_states
from bench.catalog.gguf_file import Gguf
from bench.catalog.gguf_folder import header_of
from bench.catalog.model import Objective
from bench.engines.abilities import LEFT_SHARE, ROWS, Asked, Take, smaller_batches, worth_dequantizing
from bench.engines.contract import DoesNotFit, LoadRequest, Row, Score, Unsupported, check_context
from bench.engines.llamacpp import census, gguf_layout, library, other_ways
from bench.engines.llamacpp.batch_scoring import Scoring, log_sum, packs
from bench.engines.llamacpp.context import Caching, Context, Entry, Shape
from bench.engines.llamacpp.gguf_layout import BATCH, CONTEXT_STEP
from bench.engines.llamacpp.kv_cache import asked_of
from bench.engines.llamacpp.locate import locate, widened
from bench.engines.llamacpp.side_by_side import SideBySide
from bench.instruments.memory import ProcessMemory, host_free_bytes
from bench.records.cell import Precision, Scheme, Weights
from bench.records.census import Census
from bench.records.record import Caveat

READ, MAPPED = 0, 1
"""llama_load_mode (llama.h): into memory of its own, or mapped from the file."""
F32 = Scheme(name="gguf-f32", precision=Precision.FP32, bits=32, other_bytes=4, method="float32")
"""What quantized weights are taken back to."""


class LlamaGeneration:
    """Greedy generation over one context."""

    def __init__(self, engine: LlamaEngine, prompts: Sequence[Sequence[int]], suppress: Collection[int]) -> None:
        self.engine, self.sequences, self.cache_tokens = engine, len(prompts), 0
        self.suppress = np.array(sorted(suppress), dtype=np.int64)
        self.tokens: list[int] | None = None
        self.context = engine.take(self._shape(gguf_layout.context_size(len(prompts[0]))))
        self.read(prompts)

    def read(self, texts: Sequence[Sequence[int]]) -> None:
        """Tokens of each sequence behind those it holds."""
        past, count = self.cache_tokens, len(texts[0])
        check_context(past + count, self.engine.context_length)
        entries = [
            Entry(token, past + position, (sequence,), scored=position == count - 1)
            for sequence, text in enumerate(texts)
            for position, token in enumerate(text)
        ]
        self.logits = np.concatenate(
            [self.context.decode(entries[at : at + BATCH]).copy() for at in range(0, len(entries), BATCH)]
        )
        self.cache_tokens, self.tokens = past + count, None

    def reserve(self, tokens: int) -> None:
        """Move into a context with room for so many more, if there is none."""
        if self.cache_tokens + tokens > self.context.shape.positions:
            self._grow(gguf_layout.context_size(self.cache_tokens + tokens))

    def _shape(self, positions: int) -> Shape:
        most = min(positions, -(-self.engine.context_length // CONTEXT_STEP) * CONTEXT_STEP)
        threads = self.engine.compute_threads
        return Shape(positions=most, sequences=self.sequences, outputs=self.sequences, shared=False, threads=threads)

    def step(self) -> list[int]:
        """The next token of each sequence."""
        if self.tokens is not None:
            check_context(self.cache_tokens + 1, self.engine.context_length)
            if self.cache_tokens >= self.context.shape.positions:
                self._grow(gguf_layout.context_size(self.cache_tokens))
            at = self.cache_tokens
            self.logits = self.context.decode([Entry(t, at, (i,), scored=True) for i, t in enumerate(self.tokens)])
            self.cache_tokens += 1
        if len(self.suppress):
            self.logits[:, self.suppress] = -np.inf
        self.tokens = [int(token) for token in self.logits.argmax(-1)]
        return list(self.tokens)

    @property
    def finite(self) -> bool:
        """Whether the logits of the tokens chosen last are numbers."""
        return bool(np.isfinite(self.logits[np.arange(self.sequences), self.tokens]).all())

    def _grow(self, positions: int) -> None:
        """Move into a context with room for more."""
        larger = self.engine.make(self._shape(positions))
        larger.copy_from(self.context)
        self.context.close()
        self.context = larger

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of the positions held, and of the states of recurrent layers."""
        return self.engine.cache_bytes_per_token * self.cache_tokens * self.sequences + self.fixed_bytes

    @property
    def fixed_bytes(self) -> int:
        """Of them, the states, which do not grow with the text."""
        return self.engine.state_bytes * self.sequences

    @property
    def reserved_bytes(self) -> int:
        """Bytes of keys, values and states that the context has room for."""
        return self.engine.cache_bytes_per_token * self.context.shape.positions * self.sequences + self.fixed_bytes

    @property
    def kept_in(self) -> str:
        """As asked."""
        return self.engine.caching.kept_in

    def close(self) -> None:
        """Leave the context to the next generation."""
        self.engine.give(self.context)


class LlamaEngine:
    """One model loaded by llama.cpp."""

    def __init__(self, request: LoadRequest) -> None:
        if request.model.objective is not Objective.CAUSAL:
            raise Unsupported(f"{request.model.objective} models are not supported by this backend")
        located = locate(request)
        self.path = located.path
        self.header = header_of(self.path)
        _require_left_to_right(self.header)
        self.provenance, self.caching = located.provenance, asked_of(request, self.header)
        self.request, self.plain_scoring = request, request.plain_scoring or request.small_batches
        size = self.path.stat().st_size
        capacity = ProcessMemory().capacity_bytes()
        if request.device == "cpu" and size > capacity:
            raise DoesNotFit("load", size, capacity)
        repack = library.repacking_works() if request.device == "cpu" else True
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = repack
        params.n_gpu_layers = 0 if request.device == "cpu" else -1
        mapped = request.device == "cpu" and not (repack and request.scheme.quantizes)
        if request.device == "cpu":
            params.load_mode = MAPPED if mapped else READ
        library.LOG.clear()
        self.model = llama_cpp.llama_model_load_from_file(str(self.path).encode(), params)
        if not self.model:
            raise library.failure("load", self.path.name, size)
        if mapped:
            library.touch(self.path)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.context_length = int(llama_cpp.llama_model_n_ctx_train(self.model))
        self.end_tokens = frozenset(
            token for token in range(self.vocabulary) if llama_cpp.llama_vocab_is_eog(self.vocab, token)
        )
        begin, end = llama_cpp.llama_vocab_bos(self.vocab), llama_cpp.llama_vocab_eos(self.vocab)
        self.prefix_token = int(begin if begin >= 0 else end)
        self.compute_threads = library.threads(request.threads)
        self.threads: int | None = self.compute_threads
        self.most_sequences = int(llama_cpp.llama_max_parallel_sequences())
        self.cache_bytes_per_token = self.caching.sized(census.cache_bytes_per_token(self.header))
        self.state_bytes = gguf_states.state_bytes(self.header)
        self.spare: Context | None = None
        self.contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self.caveats: tuple[Caveat, ...] = located.caveats + (() if repack else (library.NO_REPACKING,))

    def make(self, shape: Shape, caching: Caching | None = None) -> Context:
        """A new context, of another cache than this engine's where one is given. Raises DoesNotFit."""
        context = Context(self.model, self.vocabulary, shape, caching or self.caching)
        self.contexts.add(context)
        return context

    def take(self, shape: Shape) -> Context:
        """A context of at least that shape, empty: the one left by the last user, or a new one."""
        spare, self.spare = self.spare, None
        if spare is not None and spare.shape.holds(shape):
            spare.clear()
            return spare
        if spare is not None:
            spare.close()
        return self.make(shape)

    def give(self, context: Context) -> None:
        """Keep a context for the next user."""
        if self.spare is not None and self.spare is not context:
            self.spare.close()
        self.spare = context if context.close.alive else None

    def release(self) -> None:
        """Free the context kept for the next user."""
        if self.spare is not None:
            self.spare.close()
        self.spare = None

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens by the file's own tokenizer; texts of special tokens become those tokens, as in transformers."""
        data = text.encode()
        room = len(data) + 8
        tokens = (llama_cpp.llama_token * room)()
        parse_special = True
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, room, special, parse_special)
        if count < 0:
            raise RuntimeError(f"llama.cpp could not encode {len(data)} bytes into {room} tokens")
        return list(tokens[:count])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones shown."""
        made = (llama_cpp.llama_token * len(tokens))(*tokens)
        room = 64 + 16 * len(tokens)
        remove_special, unparse_special = False, True
        while True:
            text = ctypes.create_string_buffer(room)
            count = llama_cpp.llama_detokenize(
                self.vocab, made, len(tokens), text, room, remove_special, unparse_special
            )
            if count >= 0:
                return bytes(text.raw[:count]).decode(errors="replace")
            room = -count

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> LlamaGeneration:
        """Read the prompts."""
        check_context(len(prompts[0]), self.context_length)
        if len(prompts) > self.most_sequences:
            raise Unsupported(f"llama.cpp takes at most {self.most_sequences} sequences at once")
        return LlamaGeneration(self, prompts, suppress)

    @cached_property
    def generates_together(self) -> int:
        """Answers side by side; one at a time where asked for, and where layers carry a state of their own."""
        return 1 if self.plain_scoring or self.state_bytes else min(ROWS[self.request.device], self.most_sequences - 1)

    def generate(self, asked: Sequence[Asked], take: Take) -> None:
        """Greedy answers side by side."""
        left = int(LEFT_SHARE * host_free_bytes()) if self.request.device == "cpu" else None
        most = SideBySide(self, asked, take, left).run(self.generates_together)
        if most < self.generates_together:
            self.generates_together = most
            self.caveats = (*self.caveats, smaller_batches(most))

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Float32 log-softmax of every position but the last."""
        entries = [Entry(token, position, (0,), scored=True) for position, token in enumerate(tokens[:-1])]
        with Scoring(self, len(entries)) as scoring:
            made = np.empty((len(entries), self.vocabulary), np.float32)
            at = 0
            for logits in scoring.batches(entries):
                made[at : at + len(logits)] = logits - log_sum(logits)[:, None]
                at += len(logits)
        return made

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """As `log_probs` of each of several equally long sequences, side by side in every batch."""
        check_context(len(rows[0]) - 1, self.context_length)
        yield from other_ways.together(self, rows)

    def log_probs_stepwise(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """As `log_probs`, one token a batch."""
        check_context(len(tokens) - 1, self.context_length)
        return other_ways.stepwise(self, tokens)

    def log_probs_in_pieces(
        self, tokens: Sequence[int], piece: int, keep: Sequence[int], *, own_cache: bool
    ) -> NDArray[np.float32]:
        """Log-probabilities behind some positions, read piece by piece; its own cache is float16."""
        check_context(len(tokens), self.context_length)
        caching = self.caching.own if own_cache else self.caching
        return other_ways.in_pieces(self, tokens, min(piece, BATCH), keep, caching)

    @contextmanager
    def dequantized(self) -> Iterator[LlamaEngine | None]:
        """The same file written as F32 and loaded beside it, on a CPU and where both fit."""
        weights = sum(tensor.elements for tensor in self.header.tensors)
        wide = self.request.device != "cpu" or not self.request.scheme.quantizes
        if wide or not worth_dequantizing(weights, ProcessMemory().capacity_bytes()):
            yield None
            return
        path = widened(self.path, self.header, self.request.threads)
        twin = LlamaEngine(replace(self.request, scheme=F32, weights=Weights.LOCAL, path=str(path)))
        try:
            yield twin
        finally:
            twin.close()

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Score rows together, a context that several rows share computed once."""
        scores: list[Score | None] = [None] * len(rows)
        finished = 0
        longest = max((len(row.context) + len(row.continuation) - 1 for row in rows), default=0)
        with Scoring(self, longest) as scoring:
            for pack in packs(rows, plain=self.plain_scoring or bool(self.state_bytes)):
                for index, score in scoring.pack(rows, pack):
                    scores[index] = score
                finished += sum(map(len, pack))
                done(finished)
        return [score for score in scores if score is not None]

    def census(self) -> Census:
        """Count the file's tensors."""
        return census.count(self.header)

    def close(self) -> None:
        """Free every context, then the model."""
        self.spare = None
        for context in list(self.contexts):
            context.close()
        if self.model:
            llama_cpp.llama_model_free(self.model)
            self.model = None


def _require_left_to_right(header: Gguf) -> None:
    """Refuse what is no causal decoder, by the header. Raises Unsupported."""
    if header.metadata.get(f"{header.architecture}.attention.causal") is False:
        raise Unsupported(f"{header.architecture} reads each token together with those after it: it predicts none")
    if any(tensor.name.startswith("enc.") for tensor in header.tensors):
        raise Unsupported(f"{header.architecture} has an encoder: this backend reads decoders alone")
