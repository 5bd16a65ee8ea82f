# SPDX-License-Identifier: Apache-2.0
"""One entry of the catalogue: what it is, where its weights are, and what its makers claim of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, FiniteFloat, JsonValue, ValidationInfo, field_validator, model_validator

from bench.catalog import address
from bench.records.cell import Precision, Slug, Value, Weights


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
    """Base address; `BENCH_API_URL` overrides it. Plain http to this machine alone."""
    key_variable: str
    """Environment variable that holds the key, `NAME_API_KEY`: keys live nowhere else, and go to this address alone."""
    input_usd_per_million: FiniteFloat | None = Field(default=None, ge=0)
    """Price of a million prompt tokens, None if unknown."""
    output_usd_per_million: FiniteFloat | None = Field(default=None, ge=0)
    """Price of a million generated tokens, None if unknown."""
    priced: str | None = None
    """Date and source of the prices."""

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        wrong = address.fault(url)
        if wrong:
            raise ValueError("; ".join(wrong))
        return url

    @field_validator("key_variable")
    @classmethod
    def _of_this_host(cls, variable: str, info: ValidationInfo) -> str:
        wrong = address.key_fault(variable, str(info.data.get("url", "")))
        if wrong and "url" in info.data:  # else that is what is wrong
            raise ValueError(wrong)
        return variable


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
    at_least: FiniteFloat | None = None
    """Lower bound in base units (bytes, tokens per second, rows, parameters), None if there is none."""
    at_most: FiniteFloat | None = None
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

    @property
    def turning_point(self) -> float | None:
        """The value the claim turns on: enough, by `at_most`, or by `at_least` not enough; None without a bound."""
        return self.at_most if self.at_most is not None else self.at_least

    def allows(self, value: float) -> bool:
        """Whether a value lies within the claim's bounds."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

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
    """Name of its prompt template in `bench.catalog.prompts`, None if it takes plain text."""
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

    def measured_for(self, claim: Claim) -> str:
        """Name of the entry that is measured for a claim of this one: itself, or what stands in for it."""
        return claim.stand_in or self.name
