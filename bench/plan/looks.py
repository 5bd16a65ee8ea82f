# SPDX-License-Identifier: Apache-2.0
"""What one record tells of seconds: how far the model was from the device's roof, and what was done beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, median_low
from typing import Any

from pydantic import JsonValue

from bench.catalog import architecture
from bench.catalog.config import UnknownArchitecture
from bench.catalog.config import settings as sizes
from bench.catalog.gguf_model import header_in
from bench.catalog.model import Model, Objective
from bench.plan import predict
from bench.records.cell import Scheme
from bench.records.record import Measurement, Record
from bench.suite import Pace, Work

NEWEST = 5
"""Records of the same model that tell a figure."""
NEAREST = 3
"""Records of other models that tell it: small models are further from their roof than large ones."""
WITHOUT_RECORDS = 1.5
"""Last resort: by how much a token is slower than the roof and the calls where no record of the device tells."""
CALLS_S = {"transformers": 5e-4}
"""By engine, about what calling a layer's operations from Python takes, whatever they compute: seconds for each layer
of a pass over one token. Engines that are compiled call in microseconds."""
VOCABULARY = 50_000
"""Of a model whose architecture does not tell."""
TYPES = ("fp32", "bf16", "fp16")


def compute_type(scheme: Scheme, kind: str) -> str:
    """The type that a scheme's products are expected to run in, before a loaded model tells it."""
    if scheme.name in TYPES:
        return scheme.name
    bits = 16 if scheme.weight_only else scheme.bits or 16
    if bits in {32, 16, 8}:
        return {32: "fp32", 16: "bf16", 8: "int8"}[int(bits)]
    return "fp32" if kind == "cpu" else "fp16"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the seconds of a token depend on, of one model in one scheme."""

    parameters: int
    """That a token of the prompt is multiplied with: of an encoder and a decoder, half of all."""
    weights: int
    """Bytes that a decode step reads."""
    layers: int
    """That a decode step goes through; 0 if unknown."""
    vocabulary: int
    read_again: int
    """Tokens that every decode step reads again, because the model's class keeps no cache."""


def size_of(model: Model, weights: int, settings: Mapping[str, JsonValue]) -> Size:
    """The size of a model whose weights take so many bytes, asked with a suite's settings."""
    layers, vocabulary, cached = _shape(model)
    seq2seq = settings.get("objective") == Objective.SEQ2SEQ
    return Size(
        parameters=predict.multiplied(model, weights) // (2 if seq2seq else 1),
        weights=weights,
        layers=layers,
        vocabulary=vocabulary,
        read_again=0 if cached else predict.count(settings, "prompt_tokens"),
    )


def _shape(model: Model) -> tuple[int, int, bool]:
    """Layers, vocabulary, and whether its class keeps a cache."""
    config = model.architecture
    if header := header_in(config):
        return header.layers, header.vocabulary or VOCABULARY, True
    try:
        found = sizes(config or {})
        layers = found.get("num_decoder_layers") or found["num_hidden_layers"]
        return layers, found["vocab_size"], architecture.cache_elements(config or {}, 1) > 0
    except UnknownArchitecture:
        return 0, VOCABULARY, True


def at_the_roof(size: Size, known: Mapping[str, float], computing: str, kind: str, engine: str) -> Pace:
    """What a token would take if nothing but the device, and the calls of the engine, limited it.

    `known` is what its roof tells (`Roof.quantities`); where it tells nothing, `predict.RATES` is the last resort.
    """
    rates, usual = dict(known), predict.RATES[kind]
    memory = rates.pop("memory", WITHOUT_RECORDS * usual.read_bytes_per_s)
    matrix = rates.get(computing) or max(rates.values(), default=WITHOUT_RECORDS * usual.operations_per_s)
    calls = size.layers * CALLS_S.get(engine, 0.0)
    return Pace(prefill_s=2 * size.parameters / matrix, decode_s=calls + size.weights / memory)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one record tells."""

    record: Record
    size: Size
    roof: Pace
    """What its tokens would have taken at the roof."""
    done: Work
    prefill: float | None
    """By how much its own timed prompts were slower than the roof, None where none were timed."""
    decode: float | None
    """The same of its timed steps."""

    @property
    def scheme(self) -> tuple[str, str]:
        """Engine and scheme."""
        return self.record.cell.backend, self.record.cell.scheme

    @property
    def whole(self) -> float:
        """By how much all of it was slower than what the roof allows for the work that was done."""
        return self.record.seconds / self.tokens_at_the_roof

    @property
    def tokens_at_the_roof(self) -> float:
        """Seconds of its tokens at the roof."""
        return with_reread(self.roof, self.size).seconds(self.done)


def with_reread(pace: Pace, size: Size) -> Pace:
    """The pace of a model whose every step reads the prompt again, if it does."""
    return pace.model_copy(update={"decode_s": pace.decode_s + size.read_again * pace.prefill_s})


def look_at(record: Record, size: Size, roof: Pace, done: Work) -> Look | None:
    """What a record tells, None where it shows no work."""
    prefill, step = (_prefill(record), _step(record)) if record.cell.suite == "throughput" else (0.0, 0.0)
    look = Look(
        record=record, size=size, roof=roof, done=done,
        prefill=prefill / roof.prefill_s if prefill > 0 else None,
        decode=step / roof.decode_s if step > 0 and not size.read_again else None,
    )  # fmt: skip
    return look if look.tokens_at_the_roof > 0 else None


def _main(record: Record, name: str) -> Measurement | None:
    """Samples of the point that every profile has."""
    return next((m for m in record.measurements if m.name == name and not m.labels.get("point")), None)


def _prefill(record: Record) -> float:
    """Seconds that a token of the prompt took, the middle of its repeats; 0 if none was timed."""
    found = _main(record, "prefill_s")
    tokens: Any = found and found.labels.get("prompt_tokens")
    batch: Any = found and found.labels.get("batch", 1)
    return median(found.values) / (tokens * batch) if found and found.values and tokens and batch else 0.0


def _step(record: Record) -> float:
    """Seconds that a decode step took; 0 if none was timed."""
    found = _main(record, "itl_s")
    return median(found.values) if found and found.values else 0.0


def typical(looks: Sequence[Look], model: str, weights: int, value: Callable[[Look], float]) -> float:
    """The middle of the newest records of the same model, else of the models that are nearest in size.

    Of an even number the lower one: what else ran on the machine made some of them slower, and none faster.
    """
    same = [value(look) for look in looks if look.record.cell.model == model]
    if same:
        return median_low(same[:NEWEST])
    near = sorted(looks, key=lambda look: abs(math.log(look.size.weights / weights)))
    return median_low([value(look) for look in near[:NEAREST]])
