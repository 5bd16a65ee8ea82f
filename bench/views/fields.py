# SPDX-License-Identifier: Apache-2.0
"""Every key that CSV and JSON have, declared once: its unit, its meaning, and the suite that measures it. Pure.

`bench.views.outputs` says which command writes which; `docs/columns.md` is made of both. A name may hold a word in
capitals that stands for what varies: `acc_TASK` is one key for each task.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Unit(StrEnum):
    """The base unit of a value; nothing is converted in a file."""

    TEXT = "text"
    FLAG = "true or false"
    BYTES = "bytes"
    SECONDS = "s"
    TIME = "UTC"
    RATE = "tokens/s"
    TOKENS = "tokens"
    COUNT = "count"
    BITS = "bits"
    NATS = "nats"
    SHARE = "share"
    """1 is all of it."""
    PROBABILITY = "probability"
    RATIO = "ratio"
    JOULES = "J/token"
    WATTS = "W"
    USD = "USD"
    OWN = "the quantity's own"
    """A bound of a claim: bytes, tokens per second, rows or parameters, as its quantity says."""
    METRIC = "the metric's own"
    """A task's score on whatever scale its metric has."""


@dataclass(frozen=True)
class Field:
    """One key."""

    name: str
    unit: Unit
    meaning: str
    suite: str = ""
    """The suite whose records have it, empty where none or every suite does."""


MODEL = Field("model", Unit.TEXT, "name of the catalogue entry, or of the caller's own model")
BACKEND = Field("backend", Unit.TEXT, "engine that computed")
SCHEME = Field("scheme", Unit.TEXT, "exact form of the weights: `bf16`, `bnb-nf4`, `gguf-q8_0` …")
PRECISION = Field("precision", Unit.TEXT, "`fp32`, `fp16`, `int8`, `int4`, or `served` where nobody knows")
SUITE = Field("suite", Unit.TEXT, "suite that asked")
DEVICE = Field("device", Unit.TEXT, "device as in `results/DEVICE/`")
WEIGHTS = Field("weights", Unit.TEXT, "where the weights come from: `package`, `hub`, `local`, `random` or `remote`")
CHECKPOINT = Field(
    "checkpoint",
    Unit.TEXT,
    "digest of the files that were loaded: rows of one model, backend and weights that differ in it are of different "
    "models; null where none were, or nothing tells",
)
WAY = Field(
    "way",
    Unit.TEXT,
    "how it computes beyond its scheme: `attention plain, kv int8`, in plans `attention untried` "
    "before a run has tried its ways here; null where nothing says it",
)
ROW = (MODEL, BACKEND, SCHEME, PRECISION, DEVICE, WEIGHTS, CHECKPOINT, WAY)
REFERENCE = Field("reference", Unit.TEXT, "scheme of the 16-bit row that it is compared with")
PREDICTED_WEIGHTS = Field("predicted_weights_bytes", Unit.BYTES, "weights, predicted before loading")
PREDICTED_PEAK = Field(
    "predicted_peak_bytes", Unit.BYTES, "peak above the process before loading, predicted before loading"
)
PREDICTED = (PREDICTED_WEIGHTS, PREDICTED_PEAK)

IDENTITY = (
    MODEL, BACKEND, SCHEME, PRECISION, SUITE, DEVICE, WEIGHTS,
    Field("outcome", Unit.TEXT, "how the cell ended: `ok`, `does_not_fit`, `unsupported`, `timed_out` …"),
    Field("reason", Unit.TEXT, "why it did not end well"), CHECKPOINT, WAY,
)  # fmt: skip
"""The first keys of a record."""

MEMORY = (
    Field("weights_bytes", Unit.BYTES, "every loaded parameter with its quantization metadata, shared tensors once"),
    Field("peak_bytes", Unit.BYTES, "highest while generating, above the process before loading"),
    Field("load_peak_bytes", Unit.BYTES, "highest while loading, above the process before loading"),
    Field("kv_bytes", Unit.BYTES, "cache of keys, values and recurrent states at the peak"),
    Field("kv_bytes_per_token", Unit.BYTES, "what of it grows with the text, for each position held"),
    Field("workspace_bytes", Unit.BYTES, "activations and temporary buffers, gone when the work is done"),
    Field("metadata_bytes", Unit.BYTES, "quantization metadata among the weights"),
    Field("runtime_bytes", Unit.BYTES, "what the work left behind: thread buffers, library state, leaks"),
    Field("peak_anonymous_bytes", Unit.BYTES, "part of the sampled peak that no file backs"),
    Field("peak_file_bytes", Unit.BYTES, "part of the sampled peak that is mapped from files"),
    Field("loaded_pss_bytes", Unit.BYTES, "proportional set size when loaded"),
    Field("peak_allocated_bytes", Unit.BYTES, "highest that the GPU allocator had given out"),
    Field("peak_reserved_bytes", Unit.BYTES, "highest that the GPU allocator had taken from the driver"),
    Field("unexplained_bytes", Unit.BYTES, "what loading left behind that is no parameter"),
    Field("pool_bytes", Unit.BYTES, "room for keys and values that a launched server takes at its start: a setting"),
    Field("needed_bytes", Unit.BYTES, "a launched server's peak without the part of that room which nothing used"),
    Field("slack_bytes", Unit.BYTES, "freed by the loader and held by the allocator"),
    Field(
        "baseline_bytes",
        Unit.BYTES,
        "the process with its libraries before loading: no part of the peaks; 0 of a launched server, which is whole",
    ),
    Field("load_s", Unit.SECONDS, "from the order to load until ready"),
    Field("linear_bits", Unit.BITS, "bits that one linear weight takes on average, its metadata included"),
    Field("linear_quantized", Unit.COUNT, "elements of linear weights stored in fewer than 16 bits"),
)
RATES = (
    Field("prefill_tokens_per_s", Unit.RATE, "prompt tokens per second to the first logits"),
    Field("ttft_s", Unit.SECONDS, "time to the first token"),
    Field("decode_tokens_per_s", Unit.RATE, "generated tokens per second from the first token to the last"),
    Field("itl_s", Unit.SECONDS, "gap between tokens, median"),
    Field("itl_p99_s", Unit.SECONDS, "gap between tokens, 99 % quantile"),
)
THROUGHPUT = (
    *RATES,
    Field("decode_bandwidth_share", Unit.SHARE, "bytes a step must read x steps per second, of what memory sustains"),
    Field("prefill_matrix_share", Unit.SHARE, "operations of the linear layers per second, of the matrix rate"),
    Field("prefill_j_per_token", Unit.JOULES, "joules of reading the prompt, idling included"),
    Field("decode_j_per_token", Unit.JOULES, "joules of generating, idling included"),
    Field("ttft_answer_s", Unit.SECONDS, "time to the first token of the answer itself, of a served model that thinks"),
    Field("idle_w", Unit.WATTS, "power with the model loaded and nothing asked"),
)
DIVERGENCE = (
    Field("kld_mean", Unit.NATS, "KL(16-bit reference || this) per token, mean"),
    Field("kld_median", Unit.NATS, "the same, median"),
    Field("kld_p99", Unit.NATS, "the same, 99 % quantile"),
    Field("kld_p999", Unit.NATS, "the same, 99.9 % quantile"),
    Field("kld_max", Unit.NATS, "the same, largest"),
    Field("same_top1", Unit.SHARE, "tokens whose most probable next token is the reference's"),
    Field("kld_fp32_mean", Unit.NATS, "KL(fp32 || this) per token, mean; one fp32 row serves all engines"),
    Field("same_top1_fp32", Unit.SHARE, "tokens whose most probable next token is the fp32 row's"),
    Field("kld_floor", Unit.NATS, "the row against itself in batches of 4: the noise of the distance"),
    Field("kld_floor_decode", Unit.NATS, "the row against itself, token by token against one pass"),
    Field("kld_weights", Unit.NATS, "KL of the row's own weights in float32: what is not this device's arithmetic"),
    Field("true_token_mean", Unit.SHARE, "change of the true token's probability, mean"),
    Field("true_token_rms", Unit.SHARE, "change of the true token's probability, root mean square"),
    Field("ln_ppl_ratio", Unit.NATS, "ln of this perplexity over the reference's, paired by window"),
    Field("ln_ppl_ratio_fp32", Unit.NATS, "of a launched server: ln of this perplexity over the fp32 row's, by window"),
    Field(
        "true_token_rms_fp32",
        Unit.SHARE,
        "of a launched server: change of the true token's probability from the fp32 row's, root mean square",
    ),
    Field("ppl", Unit.RATIO, "perplexity of the text"),
)
QUALITY = (
    Field("acc", Unit.SHARE, "right items, unweighted mean over the tasks that have such a score"),
    Field("items", Unit.COUNT, "items answered, all tasks together, whatever their scores"),
    Field("input_tokens", Unit.TOKENS, "prompt tokens that a served model counted"),
    Field("output_tokens", Unit.TOKENS, "generated tokens that a served model counted"),
    Field("cost_usd", Unit.USD, "what a served model's answers cost"),
    Field("cost_usd_per_item", Unit.USD, "the same for one item, mean"),
)
CAPACITY = (
    Field("max_context_tokens", Unit.TOKENS, "longest context that ran in the budget"),
    Field("budget_bytes", Unit.BYTES, "bytes of the whole process that the search could use"),
)


def _of(suite: str, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(replace(field, suite=suite) for field in fields)


FIGURES = (
    *_of("memory", MEMORY), *_of("throughput", THROUGHPUT), *_of("divergence", DIVERGENCE), *_of("quality", QUALITY),
    *_of("capacity", CAPACITY),
)  # fmt: skip
"""Keys of every record, null where it has no such figure."""
BY_FIGURE = {field.name: field for field in FIGURES}
AT_DEPTH = (
    Field("kv_kld_DEPTH", Unit.NATS, "KL(own cache || this cache) per token at that depth, read in pieces", "kv"),
    Field("kv_floor_DEPTH", Unit.NATS, "the own cache against itself in pieces of half the size", "kv"),
    Field("kv_same_top1_DEPTH", Unit.SHARE, "tokens whose most probable next token is the own cache's", "kv"),
    Field("kv_decode_tokens_per_s_DEPTH", Unit.RATE, "generated tokens per second behind so many others", "kv"),
    Field("kv_bytes_per_token_DEPTH", Unit.BYTES, "bytes of the cache for each position held there", "kv"),
    Field(
        "tokens_per_s_TEST", Unit.RATE, "llama-bench's test behind a text: `pp512@d2048` reads, `tg32@d0` generates",
        "throughput",
    ),
)  # fmt: skip
"""Figures by the tokens that stand before them."""
VARYING = (
    *AT_DEPTH,
    Field("acc_TASK", Unit.SHARE, "right items of one task", "quality"),
    Field(
        "score_TASK_METRIC",
        Unit.METRIC,
        "any metric of one task, as lm-eval names it (`exact_match,strict-match`); `_low` and `_high` beside it",
        "quality",
    ),
    Field(
        "clients_tokens_per_s_BATCH",
        Unit.RATE,
        "tokens per second that so many clients of a launched server get together, prompts included",
        "throughput",
    ),
)
"""Further keys of records, one for each task, metric or number of clients that they hold."""

CACHE = (
    Field("kv", Unit.TEXT, "what keys and values are kept in, `own` for the engine's own", "kv"),
    Field("depth", Unit.TOKENS, "positions before the last token that is compared", "kv"),
    Field("kv_kld", Unit.NATS, "KL(own cache || this cache) per token, read in pieces", "kv"),
    Field("kv_floor", Unit.NATS, "the own cache against itself in pieces of half the size", "kv"),
    Field("decode_tokens_per_s", Unit.RATE, "generated tokens per second behind that depth", "kv"),
    Field("kv_bytes_per_token", Unit.BYTES, "bytes of the cache for each position held", "kv"),
)
"""One cache at one depth."""
LAST = (
    Field("unit", Unit.TEXT, "which of a machine's cards measured it, as `cuda:1`, where one was chosen"),
    Field("memory_limit_bytes", Unit.BYTES, "hard limit that the process ran under"),
    Field("profile", Unit.TEXT, "`smoke`, `standard`, `full`: items and repetitions"),
    Field("run", Unit.TEXT, "the call of `bench run` that made it"),
    Field("started", Unit.TIME, "when the cell began, ISO 8601"),
    Field("id", Unit.TEXT, "the record's id, as in its file name"),
    Field("warnings", Unit.TEXT, "kinds of its warnings"),
)
"""The last keys of a record."""
