# SPDX-License-Identifier: Apache-2.0
"""What each command writes as CSV and JSON: its keys, and which of them have an interval beside them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bench.views.fields import (
    BACKEND,
    BY_FIGURE,
    CACHE,
    FIGURES,
    IDENTITY,
    LAST,
    MODEL,
    PRECISION,
    PREDICTED,
    PREDICTED_WEIGHTS,
    RATES,
    REFERENCE,
    ROW,
    SCHEME,
    SUITE,
    VARYING,
    WAY,
    WEIGHTS,
    Field,
    Unit,
)
from bench.views.formats import Flat, FlatValue

STANDS_FOR = {
    "TASK": r".+", "METRIC": r".+", "BATCH": r"\d+", "PROMPT": r"\d+", "DEPTH": r"\d+", "TEST": r"(pp|tg)\d+@d\d+",
    "PRECISION": r"[a-z]+\d*",
}  # fmt: skip
"""What a word in capitals in a key's name matches."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one command writes as CSV and JSON."""

    command: str
    row: str
    """What one row is."""
    fields: tuple[Field, ...]
    intervals: tuple[str, ...] = ()
    """Keys with the ends of their 95 % interval beside them, `_low` and `_high`."""

    @cached_property
    def _names(self) -> frozenset[str]:
        ends = {f"{name}_{end}" for name in self.intervals for end in ("low", "high")}
        return frozenset({field.name for field in self.fields} | ends)

    @cached_property
    def _varying(self) -> re.Pattern[str]:
        words = f"({'|'.join(STANDS_FOR)})"
        varying = [re.split(words, field.name) for field in self.fields if re.search(words, field.name)]
        return re.compile("|".join("".join(STANDS_FOR.get(p, re.escape(p)) for p in parts) for parts in varying))

    def declares(self, key: str) -> bool:
        """Whether this output may have such a key."""
        return key in self._names or self._varying.fullmatch(key) is not None

    def flat(self, values: Mapping[str, FlatValue]) -> Flat:
        """A flat row of these values. Raises KeyError for a key that is not declared, which is a mistake of ours."""
        unknown = [key for key in values if not self.declares(key)]
        if unknown:
            raise KeyError(f"{self.command} declares no {', '.join(unknown)}: see bench.views.outputs")
        return dict(values)


def _pick(*names: str) -> tuple[Field, ...]:
    return tuple(BY_FIGURE[name] for name in names)


SHOW = Output(
    command="bench show",
    row="one record; a figure that another record holds of it stands here too",
    fields=(
        *IDENTITY,
        *FIGURES,
        *VARYING,
        *(
            Field(f"{rate.name}_BATCHxPROMPT", rate.unit, f"`{rate.name}` at another batch and prompt", "throughput")
            for rate in RATES
        ),
        Field("max_batch_PROMPT", Unit.COUNT, "sequences of so many prompt tokens that ran in the budget", "capacity"),
        Field("max_context_tokens_bound", Unit.TEXT, "what ended the search for the context", "capacity"),
        Field("max_batch_PROMPT_bound", Unit.TEXT, "what ended the search for the batch", "capacity"),
        *PREDICTED,
        *LAST,
    ),
    intervals=("prefill_tokens_per_s", "decode_tokens_per_s", "kld_mean", "kld_fp32_mean", "acc"),
)
COMPARE = Output(
    command="bench compare",
    row="one row against its reference (`task` is null), then one for each of its tasks, then one for each task with "
    "generated answers",
    fields=(
        *ROW,
        REFERENCE,
        Field("versions_apart", Unit.TEXT, "packages that the two were measured with in different versions"),
        Field("task", Unit.TEXT, "the task, null where the row is about all of them"),
        Field("metric", Unit.TEXT, "its score that is compared, as lm-eval names it", "quality"),
        Field("weights_bytes_ratio", Unit.RATIO, "weights, this divided by the reference", "memory"),
        Field("peak_bytes_ratio", Unit.RATIO, "peak memory, this divided by the reference", "memory"),
        Field("prefill_tokens_per_s_ratio", Unit.RATIO, "prefill rate, this divided by the reference", "throughput"),
        Field("decode_tokens_per_s_ratio", Unit.RATIO, "decode rate, this divided by the reference", "throughput"),
        *_pick("kld_mean", "same_top1", "ln_ppl_ratio"),
        Field("answer", Unit.TEXT, "verdict of the sharpest instrument: of the row over all of them, or of the task"),
        Field(
            "decided_by",
            Unit.TEXT,
            "`perplexity ratio`, `choice probability`, `accuracy`, `generated answers` or `mean score`",
        ),
        Field("take", Unit.TEXT, "engine and scheme to take of this model: the least memory that loses nothing"),
        Field("perplexity_change", Unit.SHARE, "perplexity over the reference's, minus 1", "divergence"),
        Field("perplexity_verdict", Unit.TEXT, "of perplexity alone; `below its noise floor` too", "divergence"),
        Field("change", Unit.SHARE, "change that `decided_by` found of the task, this minus the reference", "quality"),
        Field("change_margin", Unit.SHARE, "change that still counts as equivalent there", "quality"),
        Field("change_p", Unit.PROBABILITY, "its p after Holm over these tasks and all looks", "quality"),
        Field("margin_factor", Unit.RATIO, "median of decision margins (right less best wrong) over theirs", "quality"),
        Field("margin_lost", Unit.COUNT, "items whose decision margin fell to zero or below", "quality"),
        Field("margin_gained", Unit.COUNT, "items whose decision margin rose above zero", "quality"),
        Field("blunter", Unit.TEXT, "why the task is not decided by the probability of the right choice", "quality"),
        Field("verdict", Unit.TEXT, "the same by the score alone, over all tasks or of this one", "quality"),
        Field("recovery", Unit.SHARE, "reference's score above chance that is left, mean over the tasks", "quality"),
        Field("reason", Unit.TEXT, "why the task cannot be paired", "quality"),
        Field(
            "difference",
            Unit.SHARE,
            "right items, this minus the reference; of a score on another scale a share of the reference's, below zero "
            "worse",
            "quality",
        ),
        Field("lost", Unit.COUNT, "items right with the reference and wrong with this, if items are either", "quality"),
        Field("gained", Unit.COUNT, "items wrong with the reference and right with this, if either", "quality"),
        Field("items", Unit.COUNT, "items that both answered", "quality"),
        Field("mcnemar_p", Unit.PROBABILITY, "p of the exact McNemar test, mid-p, of right and wrong items", "quality"),
        Field("holm_p", Unit.PROBABILITY, "the same (else Student's) after Holm over these tasks", "quality"),
        Field("margin", Unit.SHARE, "difference that still counts as equivalent", "quality"),
        Field("more_items", Unit.COUNT, "about how many more items would decide", "quality"),
        Field("answers", Unit.COUNT, "generated answers", "quality"),
        Field("answer_tokens_reference", Unit.TOKENS, "length of a reference answer, mean", "quality"),
        Field("answer_tokens_drift", Unit.TOKENS, "how much longer this one's answers are, mean", "quality"),
        Field("answers_empty", Unit.COUNT, "empty answers", "quality"),
        Field("answers_empty_reference", Unit.COUNT, "empty answers of the reference", "quality"),
        Field("answers_looping", Unit.COUNT, "answers that repeat themselves", "quality"),
        Field("answers_looping_reference", Unit.COUNT, "answers of the reference that do", "quality"),
        Field("answers_cut", Unit.COUNT, "answers that ran into the limit of tokens", "quality"),
        Field("answers_cut_reference", Unit.COUNT, "answers of the reference that did", "quality"),
        Field("answers_alone", Unit.COUNT, "answers that were generated once more one at a time", "quality"),
        Field("answers_changed_alone", Unit.COUNT, "of them those with another text: its own noise", "quality"),
        Field("answers_alone_reference", Unit.COUNT, "the reference's answers generated once more", "quality"),
        Field("answers_changed_alone_reference", Unit.COUNT, "of them those with another text", "quality"),
    ),
    intervals=("recovery", "difference", "perplexity_change", "change"),
)
ACROSS = Output(
    command="bench compare --across backend",
    row="one engine's row of a model that several engines measured",
    fields=(
        *ROW,
        *_pick("prefill_tokens_per_s", "decode_tokens_per_s", "kld_fp32_mean", "same_top1_fp32", "peak_bytes"),
        Field("on_front", Unit.FLAG, "whether none here beats it in peak, decode and distance from fp32 together"),
        Field("prefill_tokens_per_s_tied", Unit.FLAG, "whether the fastest of its precision cannot be told from it"),
        Field("decode_tokens_per_s_tied", Unit.FLAG, "the same of decode"),
        Field("fp32_reference", Unit.TEXT, "the fp32 row that distances are measured from", "divergence"),
        Field("reason", Unit.TEXT, "why figures are missing, by suite"),
        Field("caution", Unit.TEXT, "what is not the same in all rows although it should be"),
    ),
    intervals=("prefill_tokens_per_s", "decode_tokens_per_s", "kld_fp32_mean", "same_top1_fp32"),
)
CACHES = Output(
    command="bench compare --across kv",
    row="one cache of a model, engine and scheme at one depth",
    fields=(*ROW, *CACHE, *_pick("workspace_bytes")),
)
PER_BYTE = Output(
    command="bench compare --per-byte",
    row="one row, the smallest weights of its device first",
    fields=(
        *ROW,
        *_pick("weights_bytes"),
        Field("score", Unit.SHARE, "accuracy above chance, mean over the tasks that all rows answered", "quality"),
        Field("score_per_gib", Unit.SHARE, "the same for each GiB of weights", "quality"),
        Field("against", Unit.TEXT, "the best-scoring row of no more bytes"),
        Field("share", Unit.SHARE, "this score as a share of that row's, over the same items", "quality"),
        Field("verdict", Unit.TEXT, "`equivalent`, `worse`, `better`, `undecided` or `not measurable`", "quality"),
    ),
    intervals=("share",),
)
CLAIMS = Output(
    command="bench claims",
    row="one claim of the catalogue",
    fields=(
        Field("id", Unit.TEXT, "the claim's id"),
        Field("model", Unit.TEXT, "catalogue entry that it is about"),
        Field("claim", Unit.TEXT, "what is stated, in our own words"),
        Field("source", Unit.TEXT, "who states it, and where"),
        Field("quantity", Unit.TEXT, "what it is about: `peak memory`, `weights`, `decode speed` …"),
        Field("precision", Unit.TEXT, "precision it speaks of"),
        Field("scheme", Unit.TEXT, "scheme it names"),
        Field("at_least", Unit.OWN, "lower bound"),
        Field("at_most", Unit.OWN, "upper bound"),
        Field("tokens", Unit.TOKENS, "positions held at the peak"),
        Field("batch", Unit.COUNT, "sequences at once"),
        Field("verdict", Unit.TEXT, "`holds`, `fails`, `computed only`, `untested` or `not testable`"),
        Field("evidence", Unit.TEXT, "what was found or computed, and against what"),
        Field("record", Unit.TEXT, "id of the record that decided"),
        Field("contradiction", Unit.TEXT, "what speaks against it elsewhere"),
        Field("weights", Unit.TEXT, "whose weights that record is of: `the entry's own`, `local weights` …"),
        Field("checkpoint", Unit.TEXT, "mark of that record's weight files"),
    ),
)
CATALOG = Output(
    command="bench catalog",
    row="one entry of the catalogue, with what it would need on this machine",
    fields=(
        Field("name", Unit.TEXT, "name that people type"),
        Field("organisation", Unit.TEXT, "who published it"),
        Field("kind", Unit.TEXT, "`open weights`, `gated`, `adapter` …"),
        Field("parameters", Unit.COUNT, "parameters, shared tensors once"),
        Field("base", Unit.TEXT, "model it was made from, in words"),
        Field("repo", Unit.TEXT, "Hub repository of its weights"),
        Field("revision", Unit.TEXT, "commit or tag that is loaded, null for the default branch"),
        Field("not_measurable", Unit.TEXT, "why it can never be measured"),
        Field("display", Unit.TEXT, "name that people read"),
        Field("family", Unit.TEXT, "catalogue file that it stands in"),
        Field("base_model", Unit.TEXT, "entry that its adapters or its difference are added to"),
        Field("template", Unit.TEXT, "its prompt template"),
        Field("stored_bytes", Unit.BYTES, "weight files of the repository"),
        Field("licence", Unit.TEXT, "its licence"),
        Field("claims", Unit.COUNT, "claims that its makers made"),
        Field("measured", Unit.TEXT, "precisions that have figures here"),
        Field("measured_as", Unit.TEXT, "entry of the same architecture whose memory and speed stand for it, if none"),
        Field("predicted_peak_PRECISION_bytes", Unit.BYTES, "peak above the process before loading, predicted"),
        Field("fits_PRECISION", Unit.FLAG, "whether peak and process fit what is free, null if unknown"),
    ),
)
PLAN = Output(
    command="bench plan",
    row="one cell that would run, or one thing that is left out",
    fields=(
        MODEL,
        PRECISION,
        SCHEME,
        SUITE,
        WEIGHTS,
        WAY,
        *PREDICTED,
        Field("predicted_baseline_bytes", Unit.BYTES, "the process before loading: no part of the peak"),
        Field("predicted_s", Unit.SECONDS, "time it takes"),
        Field("budget_s", Unit.SECONDS, "what the budget is predicted to allow it, 0 for none; null without an end"),
        Field("why", Unit.TEXT, "`reference` where others are compared with it"),
        Field("left_out", Unit.TEXT, "why it will not run"),
        Field("predicted_context_tokens", Unit.TOKENS, "longest context that fits the budget", "capacity"),
        Field("predicted_batch_PROMPT", Unit.COUNT, "largest batch of such prompts that fits the budget", "capacity"),
    ),
)
RECOMMEND = Output(
    command="bench recommend",
    row="one row under the limits, those that are taken first, by tier",
    fields=(
        *ROW,
        Field("taken", Unit.FLAG, "whether it is the row to take of its model"),
        Field("satisfies", Unit.FLAG, "whether it is proved to satisfy every limit"),
        Field("predicted", Unit.FLAG, "whether its memory was predicted and nothing of it was measured here"),
        Field("tier", Unit.COUNT, "1 is the best; rows of one tier cannot be told apart by the items both answered"),
        Field(
            "score", Unit.SHARE, "accuracy above chance, mean over the tasks that all taken rows answered", "quality"
        ),
        Field("on_front", Unit.FLAG, "whether no other is proved at least as good in memory, decode and quality"),
        Field("memory_bytes", Unit.BYTES, "the whole process at its peak, its libraries included", "memory"),
        Field("memory_tokens", Unit.TOKENS, "positions held then", "memory"),
        Field("computed_bytes", Unit.BYTES, "of these bytes, cache of positions that was computed, not measured"),
        Field("proved_under_limit", Unit.FLAG, "whether it ran under a hard limit of no more than what was asked"),
        *_pick("decode_tokens_per_s"),
        Field("verdict", Unit.TEXT, "its quality against the model's own 16-bit row, at the loss that was asked"),
        Field("decided_by", Unit.TEXT, "`perplexity ratio`, `choice probability`, `accuracy` or `generated answers`"),
        Field("misses", Unit.TEXT, "what it misses, and by how much"),
        Field("refused", Unit.TEXT, "why it is not recommended whatever the limits"),
        Field(
            "cost_per_million", Unit.OWN, "of generated tokens, one sequence at a time, in the currency of the price"
        ),
        Field("break_even_tokens_per_day", Unit.COUNT, "above so many the box is cheaper than the API that was named"),
    ),
    intervals=("decode_tokens_per_s",),
)
AGAINST = Output(
    command="bench compare --against",
    row="one figure of a row that both result sets have",
    fields=(
        *ROW,
        Field("device_before", Unit.TEXT, "device in the other result set"),
        Field("figure", Unit.TEXT, "which figure; `acc:TASK` or `score:TASK:METRIC` of a task"),
        Field("before", Unit.OWN, "in the other result set"),
        Field("now", Unit.OWN, "in this one"),
        Field("change", Unit.SHARE, "by which share it grew; of a task the difference of probabilities or shares"),
        Field("course", Unit.TEXT, "`regressed`, `improved`, `same` or `undecided`"),
        Field("versions_apart", Unit.TEXT, "what else changed between the two: packages, driver, kernel, this project"),
    ),
    intervals=("change",),
)
INSPECT = Output(
    command="bench inspect",
    row="one engine and precision of a model that was looked at and not loaded",
    fields=(
        MODEL, BACKEND, SCHEME, PRECISION,
        Field("parameters", Unit.COUNT, "weights of the model, shared tensors once"),
        Field("label", Unit.TEXT, "what its files say of how they store it"),
        Field("file_bytes", Unit.BYTES, "all tensors of its files"),
        Field("bits_per_weight", Unit.BITS, "the same for each weight"),
        Field("types", Unit.TEXT, "types of its tensors with their shares of the bytes"),
        Field("embedding_type", Unit.TEXT, "type of the table that tokens are looked up in"),
        Field("head_type", Unit.TEXT, "type of an output head of its own"),
        Field("read_bytes_per_token", Unit.BYTES, "what generating one token reads of the file's weights"),
        Field("decode_ceiling_tokens_per_s", Unit.RATE, "what no engine exceeds on this device, without a cache"),
        Field("left_out", Unit.TEXT, "why this engine cannot take it"),
        PREDICTED_WEIGHTS,
        Field("predicted_needed_PROMPT_bytes", Unit.BYTES, "the whole process with so many positions, predicted"),
    ),
)  # fmt: skip
OUTPUTS = (SHOW, COMPARE, RECOMMEND, AGAINST, ACROSS, CACHES, PER_BYTE, CLAIMS, CATALOG, PLAN, INSPECT)
