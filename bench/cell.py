# SPDX-License-Identifier: Apache-2.0
"""The question: which model, from which weights, in which scheme, measured by which suite, on which device."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from bench.kernel import Kernel

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
"""A name that is also a folder of `results/`: lower case, no spaces."""


class Value(BaseModel):
    """An immutable value; unknown keys are errors, and the docstring under a field is its schema text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Precision(StrEnum):
    """What the reader compares."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    SERVED = "served"
    """As whoever serves the model chose: unknown, so it is compared with nothing."""


MEMORY_LIMIT = "memory_limit_bytes"
"""The setting that holds a cell's hard memory limit."""
COMPARED = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT4)
"""The precisions a model that is loaded here can have, widest first: the order of tables."""
REFERENCE = Precision.FP16
"""Every 8- and 4-bit row is compared with this precision of the same model on the same device."""


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


class Kind(StrEnum):
    """What a catalogue entry is; only some kinds can be loaded."""

    OPEN = "open weights"
    GATED = "gated"
    ADAPTER = "adapter"
    ADAPTER_CHAIN = "chain of adapters"
    DELTA = "delta"
    API = "api only"
    NEVER_RELEASED = "never released"
    NOT_A_MODEL = "not a model"


class Objective(StrEnum):
    """What the model was trained to predict, which decides what can be measured."""

    CAUSAL = "causal"
    SEQ2SEQ = "seq2seq"
    MASKED = "masked"


class Protocol(StrEnum):
    """How a remote model is asked."""

    OPENAI = "openai"
    """Chat completions as OpenAI serves them, and everyone compatible."""
    ANTHROPIC = "anthropic"
    """Anthropic's messages."""


class Remote(Value):
    """A model behind an API: how to ask it and what that costs."""

    protocol: Protocol
    model: str
    """Name the API knows it by."""
    url: str
    """Base address; `BENCH_API_URL` overrides it."""
    key_variable: str
    """Environment variable that holds the key: keys live nowhere else."""
    input_usd_per_million: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens, None if unknown."""
    output_usd_per_million: float | None = Field(default=None, ge=0)
    """Price of a million generated tokens, None if unknown."""
    priced: str | None = None
    """Date and source of the prices."""


class Quantity(StrEnum):
    """What a claim is about; its bounds are in the base unit of that quantity."""

    PEAK = "peak memory"
    """Bytes of the process at their highest, loading included."""
    WEIGHTS = "weights"
    """Bytes of the loaded weights."""
    DECODE = "decode speed"
    """Tokens per second at the claim's batch."""
    VOCABULARY = "vocabulary"
    """Rows of the embedding."""
    GROWTH = "vocabulary growth"
    """Rows of the embedding beyond those of the base model."""
    PARAMETERS = "parameters"
    TRAINED = "trained parameters"
    """The product of the claim's factors."""
    TRAINING = "training"
    """Time, money or memory of training, which this project does not measure."""


class Claim(Value):
    """One statement about a model that can be held against a figure, or the reason why it cannot."""

    id: Slug
    """Unique in the catalogue."""
    text: str
    """What is stated, in our own words."""
    source: str
    """Who states it, and where."""
    quantity: Quantity
    at_least: float | None = None
    """Lower bound in base units (bytes, tokens per second, rows, parameters), None if there is none."""
    at_most: float | None = None
    """Upper bound in base units; for memory, the budget."""
    precision: Precision | None = None
    """The precision it speaks of, None where none matters."""
    scheme: Slug | None = None
    """The scheme it names (`gptq-int8` …), None if any of the precision will do. Others stand in and are named."""
    tokens: int | None = Field(default=None, gt=0)
    """Positions held at the peak, prompt and generated together; None for a suite's own."""
    batch: int = Field(default=1, gt=0)
    stand_in: Slug | None = None
    """Catalogue entry of the same architecture that is measured where this one cannot be loaded."""
    factors: tuple[int, ...] = ()
    """Numbers whose product is the quantity, where arithmetic decides it."""
    untestable: str | None = None
    """Why no figure of ours can decide it, None if one can."""
    contradiction: str | None = None
    """What speaks against it elsewhere, in our own words."""

    @model_validator(mode="after")
    def _decidable(self) -> Claim:
        if not self.untestable and self.at_least is None and self.at_most is None:
            raise ValueError("a claim needs `at_least` or `at_most`, or `untestable` with the reason")
        if not self.untestable and self.quantity is Quantity.TRAINING:
            raise ValueError("training is not measured here: say why in `untestable`")
        if self.quantity is Quantity.TRAINED and not self.untestable and not self.factors:
            raise ValueError("trained parameters need `factors`")
        measured = {Quantity.PEAK, Quantity.WEIGHTS, Quantity.DECODE}
        if self.quantity in measured and not self.untestable and self.precision is None:
            raise ValueError(f"a claim about {self.quantity} needs a `precision`")
        return self


class Model(Value):
    """One catalogue entry that can be asked for by name."""

    name: Slug
    """The name people type, unique in the catalogue."""
    display: str
    """The name people read."""
    family: Slug
    """The catalogue file it stands in."""
    organisation: str
    kind: Kind
    reason: str | None = None
    """Why it can never be measured as it stands; None if it can."""
    objective: Objective = Objective.CAUSAL
    repo: str | None = None
    """Hub repository of the weights, None if there is none to load."""
    revision: str | None = None
    """Commit or tag to load, None for the default branch."""
    package: str | None = None
    """Python package that ships the weights, None for most."""
    package_file: str | None = None
    """File inside that package."""
    gguf_repo: str | None = None
    """Hub repository that holds it as GGUF for llama.cpp, None if there is none."""
    gguf_file: str | None = None
    """File in that repository; `{type}` in its name stands for each published type (`F16`, `Q8_0`, `Q4_K_M`)."""
    stored_bytes: int | None = Field(default=None, gt=0)
    """Bytes of the repository's weight files, None if unknown."""
    base: str | None = None
    """The model it was made from, in words; None for a base model."""
    base_model: Slug | None = None
    """Catalogue name of the model its adapters or its delta are added to, None if it stands alone."""
    adapters: tuple[str, ...] = ()
    """Hub repositories of LoRA adapters, in the order in which they are merged into the base."""
    added_rows: Literal["zero", "mean"] = "zero"
    """What a delta's rows beyond its base's vocabulary are differences to: zero, or the mean of the base's rows."""
    template: Slug | None = None
    """Name of its prompt template in `bench.prompts`, None if it takes plain text."""
    remote_code: bool = False
    """Whether its repository's own code may run, at the pinned revision and with the user's consent only."""
    remote: Remote | None = None
    """How to ask it over the network, None for models that run here."""
    data: str | None = None
    """What it was trained or tuned on, in our own words."""
    finetune: str | None = None
    """How it was tuned."""
    claim: str | None = None
    """Hardware and cost as its makers state them: claimed, not measured."""
    licence: str | None = None
    architecture: dict[str, JsonValue] | None = None
    """transformers config keys, enough to predict its bytes and to build it without its weights."""
    parameters: int | None = Field(default=None, gt=0)
    """Exact parameter count, shared tensors counted once."""
    sources: tuple[str, ...] = ()
    """Where the figures and statements come from; `computed` if by us."""
    notes: tuple[str, ...] = ()
    """Contradictions and traps worth printing beside it."""
    claims: tuple[Claim, ...] = ()
    """Statements about its size and speed that can be held against figures."""

    @property
    def default_weights(self) -> Weights:
        """The package if one ships it, else the Hub."""
        return Weights.PACKAGE if self.package else Weights.HUB


class Cell(Value):
    """One question. Two cells with the same key ask the same thing of the same device."""

    model: Slug
    weights: Weights
    source: str
    """The package, Hub repository, local folder's name, `random`, or served name and host: no path of this machine."""
    revision: str | None = None
    """Revision asked for; the one found is in the record's provenance."""
    backend: Slug
    scheme: Slug
    precision: Precision
    suite: Slug
    suite_version: int
    profile: Slug
    settings: dict[str, JsonValue]
    """The suite's flat settings for this profile: items, repetitions, token counts, tasks."""
    device: Slug
    """The device's slug, as in `results/<device>/`; for a served model, where it was asked from."""

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that identify the question."""
        return digest(self.model_dump(mode="json"))

    @property
    def load_key(self) -> tuple[str | int | None, ...]:
        """Cells with equal load keys are answered by one loaded model in one process."""
        return (self.device, self.model, self.weights, self.source, self.backend, self.scheme, self.memory_limit_bytes)

    @property
    def memory_limit_bytes(self) -> int | None:
        """The hard limit its process runs under, None if there is none: a limited cell is another question."""
        limit = self.settings.get(MEMORY_LIMIT)
        return limit if isinstance(limit, int) else None

    @property
    def unlimited(self) -> Cell:
        """The same question without a memory limit, which changes no answer but whether there is one."""
        return self.model_copy(update={"settings": {k: v for k, v in self.settings.items() if k != MEMORY_LIMIT}})

    def __str__(self) -> str:
        return f"{self.model} {self.precision} ({self.backend} {self.scheme}) {self.suite}"


def digest(data: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of `data` as canonical JSON."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
