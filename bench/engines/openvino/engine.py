# SPDX-License-Identifier: Apache-2.0
"""A causal model exported to OpenVINO's IR as an Engine, on a CPU.

Weights are mapped while the model is compiled and held as its kernels want them afterwards. A request (keys and values,
buffers) is made at the first prompt and left to the next one.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from bench.catalog.model import Objective
from bench.engines.abilities import worth_dequantizing
from bench.engines.contract import DoesNotFit, LoadRequest, Unsupported
from bench.engines.exported.engine import SAME, ExportedEngine
from bench.engines.exported.logits import Floats
from bench.engines.exported.proof import sees_all
from bench.engines.openvino import census, graph, layout
from bench.engines.openvino.compiled import EXACT, WAYS, Way, asked_of, check, compiled, core
from bench.engines.openvino.files import MODEL, WEIGHTS, proven_mask
from bench.engines.openvino.locate import locate
from bench.engines.openvino.reader import Reader, fits
from bench.instruments.memory import ProcessMemory
from bench.records.census import Census
from bench.records.record import Caveat

QUANTIZED = ("int8", "int4")
"""Keys and values that have scales."""
SAME_THROUGH_4_BITS = 0.5
"""Share of the logits' spread within which going on from 4-bit keys and values is reading the whole text: what forgets
its text is further off than the spread."""
WIDENED = Caveat(
    kind="computed_wider",
    text="float16 is how these weights lie in the file: OpenVINO holds and multiplies them as float32 here",
    advice="its memory and speed are those of float32; ov-bf16 is 16-bit where the CPU multiplies bfloat16",
)


class OpenVinoEngine(ExportedEngine):
    """One compiled model."""

    def __init__(self, request: LoadRequest) -> None:
        if request.model.objective is not Objective.CAUSAL:
            raise Unsupported(f"{request.model.objective} models are not supported by this backend")
        located = locate(request)
        super().__init__(request, located.folder, located.provenance)
        size, capacity = (self.folder / WEIGHTS).stat().st_size, ProcessMemory().capacity_bytes()
        if size > capacity:
            raise DoesNotFit("load", size, capacity)
        self.sees_all = sees_all(self.config) and proven_mask(self.folder)
        asked = asked_of(request)
        self.compile(asked)
        check(asked, self.way)
        self.threads = int(self.compiled.get_property("INFERENCE_NUM_THREADS"))
        self.caveats = (WIDENED,) if request.scheme.name == "ov-fp16" else ()

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
        self.same_going_on = SAME if self.way.carries else SAME_THROUGH_4_BITS
        self.spare = None

    def reader(self) -> Reader:
        """A new request."""
        return Reader(self.compiled)

    def fits(self, phase: str) -> AbstractContextManager[None]:
        """Turn OpenVINO's ways of running out of memory into DoesNotFit."""
        return fits(phase)

    @property
    def position_elements(self) -> int:
        """Numbers of keys and values of one sequence at one position."""
        return self.carried.keys + self.carried.values

    @property
    def position_bytes(self) -> int:
        """Bytes they take, by the model's own states and the types that it keeps."""
        each = 0.0
        for numbers, kind in zip((self.carried.keys, self.carried.values), layout.kept_in(self.kept_in), strict=True):
            each += numbers * layout.KV_BYTES[kind] + (
                self.carried.heads * layout.KV_SCALES if kind in QUANTIZED else 0
            )
        return int(each)

    @property
    def kept_in(self) -> str:
        """As the compiled model says."""
        return self.way.kept_in

    def log_probs_in_pieces(self, tokens: Sequence[int], piece: int, keep: Sequence[int], *, own_cache: bool) -> Floats:
        """Log-probabilities behind some positions, read piece by piece."""
        engine = copy.copy(self)
        if own_cache and self.request.kv:
            engine.compile(WAYS[self.request.scheme.name])
        return engine.read_in_pieces(tokens, piece, keep)

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

    def census(self) -> Census:
        """Count the file's constants."""
        return census.count(self.folder, self.way.compute)

    def close(self) -> None:
        """Free every request, then the model."""
        self.spare = None
        del self.compiled
        gc.collect()
