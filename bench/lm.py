# SPDX-License-Identifier: Apache-2.0
"""An Engine as an lm-eval model, and the evaluation of tasks item by item."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from lm_eval import simple_evaluate, utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, TemplateLM
from lm_eval.tasks import TaskManager
from pydantic import JsonValue

from bench import journal as journals
from bench.cell import Objective
from bench.engine import Engine, Row, Score, Unsupported
from bench.journal import Journal
from bench.prompts import template

TASKS = Path(__file__).resolve().parent.parent / "suites" / "tasks"
MAX_NEW_TOKENS = 256
"""Tokens a generated answer may have when its task does not say."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Frame:
    """What a model is, as far as asking it goes."""

    objective: Objective = Objective.CAUSAL
    template: str | None = None
    """Name of the prompt template around generated tasks, None for plain text."""


PLAIN = Frame()
INAPPLICABLE = {
    Objective.CAUSAL: {},
    Objective.SEQ2SEQ: {"loglikelihood_rolling": "an encoder reads the text that rolling perplexity would predict"},
    Objective.MASKED: {
        "loglikelihood_rolling": "pseudo-log-likelihoods make no perplexity",
        "generate_until": "masked models fill blanks, they do not generate",
    },
}
"""By objective, the output types of tasks that mean nothing for it, and why."""


class EngineLM(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """lm-eval's requests answered by an Engine.

    Encoding, truncation and rolling windows follow lm-eval's own Hugging Face model, so that the same weights give
    the same scores there and here; scores are float32 whatever the weights are.
    """

    def __init__(
        self, engine: Engine, max_length: int, done: Progress, frame: Frame = PLAIN, journal: Journal | None = None
    ) -> None:
        super().__init__()
        self.engine = engine
        self.frame = frame
        self.backend = "seq2seq" if frame.objective is Objective.SEQ2SEQ else "causal"  # how lm-eval splits a pair
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
        """Cut from the left so that all but the last token fit; a context of at least one token stays.

        An encoder and a decoder each have room of their own, as in lm-eval.
        """
        if self.frame.objective is Objective.SEQ2SEQ:
            return Row(tuple(context[-self.max_length :]), tuple(continuation[-self.max_length :]))
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
        if self.frame.template:
            asked = template(self.frame.template)
            context, stops = asked.render(context), [*stops, *asked.stop]
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
    template: str | None = None
    """Prompt template around the item, None for plain text."""
    weights: list[float] | None = None
    """Words or bytes of each item where a metric is a perplexity, None elsewhere."""

    def labels(self) -> dict[str, JsonValue]:
        """What a Measurement of these values says about them."""
        labels: dict[str, JsonValue] = {"task": self.task, "version": self.version, "digest": self.digest}
        if self.chance is not None:
            labels["chance"] = self.chance
        if self.template is not None:
            labels["template"] = self.template
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
    frame: Frame = PLAIN,
    left_out: Callable[[str, str], None] = lambda task, reason: None,
    journal: Journal | None = None,
) -> list[TaskResult]:
    """Score `items` items of each task, the same ones whoever asks.

    `left_out` hears of each task that means nothing for the model's objective, and why. Raises Unsupported when a
    task is unknown to lm-eval or cannot be had, or when none is left.
    """
    manager, loaded = load_tasks(tasks)
    for name, task in list(loaded.items()):
        reason = INAPPLICABLE[frame.objective].get(str(task.config.output_type))
        if reason:
            left_out(name, reason)
            del loaded[name]
            if not loaded:
                raise Unsupported(reason)
    samples = {name: chosen_items(name, len(task.eval_docs), items) for name, task in loaded.items()}
    return scored(EngineLM(engine, max_length, done, frame, journal), manager, loaded, samples, frame)


def load_tasks(tasks: Sequence[str]) -> tuple[TaskManager, dict[str, Any]]:
    """lm-eval's manager and its tasks of those names. Raises Unsupported when one is unknown or cannot be had."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    offline = offline_tasks()
    hub = [name for name in tasks if name not in offline]
    manager = TaskManager(include_defaults=bool(hub))
    unknown = [name for name in hub if name not in manager.all_tasks]
    if unknown:
        raise Unsupported(f"lm-eval has no task {unknown[0]!r}; own tasks: {', '.join(offline)}")
    return manager, manager.load([offline.get(name, name) for name in tasks])["tasks"]


def scored(
    lm: LM, manager: TaskManager, loaded: Mapping[str, Any], samples: Mapping[str, list[int]], frame: Frame = PLAIN
) -> list[TaskResult]:
    """The items `samples` of each loaded task answered by an lm-eval model."""
    evaluated = simple_evaluate(
        model=lm,
        tasks=list(loaded.values()),
        samples=dict(samples),
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
    )
    return [_result(name, task, evaluated["samples"][name], frame) for name, task in loaded.items()]


def chosen_items(task: str, available: int, wanted: int) -> list[int]:
    """Indices of the items every precision answers: a prefix of a shuffle seeded by the task's name."""
    indices = list(range(available))
    random.Random(task).shuffle(indices)  # noqa: S311 - repeatable, not secret
    return sorted(indices[:wanted])


def _result(name: str, task: Any, samples: Iterable[dict[str, Any]], frame: Frame) -> TaskResult:
    rows = sorted(samples, key=lambda sample: sample["doc_id"])
    framed = frame.template if str(task.config.output_type) == "generate_until" else None
    hashed = hashlib.sha256("".join(f"{row['doc_hash']}{row['prompt_hash']}" for row in rows).encode())
    hashed.update((framed or "").encode())
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
        template=framed,
        weights=weights,
    )
