# SPDX-License-Identifier: Apache-2.0
"""The question: which model, from which weights, in which scheme, measured by which suite, on which device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, JsonValue
from pydantic_core import CoreSchema, core_schema

from bench.records.kernel import Kernel


class _AsParsed:
    """Whatever a JSON parser gives is JSON: only what comes from elsewhere is looked through, value by value."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.json_or_python_schema(core_schema.any_schema(), handler(source))


Json = Annotated[JsonValue, _AsParsed()]
"""A value of JSON."""
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
"""A name that is also a folder of `results/`: lower case, no spaces."""


class Value(BaseModel):
    """An immutable value; unknown keys are errors, and a docstring under a field says what it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Precision(StrEnum):
    """What the reader compares."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    SERVED = "served"
    """As whoever serves the model chose: unknown, so it is compared with nothing."""


LAUNCH = "launch"
"""The setting that holds the command line of a server that is launched, without this machine's paths."""
MEMORY_LIMIT = "memory_limit_bytes"
"""The setting that holds a cell's hard memory limit."""
ATTENTION, KV = "attention", "kv"
"""Settings that say how a cell computes beyond its scheme: llama.cpp's attention (`flash`, `plain`), and what keys and
values are kept in (`int8`, or `int8/int4` where they differ). Without `kv` the cache is the engine's own: 16-bit in
llama.cpp, the compute type in transformers. Older records of llama.cpp have no `attention`: the library chose."""
UNTRIED = "untried"
"""The attention of a planned cell where the faster way of the device is not known yet; no measured cell has it."""
ASSUMED = "plain"
"""What stands for it on another box, where this process can try nothing: plain attention takes every size of head."""
WAYS = (ATTENTION, KV)
KV_PRECISIONS = ("fp16", "int8", "int4")
"""What `kv` may say; the first alone is no setting."""
COMPARED = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT4)
"""The precisions a model that is loaded here can have, widest first: the order of tables."""
REFERENCE = Precision.FP16
"""Every 8- and 4-bit row is compared with this precision of the same model on the same device."""
PROFILES = ("smoke", "standard", "full")
"""From a minute to an hour for a small model; each suite's file says what they mean there."""
QUALITY_SUITES = ("divergence", "quality")
"""The suites that say how good a model's answers are."""
KV_READ_IN_PIECES = "what a cache's precision costs is judged by reading through it: --suite kv"
"""Why these suites are not asked with `--kv`: some engines read one pass with keys that were never quantized."""
RANDOM_SAYS_NOTHING = "random weights say nothing about quality"
"""Why models built with random values are not asked by these suites."""


class Scheme(Value):
    """How a backend realises a precision, with enough arithmetic to predict its bytes."""

    name: Slug
    """`bf16`, `bnb-nf4`, `gguf-q8_0` …"""
    precision: Precision
    """The precision a reader compares it under."""
    bits: float | None = Field(gt=0)
    """Bits of one quantized linear weight, metadata left out; None if unknown: a served model's."""
    group: int | None = Field(default=None, gt=0)
    """Weights that share one scale, None if scales belong to rows or there are none."""
    group_else: int | None = Field(default=None, gt=0)
    """The group of a model where `group` does not divide every layer's inputs, None if that is no matter."""
    group_bytes: float = 0
    """Bytes of metadata for each group."""
    row_bytes: float = 0
    """Bytes of metadata for each output row."""
    column_bytes: float = 0
    """Bytes of metadata for each input column."""
    layer_bytes: int = 0
    """Bytes of metadata for each linear layer, whatever its size."""
    other_bytes: int = 2
    """Bytes of one parameter that is not a quantized linear weight (embeddings, norms, the head)."""
    kept_bytes: int = 4
    """Bytes of one element of a weight that its architecture keeps from quantizing and from float16: T5's `wo`."""
    bias_bytes: int | None = None
    """Bytes of one element of a quantized layer's bias, None if as other parameters."""
    kernel: Kernel = Kernel()
    whole_pass: bool = False
    """Whether its arithmetic looks at everything in a forward pass: what is read beside a sequence, or after it, moves
    the sequence's scores by more than the rounding that any other batch brings. LLM.int8() looks for outlier columns
    over all rows of a pass. Such a scheme is scored one sequence a pass: nothing packed, nothing padded, no beginning
    shared. `tests/engines/test_backends.py` proves it of every scheme, whichever it says."""
    weight_only: bool = False
    """Whether eight bits are those of weights alone, cast to the 16-bit type of the activations for every product."""
    method: str
    """One sentence for the footnote of a table."""

    def linear_bytes(self, rows: int, columns: int) -> int:
        """Bytes of one linear layer's weight of shape (rows, columns), its quantization metadata included."""
        assert self.bits is not None, "nobody knows how a served model is stored"
        count = rows * columns
        groups = -(-count // self.group) if self.group else 0
        metadata = groups * self.group_bytes + rows * self.row_bytes + columns * self.column_bytes + self.layer_bytes
        return int(-(-count * self.bits // 8) + metadata)

    @property
    def quantizes(self) -> bool:
        """Whether linear weights take fewer than 16 bits."""
        return self.bits is not None and self.bits < 16


class Weights(StrEnum):
    """Where the weights come from."""

    PACKAGE = "package"
    """Shipped inside an installed Python package."""
    HUB = "hub"
    """A repository of the Hugging Face Hub."""
    LOCAL = "local"
    """A folder in Hub layout, or a GGUF file, on this machine."""
    RANDOM = "random"
    """True architecture, random values: honest for memory and speed, never for quality."""
    REMOTE = "remote"
    """With whoever serves the model: never on this machine."""


class Cell(Value):
    """One question. Two cells with the same key ask the same thing of the same device."""

    model: Slug
    weights: Weights
    source: str
    """The package, Hub repository, local folder's name, `random`, or served name and host: no path of this machine."""
    revision: str | None = None
    """Revision asked for; the one found is in the record's provenance."""
    fingerprint: str | None = None
    """Digest of the files of local weights, whose name is no identity: every training run has a `checkpoint-100`. None
    for weights that name and revision identify, and in older records."""
    backend: Slug
    scheme: Slug
    precision: Precision
    suite: Slug
    suite_version: int
    profile: Slug
    settings: dict[str, Json]
    """The suite's flat settings for this profile: items, repetitions, token counts, tasks."""
    device: Slug
    """The device's slug, as in `results/<device>/`; for a served model, where it was asked from."""

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits that identify the question."""
        told = self.model_dump(mode="json")
        if self.fingerprint is None:  # so that the keys of cells without one are what they were
            del told["fingerprint"]
        return digest(told)

    def __copy__(self) -> Self:
        """Without the key, which may not be the copy's."""
        found = super().__copy__()
        found.__dict__.pop("key", None)
        return found

    @property
    def load_key(self) -> tuple[str | int | None, ...]:
        """Cells with equal load keys are answered by one loaded model in one process."""
        named = (self.device, self.model, self.weights, self.source, self.fingerprint)
        return (*named, self.backend, self.scheme, self.memory_limit_bytes, self.way)

    @property
    def memory_limit_bytes(self) -> int | None:
        """The hard limit its process runs under, None if there is none: a limited cell is another question."""
        limit = self.settings.get(MEMORY_LIMIT)
        return limit if isinstance(limit, int) else None

    @property
    def way(self) -> str:
        """How it computes beyond its scheme, as `attention plain, kv int8`: another way is another row.

        Empty where no setting says it.
        """
        return ", ".join(f"{name} {self.settings[name]}" for name in WAYS if name in self.settings)

    @property
    def unlimited(self) -> Cell:
        """The same question without a memory limit, which changes no answer but whether there is one."""
        if MEMORY_LIMIT not in self.settings:
            return self
        return self.model_copy(update={"settings": {k: v for k, v in self.settings.items() if k != MEMORY_LIMIT}})

    def __str__(self) -> str:
        return f"{self.model} {self.precision} ({self.backend} {self.scheme}) {self.suite}"


def digest(data: object) -> str:
    """Twelve hexadecimal digits of the SHA-256 of `data` as canonical JSON."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reference_name(key: str, packages: Mapping[str, str], weights: str = "*") -> str:
    """Folder of one reference: its cell's key, the engine's versions, the digest of the very weights (`*`: any)."""
    return f"{key}-{digest(dict(packages))}-{weights}"
