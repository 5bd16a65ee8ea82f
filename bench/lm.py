# SPDX-License-Identifier: Apache-2.0
"""An Engine as an lm-eval model, and the evaluation of tasks item by item."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from lm_eval import simple_evaluate, utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager
from pydantic import JsonValue

from bench import journal as journals
from bench.engine import Engine, Row, Score, Unsupported
from bench.journal import Journal

TASKS = Path(__file__).resolve().parent.parent / "suites" / "tasks"
MAX_NEW_TOKENS = 256
"""Tokens a generated answer may have when its task does not say."""
Progress = Callable[[int, int], None]


class EngineLM(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """lm-eval's requests answered by an Engine.

    Encoding, truncation and rolling windows follow lm-eval's own Hugging Face model, so that the same weights give
    the same scores there and here; scores are float32 whatever the weights are.
    """

    def __init__(self, engine: Engine, max_length: int, done: Progress, journal: Journal | None = None) -> None:
        super().__init__()
        self.engine = engine
        self.journal = journal or Journal()
        self.max_length = min(max_length, engine.context_length)
        self._prefix_text = engine.decode([engine.prefix_token]) or "\0"
        self.done = done

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return min(self.engine.end_tokens, default=self.engine.prefix_token)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context."""
        return self.engine.prefix_token

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Tokens, with the ones the tokenizer itself puts before a text unless told not to.

        A text that already begins with the beginning token gets no second one, as in lm-eval's own model.
        """
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self._prefix_text)
        return self.engine.encode(string, special=add_special_tokens)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, list[int], list[int]]], **_: object
    ) -> list[tuple[float, bool]]:
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        scores = self._score(rows)
        return [(score.total, score.greedy) for score in scores]

    def _score(self, rows: Sequence[Row]) -> list[Score]:
        return journals.score(self.engine, rows, self.journal, lambda finished: self.done(finished, len(rows)))

    def _row(self, context: list[int], continuation: list[int]) -> Row:
        """Cut from the left so that all but the last token fit; a context of at least one token stays."""
        tokens = (context + continuation)[-(self.max_length + 1) :]
        cut = max(1, len(tokens) - len(continuation))
        return Row(tuple(tokens[:cut]), tuple(tokens[cut:]))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihood (nats) of each continuation, and whether greedy decoding would give it."""
        result: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return result

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood (nats) of each whole text, every token predicted once, in windows of `max_length`."""
        owners, rows = [], []
        for owner, request in enumerate(requests):
            for window in utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                context, continuation = utils.make_disjoint_window(window)
                owners.append(owner)
                rows.append(Row(tuple(context), tuple(continuation)))
        scores = self._score(rows)
        totals = [0.0] * len(requests)
        for owner, score in zip(owners, scores, strict=True):
            totals[owner] += score.total
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy answers, cut before the first stop string."""
        answers = []
        for index, request in enumerate(requests):
            context, options = request.args
            question = ["generate", context, json.loads(json.dumps(options))]
            answers.append(str(self.journal.remember(question, partial(self._generate, context, options))))
            self.done(index + 1, len(requests))
        return answers

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        if options.get("do_sample") and options.get("temperature", 1) != 0:
            raise Unsupported("this task samples its answers; only greedy generation is comparable")
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else [stop for stop in until if stop]
        limit = int(options.get("max_gen_toks") or options.get("max_new_tokens") or MAX_NEW_TOKENS)
        prompt = self.tok_encode(context)[-max(1, self.max_length - limit) :]
        generation = self.engine.prefill([prompt])
        tokens: list[int] = []
        text = ""
        try:
            while len(tokens) < limit:
                token = generation.step()[0]
                if token in self.engine.end_tokens:
                    break
                tokens.append(token)
                text = self.engine.decode(tokens)
                if any(stop in text for stop in stops):
                    break
        finally:
            generation.close()
        for stop in stops:
            text = text.split(stop)[0]
        return text


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One task's results, item by item."""

    task: str
    version: JsonValue
    chance: float | None
    """Expected accuracy of a guess, None if the task does not say."""
    digest: str
    """Twelve hexadecimal digits over documents and prompts in order: equal only for the very same items."""
    metrics: dict[str, list[float]]
    """Values of each metric, one for each item."""
    weights: list[float] | None = None
    """Words or bytes of each item where a metric is a perplexity, None elsewhere."""

    def labels(self) -> dict[str, JsonValue]:
        """What a Measurement of these values says about them."""
        labels: dict[str, JsonValue] = {"task": self.task, "version": self.version, "digest": self.digest}
        if self.chance is not None:
            labels["chance"] = self.chance
        if self.weights is not None:
            labels["item_weights"] = list(self.weights)
        return labels


def offline_tasks(folder: Path = TASKS) -> dict[str, dict[str, Any]]:
    """This project's task configurations by name, their data files made absolute."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        files = config["dataset_kwargs"]["data_files"]
        config["dataset_kwargs"]["data_files"] = {split: str(path.parent / name) for split, name in files.items()}
        found[str(config["task"])] = config
    return found


def evaluate(
    engine: Engine,
    *,
    tasks: Sequence[str],
    items: int,
    max_length: int,
    done: Progress = lambda done, total: None,
    journal: Journal | None = None,
) -> list[TaskResult]:
    """Score `items` items of each task, the same ones whoever asks.

    Raises Unsupported when a task is unknown to lm-eval or cannot be had.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    offline = offline_tasks()
    hub = [name for name in tasks if name not in offline]
    manager = TaskManager(include_defaults=bool(hub))
    unknown = [name for name in hub if name not in manager.all_tasks]
    if unknown:
        raise Unsupported(f"lm-eval has no task {unknown[0]!r}; own tasks: {', '.join(offline)}")
    loaded = manager.load([offline.get(name, name) for name in tasks])["tasks"]
    samples = {name: chosen_items(name, len(task.eval_docs), items) for name, task in loaded.items()}
    evaluated = simple_evaluate(
        model=EngineLM(engine, max_length, done, journal),
        tasks=list(loaded.values()),
        samples=samples,
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
    )
    return [_result(name, task, evaluated["samples"][name]) for name, task in loaded.items()]


def chosen_items(task: str, available: int, wanted: int) -> list[int]:
    """Indices of the items every precision answers: a prefix of a shuffle seeded by the task's name."""
    indices = list(range(available))
    random.Random(task).shuffle(indices)  # noqa: S311 - repeatable, not secret
    return sorted(indices[:wanted])


def _result(name: str, task: Any, samples: Iterable[dict[str, Any]]) -> TaskResult:
    rows = sorted(samples, key=lambda sample: sample["doc_id"])
    hashed = hashlib.sha256("".join(f"{row['doc_hash']}{row['prompt_hash']}" for row in rows).encode())
    metrics: dict[str, list[float]] = {}
    weights = None
    for metric in rows[0]["metrics"]:
        values = [row[metric] for row in rows]
        if isinstance(values[0], tuple | list):
            weights = [float(weight) for _, weight in values]
            values = [value for value, _ in values]
        metrics[metric] = [float(value) for value in values]
    metadata = getattr(task.config, "metadata", None) or {}
    return TaskResult(
        task=name,
        version=metadata.get("version"),
        chance=metadata.get("chance"),
        digest=hashed.hexdigest()[:12],
        metrics=metrics,
        weights=weights,
    )
