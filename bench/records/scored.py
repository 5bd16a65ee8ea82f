# SPDX-License-Identifier: Apache-2.0
"""One task's results item by item, made from lm-eval's samples without side effects."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

if TYPE_CHECKING:
    from lm_eval.api.task import Task

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
    """Values of each metric, one for each item; of a task with several answer filters by its first one."""
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
    weights: list[float] | None = None
    """Words or bytes of each item where a metric is a perplexity, None elsewhere."""

    def labels(self) -> dict[str, JsonValue]:
        """What a Measurement of these values says about them."""
        labels: dict[str, JsonValue] = {"task": self.task, "version": self.version, "digest": self.digest}
        more: dict[str, JsonValue] = {
            "chance": self.chance, "template": self.template, "item_hashes": self.hashes or None,
            "documents": self.documents or None, "clusters": list(self.clusters) if self.clusters else None,
            "truncated": self.truncated or None, "chat_template": self.chat,
            "item_weights": list(self.weights) if self.weights is not None else None,
            "output_type": self.output_type or None, "filter": self.filter,
        }  # fmt: skip
        return labels | {name: value for name, value in more.items() if value is not None}


def task_result(
    name: str,
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    generated: Mapping[Item, Answer],
    truncated: Collection[Item],
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
    metrics, weights = _metrics(rows, kind)
    return TaskResult(
        task=name, version=metadata.get("version"), chance=metadata.get("chance"),
        digest=_digest([*asked, framed or ""]), metrics=metrics, output_type=kind,
        choices=_choices(task, rows, metrics.get("acc")) if kind == "multiple_choice" else None,
        filter=filters[0] if len(filters) > 1 else None,
        by_filter={one: _metrics(every[one], kind)[0] for one in filters[1:]},
        hashes="".join(_hash(f"{row['doc_id']}{a}{framed or ''}", 10) for row, a in zip(rows, asked, strict=True)),
        documents=_digest([row["doc_hash"] for row in rows]),
        clusters=_clusters([row["doc"] for row in rows], metadata.get("cluster", SUBJECT)),
        truncated=len({row["doc_id"] for row in rows if (name, row["doc_id"]) in truncated}), template=framed,
        chat=chat, answers=answers if len(answers) == len(rows) else None, weights=weights,
    )  # fmt: skip


def _metrics(rows: Sequence[Mapping[str, Any]], kind: str) -> tuple[dict[str, list[float]], list[float] | None]:
    """Values of each metric by item, and the words or bytes of each item where a metric is a perplexity.

    Elsewhere a metric of pairs (f1's gold and answer) is one of the whole task, not of an item: it is left out.
    """
    metrics: dict[str, list[float]] = {}
    weights = None
    for metric in rows[0]["metrics"]:
        values = [row["metrics"][metric] for row in rows]
        if isinstance(values[0], tuple | list):
            if kind != "loglikelihood_rolling":
                continue
            weights = [float(weight) for _, weight in values]
            values = [value for value, _ in values]
        metrics[metric] = [float(value) for value in values]
    return metrics, weights


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
