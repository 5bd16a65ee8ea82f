# SPDX-License-Identifier: Apache-2.0
"""One llama.cpp context: its cache, its batch and its logits, over the library's low-level calls."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from bench.engines.contract import DoesNotFit
from bench.engines.llamacpp import library
from bench.engines.llamacpp.gguf_layout import BATCH, CACHE_BYTES, CACHE_TYPES, CONTEXT_STEP, element_bytes


@dataclass(frozen=True)
class Entry:
    """One token of a batch."""

    token: int
    position: int
    sequences: tuple[int, ...]
    """Every sequence that has this token at this position: a common beginning is computed once."""
    scored: bool
    """Whether its logits are wanted."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a context is made for."""

    positions: int
    """Cache cells for each sequence, or for all of them where they share."""
    sequences: int
    outputs: int
    """Most logits rows of one `decode`."""
    shared: bool
    """Whether sequences may share cells."""
    threads: int

    def holds(self, other: Shape) -> bool:
        """Whether a context of this shape serves what asks for `other`."""
        return (
            self.positions >= other.positions
            and self.outputs >= other.outputs
            and (self.sequences, self.shared, self.threads) == (other.sequences, other.shared, other.threads)
        )


FLASH = {"plain": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED, "flash": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED}


@dataclass(frozen=True, kw_only=True)
class Caching:
    """How a context attends, and what it keeps keys and values in; never left to the library."""

    attention: str
    """`flash` or `plain`."""
    keys: str = "fp16"
    values: str = "fp16"

    @property
    def kept_in(self) -> str:
        """`int8`, or `int8/int4` where keys and values differ."""
        return self.keys if self.keys == self.values else f"{self.keys}/{self.values}"

    @property
    def own(self) -> Caching:
        """The same with the cache that nobody asked for."""
        return Caching(attention=self.attention)

    def sized(self, bytes_of_16_bit: int) -> int:
        """Bytes that so many of a float16 cache take in this one."""
        return round(bytes_of_16_bit * element_bytes(self.keys, self.values) / CACHE_BYTES)


class Context:
    """A context with its input batch. It is freed by `close`, with its last reference, or when Python ends."""

    def __init__(self, model: llama_cpp.llama_model_p, vocabulary: int, shape: Shape, caching: Caching) -> None:
        self.shape, self.vocabulary, self.caching = shape, vocabulary, caching
        params = llama_cpp.llama_context_default_params()
        cells = -(-shape.positions // CONTEXT_STEP) * CONTEXT_STEP
        params.n_ctx = cells if shape.shared else cells * shape.sequences
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = shape.sequences
        params.kv_unified = shape.shared
        params.n_outputs_max = shape.outputs
        params.n_outputs_max_per_seq = shape.outputs
        params.n_threads = params.n_threads_batch = shape.threads
        params.flash_attn_type = FLASH[caching.attention]
        params.type_k = getattr(llama_cpp, f"GGML_TYPE_{CACHE_TYPES[caching.keys]}")
        params.type_v = getattr(llama_cpp, f"GGML_TYPE_{CACHE_TYPES[caching.values]}")
        params.no_perf = True
        library.LOG.clear()
        self.pointer = llama_cpp.llama_init_from_model(model, params)
        if not self.pointer:
            raise library.failure("generate", "the context", None)
        self.memory = llama_cpp.llama_get_memory(self.pointer)
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, shape.sequences)
        self.close = weakref.finalize(self, _free, self.pointer, self.batch)
        """Free it; a second call does nothing."""

    def decode(self, entries: Sequence[Entry]) -> NDArray[np.float32]:
        """Read at most BATCH tokens; logits of the scored ones in order, shape (scored, vocabulary), a view.

        The view is valid until the next call. Raises DoesNotFit when no cell is free.
        """
        batch = self.batch
        scored = 0
        for index, entry in enumerate(entries):
            batch.token[index] = entry.token
            batch.pos[index] = entry.position
            batch.n_seq_id[index] = len(entry.sequences)
            ids = batch.seq_id[index]
            for slot, sequence in enumerate(entry.sequences):
                ids[slot] = sequence
            batch.logits[index] = entry.scored
            scored += entry.scored
        batch.n_tokens = len(entries)
        code = llama_cpp.llama_decode(self.pointer, batch)
        if code == 1:
            raise DoesNotFit("generate: the context is full")
        if code:
            raise library.failure("generate", "the model", None)
        llama_cpp.llama_synchronize(self.pointer)
        if not scored:
            return np.empty((0, self.vocabulary), np.float32)
        logits = llama_cpp.llama_get_logits(self.pointer)
        return np.ctypeslib.as_array(logits, (scored, self.vocabulary))

    def clear(self) -> None:
        """Forget every position; the memory stays."""
        with_data = False
        llama_cpp.llama_memory_clear(self.memory, with_data)

    def forget(self, sequence: int) -> None:
        """Forget one sequence."""
        everything = -1
        llama_cpp.llama_memory_seq_rm(self.memory, sequence, everything, everything)

    def copy(self, source: int, target: int) -> None:
        """Let an empty sequence hold what another one holds."""
        everything = -1
        llama_cpp.llama_memory_seq_cp(self.memory, source, target, everything, everything)

    def copy_from(self, other: Context) -> None:
        """Take over every sequence of another context."""
        for sequence in range(self.shape.sequences):
            size = llama_cpp.llama_state_seq_get_size(other.pointer, sequence)
            data = (ctypes.c_uint8 * size)()
            copied = llama_cpp.llama_state_seq_get_data(other.pointer, data, size, sequence)
            if not copied or not llama_cpp.llama_state_seq_set_data(self.pointer, data, size, sequence):
                raise library.failure("generate", "the context", None)


def _free(pointer: llama_cpp.llama_context_p, batch: llama_cpp.llama_batch) -> None:
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(pointer)
