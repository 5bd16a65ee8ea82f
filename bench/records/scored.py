# SPDX-License-Identifier: Apache-2.0
"""One task's results item by item, made from lm-eval's samples without side effects."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from bench.records.record import Measurement

Item = tuple[str | None, int | None]
"""Task and document."""
SUBJECT = "subject"
"""Field of a document that names what its items share, unless the task's metadata names another as `cluster`."""
NGRAM = 4
LOOPING = 0.5
"""An answer loops when at least this share of its n-grams has come before in it."""
SHORTEST = 16
"""Answers of fewer tokens have no room to loop."""


def loop_share(tokens: Sequence[Hashable], n: int = NGRAM) -> float:
    """Share of the n-grams that have come before in the same sequence: 0 if none, near 1 if it only repeats itself."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if len(tokens) >= SHORTEST else 0.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is kept of one generated answer beside its score."""

    tokens: int
    empty: bool
    loop: float
    """Share of its n-grams that came before in it."""
    cut: bool
    """Whether it ran into the limit of tokens."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The choices of a task's items as they were scored for `acc`."""

    log_likelihoods: tuple[tuple[float, ...], ...]
    """Nats of each item's choices, summed over their tokens."""
    right: tuple[int, ...]
    """Index of each item's right choice."""

    def labels(self) -> dict[str, JsonValue]:
        """How the flat values of a Measurement are cut into items, and which choice is right."""
        counts = [len(item) for item in self.log_likelihoods]
        return {"choices": counts[0] if len(set(counts)) == 1 else list(counts), "right": list(self.right)}


MEAN = "mean"
WEIGHTED = ("weighted_perplexity", "bits_per_byte")
"""Aggregations of pairs: an item's log-likelihood, and its words or bytes."""
PERPLEXITIES = ("perplexity", *WEIGHTED)
"""Aggregations of log-likelihoods, in nats."""
BRIER = "brier_score"
"""A mean over items: of each the squared distance of its probabilities from the truth."""
FROM_ITEMS = (MEAN, BRIER, *PERPLEXITIES)
"""Aggregations that are computed on reading, from the items' own values."""


ROLLED = frozenset({"word_perplexity", "byte_perplexity", "bits_per_byte"})
"""lm-eval's metrics of whole texts."""


def scored_after_itself(measurement: Measurement) -> bool:
    """Whether it is of whole texts and from before 2026-11-29: then a beginning token was scored after itself.

    Only tokenizers that begin every text are concerned, which no record tells. Such a metric said nothing of how it is
    read then; ever since it names its aggregation.
    """
    labels = measurement.labels
    return (measurement.name in ROLLED or "item_weights" in labels) and "task" in labels and "aggregation" not in labels


@dataclass(frozen=True, kw_only=True)
class MetricKind:
    """How a metric of a task is read."""

    aggregation: str = MEAN
    """How lm-eval makes one figure of it: a name of its registry, or that of the task's own function."""
    lower_is_better: bool = False

    def labels(self) -> dict[str, JsonValue]:
        """What a Measurement of this metric says of it; nothing of an ordinary mean."""
        labels: dict[str, JsonValue] = {} if self.aggregation == MEAN else {"aggregation": self.aggregation}
        return labels | ({"lower_is_better": True} if self.lower_is_better else {})


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """A metric of a whole task, as lm-eval computes it, where no item has a value of it that would do."""

    metric: str
    filter: str | None
    """The answer filter, None for a task that has but one."""
    value: float
    error: float | None
    """lm-eval's standard error, None where it has none for this aggregation."""
    items: int
    """Items that have a part in it."""
    kind: MetricKind


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One task's results, item by item, in the order they were asked."""

    task: str
    version: JsonValue
    chance: float | None
    """Expected accuracy of a guess, None if the task does not say."""
    digest: str
    """Twelve hexadecimal digits over documents and prompts in order: equal only for the very same items."""
    metrics: dict[str, list[float]]
    """Values of each metric that items have, one for each; of a task with several answer filters by its first one."""
    kinds: dict[str, MetricKind] = field(default_factory=dict)
    """How each metric is read, in the task's order: those of the whole task too, which no item has."""
    output_type: str = ""
    """How lm-eval asks it: `multiple_choice`, `generate_until`, `loglikelihood`, `loglikelihood_rolling`."""
    choices: Choices | None = None
    """None for a task without choices, with more than one right choice, or whose `acc` is not their likeliest one."""
    filter: str | None = None
    """The answer filter that `metrics` are by, None for a task that has but one."""
    by_filter: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """The same metrics by the task's other filters."""
    template: str | None = None
    """Prompt template around the item, None for plain text."""
    hashes: str = ""
    """Ten hexadecimal digits for each item, over its place, document and prompt: what pairs are made by."""
    documents: str = ""
    """As `digest`, over the documents alone: tells other prompts from other items."""
    clusters: list[int] | None = None
    """Subject of each item by number where the task has subjects, None elsewhere."""
    truncated: int = 0
    """Items that were cut to fit."""
    chat: str | None = None
    """Hash of the chat template around the items, None without one."""
    answers: list[Answer] | None = None
    """What was generated, None for a task that generates nothing."""
    weights: dict[str, list[float]] = field(default_factory=dict)
    """By metric that is a perplexity, words or bytes of each item."""

    def labels(self, metric: str = "") -> dict[str, JsonValue]:
        """What a Measurement of a metric's values says about them; without one, what is said of all."""
        labels: dict[str, JsonValue] = {"task": self.task, "version": self.version, "digest": self.digest}
        more: dict[str, JsonValue] = {
            "chance": self.chance, "template": self.template, "item_hashes": self.hashes or None,
            "documents": self.documents or None, "clusters": list(self.clusters) if self.clusters else None,
            "truncated": self.truncated or None, "chat_template": self.chat,
            "item_weights": list(self.weights[metric]) if metric in self.weights else None,
            "output_type": self.output_type or None, "filter": self.filter,
        }  # fmt: skip
        kind = self.kinds.get(metric, MetricKind()).labels()
        return labels | {name: value for name, value in more.items() if value is not None} | kind


def task_result(
    name: str,
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    generated: Mapping[Item, Answer],
    truncated: Collection[Item],
    kinds: Mapping[str, MetricKind],
    chat: str | None,
    template: str | None,
) -> TaskResult:
    """One task's result from its items' rows (`bench.scoring.evaluation`) in the order they were asked.

    `generated` and `truncated` are of all tasks. A prompt `template` is put around generated tasks after lm-eval hashed
    the prompts, so it goes into the hashes. Filters read the same answer in different ways, so each has its own values.
    """
    kind = str(task.config.output_type)
    filters = list(dict.fromkeys(row["filter"] for row in rows))
    every = {one: [row for row in rows if row["filter"] == one] for one in filters}
    rows = every[filters[0]]
    framed = template if kind == "generate_until" else None
    asked = [f"{row['doc_hash']}{row['prompt_hash']}" for row in rows]
    metadata = getattr(task.config, "metadata", None) or {}
    answers = [generated[name, row["doc_id"]] for row in rows if (name, row["doc_id"]) in generated]
    metrics, weights = _metrics(rows, kinds)
    return TaskResult(
        task=name, version=metadata.get("version"), chance=metadata.get("chance"),
        digest=_digest([*asked, framed or ""]), metrics=metrics, output_type=kind, kinds=dict(kinds),
        choices=_choices(task, rows, metrics.get("acc")) if kind == "multiple_choice" else None,
        filter=filters[0] if len(filters) > 1 else None,
        by_filter={one: _metrics(every[one], kinds)[0] for one in filters[1:]},
        hashes="".join(_hash(f"{row['doc_id']}{a}{framed or ''}", 10) for row, a in zip(rows, asked, strict=True)),
        documents=_digest([row["doc_hash"] for row in rows]),
        clusters=_clusters([row["doc"] for row in rows], metadata.get("cluster", SUBJECT)),
        truncated=len({row["doc_id"] for row in rows if (name, row["doc_id"]) in truncated}), template=framed,
        chat=chat, answers=answers if len(answers) == len(rows) else None, weights=weights,
    )  # fmt: skip


def item_values(rows: Sequence[Mapping[str, Any]], metric: str, kind: MetricKind) -> list[float] | None:
    """One number of each item, None where it is a metric of the whole task (f1 of gold and answer, BLEU)."""
    found = [row["metrics"].get(metric) for row in rows]
    if kind.aggregation in WEIGHTED:
        found = [_halves(value)[0] for value in found]
    elif kind.aggregation == BRIER:
        found = [_brier(value) for value in found]
    values = [_number(value) for value in found]
    return None if None in values else [value for value in values if value is not None]


def _metrics(
    rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, MetricKind]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Values of each metric that every item has, and words or bytes of each item by metric that is a perplexity."""
    metrics: dict[str, list[float]] = {}
    weights: dict[str, list[float]] = {}
    for metric, kind in kinds.items():
        values = item_values(rows, metric, kind)
        if values is None:
            continue
        metrics[metric] = values
        if kind.aggregation in WEIGHTED:
            weights[metric] = [float(_halves(row["metrics"][metric])[1]) for row in rows]  # type: ignore[arg-type]
    return metrics, weights


def _halves(value: object) -> tuple[object, object]:
    """A pair's two halves, nothing twice where it is none."""
    return (value[0], value[1]) if isinstance(value, tuple | list) and len(value) == 2 else (None, None)


def _number(value: object) -> float | None:
    """A finite number, None for anything else: a pair, a text, an item that has no such metric."""
    if value is None or isinstance(value, str | bytes | tuple | list | Mapping):
        return None
    try:
        found = float(value)  # type: ignore[arg-type]  # a number of any library
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _brier(value: Any) -> float | None:
    """One item's Brier score from its right choice and its probabilities."""
    try:
        gold, probabilities = value
        return math.fsum((float(p) - (index == gold)) ** 2 for index, p in enumerate(probabilities))
    except (TypeError, ValueError):
        return None


def _choices(task: Any, rows: Sequence[Mapping[str, Any]], accuracy: list[float] | None) -> Choices | None:
    """The choices' log-likelihoods where each item's likeliest one (the first, of equal ones) is what `acc` counts."""
    found, right = [], []
    if not hasattr(task, "multiple_input"):  # a class of its own, not a file
        return None
    for row in rows:
        options = task.doc_to_choice(row["doc"])
        gold = task.doc_to_text(row["doc"]) if task.multiple_input else task.doc_to_target(row["doc"])
        if isinstance(gold, str):
            gold = options.index(gold) if gold in options else None
        if not isinstance(gold, int) or not 0 <= gold < len(options) or len(options) < 2:
            return None
        # with mutual information the same choices follow without their context
        found.append(tuple(float(response[0]) for response in row["responses"][: len(options)]))
        right.append(gold)
    likeliest = [float(item.index(max(item)) == gold) for item, gold in zip(found, right, strict=True)]
    return Choices(log_likelihoods=tuple(found), right=tuple(right)) if accuracy == likeliest else None


def _digest(parts: Iterable[str]) -> str:
    return _hash("".join(parts), 12)


def _hash(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def _clusters(documents: Sequence[Mapping[str, object]], field: str) -> list[int] | None:
    """The documents' subjects by number in order of appearance; None where they have none, or but one."""
    if not all(isinstance(document, Mapping) and field in document for document in documents):
        return None
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(str(document[field]), len(numbers)) for document in documents]
    return found if len(numbers) > 1 else None
