# SPDX-License-Identifier: Apache-2.0
"""A causal model exported to ONNX as an Engine, by ONNX Runtime on a CPU."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from bench.catalog.model import Objective
from bench.engines.abilities import worth_dequantizing
from bench.engines.contract import DoesNotFit, LoadRequest, Unsupported
from bench.engines.exported.engine import ExportedEngine
from bench.engines.exported.logits import Floats
from bench.engines.exported.proof import proven
from bench.engines.onnxruntime import census
from bench.engines.onnxruntime.files import MODEL, WEIGHTS, WIDENED
from bench.engines.onnxruntime.locate import locate
from bench.engines.onnxruntime.reader import Reader, states
from bench.engines.onnxruntime.session import cores, fits, opened
from bench.instruments.memory import ProcessMemory
from bench.records.census import Census
from bench.records.record import Caveat

FILE = {"ort-int4-acc1": WIDENED}
"""The graph of a scheme, where it is not the one that all others have."""
HALVED = Caveat(
    kind="computed_wider",
    text="float16 is how these weights lie in the file: ONNX Runtime holds and multiplies them as float32 on a CPU",
    advice="its memory and speed are those of float32",
)


class OnnxRuntimeEngine(ExportedEngine):
    """One session."""

    def __init__(self, request: LoadRequest) -> None:
        if request.model.objective is not Objective.CAUSAL:
            raise Unsupported(f"{request.model.objective} models are not supported by this backend")
        located = locate(request)
        super().__init__(request, located.folder, located.provenance)
        size, capacity = (self.folder / WEIGHTS).stat().st_size, ProcessMemory().capacity_bytes()
        if size > capacity:
            raise DoesNotFit("load", size, capacity)
        self.threads = request.threads or cores()
        self.trees = proven(self.folder, "causal")
        self.file = FILE.get(request.scheme.name, MODEL)
        self.session = opened(self.folder / self.file, self.threads, widened=self.file == WIDENED)
        self.states = states(self.session)
        self.caveats = (HALVED,) if request.scheme.name == "ort-fp16" else ()

    def reader(self) -> Reader:
        """A new reader that carries nothing."""
        return Reader(self.session)

    @property
    def position_elements(self) -> int:
        """Numbers of keys and values of one sequence at one position."""
        return sum(state.heads * state.width for state in self.states)

    @property
    def position_bytes(self) -> int:
        """Bytes they take."""
        return 4 * self.position_elements

    @property
    def kept_in(self) -> str:
        """Their type: exports of float32 carry float32."""
        return "fp32"

    def fits(self, phase: str) -> AbstractContextManager[None]:
        """Turn the library's ways of running out of memory into DoesNotFit."""
        return fits(phase)

    def log_probs_in_pieces(self, tokens: Sequence[int], piece: int, keep: Sequence[int], *, own_cache: bool) -> Floats:
        """Log-probabilities behind some positions, read piece by piece: keys and values are kept in one way alone."""
        return self.read_in_pieces(tokens, piece, keep)

    @contextmanager
    def dequantized(self) -> Iterator[Self | None]:
        """The graph over the same stored weights that widens them to float32, where both fit."""
        weights = self.census().linear_weights
        if not self.request.scheme.quantizes or not worth_dequantizing(weights, ProcessMemory().capacity_bytes()):
            yield None
            return
        twin = copy.copy(self)
        twin.spare, twin.file = None, WIDENED
        twin.session = opened(self.folder / twin.file, self.threads, widened=True)
        yield twin
        twin.close()

    def census(self) -> Census:
        """Count the file's tensors."""
        return census.count(self.folder, self.file)

    def close(self) -> None:
        """Free the readers, then the session."""
        self.spare = None
        del self.session
        gc.collect()
