# SPDX-License-Identifier: Apache-2.0
"""Tasks answered batch after batch, each item by lm-eval's own prompts, filters and metrics.

lm-eval's evaluator answers everything that is asked in one go. Here a task's requests are built once, by lm-eval and in
its order, so that few-shot examples are those it draws for the same items; then batches of items are answered in the
order of the task's shuffle, and whoever asks may stop between two of them. What was answered until then has the same
prompts, hashes and scores as if everything had been.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bench.engines.contract import Unsupported
from bench.records.record import Caveat
from bench.records.scored import Aggregate, Answer, Item, TaskResult, task_result
from bench.scoring.aggregates import aggregates, metric_kinds
from bench.scoring.tasks import rendering

SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "few-shot": 1234}
"""lm-eval's own, written down: they draw the few-shot examples."""
Rows = list[dict[str, Any]]


class TaskFailed(Exception):
    """A task's own code, or lm-eval's for it, cannot score what was answered; the message names the task and why."""


class RunningEvaluation:
    """Tasks and the items asked of each, answered by an lm-eval model as far as was asked until now."""

    def __init__(
        self, lm: Any, loaded: Mapping[str, Any], items: Mapping[str, Sequence[int]], *, chat: str | None = None,
        template: str | None = None,
    ) -> None:  # fmt: skip
        """`items`: documents of each task in the order they are asked.

        `chat`: hash of the chat template around them, None for plain text; `template`: prompt template around generated
        tasks.
        """
        _seed()
        self.lm, self.loaded, self.order = lm, dict(loaded), {name: list(items[name]) for name in loaded}
        self.chat, self.template = chat, template
        lm.items = {name: sorted(chosen) for name, chosen in self.order.items()}
        self._requests = {name: _built(lm, task, lm.items[name], chat is not None) for name, task in loaded.items()}
        self._rows: dict[str, Rows] = {name: [] for name in loaded}
        self.done = dict.fromkeys(loaded, 0)
        """By task, items answered."""
        self.requests = sum(len(asked) for requests in self._requests.values() for asked in requests.values())
        """Of all tasks together."""
        self.answered = 0
        """Requests answered."""

    def asked(self, task: str) -> int:
        """How many items are asked of a task."""
        return len(self.order[task])

    def advance(self, task: str, items: int) -> None:
        """Answer the next items of a task, until `items` of it are answered. Raises TaskFailed, NotFinite."""
        batch = self.order[task][self.done[task] : items]
        if not batch:
            return
        requests = {item: self._requests[task][item] for item in sorted(batch)}
        flat = [request for asked in requests.values() for request in asked]
        _answer(self.lm, flat)
        try:
            with rendering(task):
                self._rows[task] += _rows(self.loaded[task], requests)
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise TaskFailed(f"{task} cannot be scored: {said[:200]}") from error
        self.done[task] += len(batch)
        self.answered += len(flat)

    def notes(self) -> list[Caveat]:
        """What the model's tokenizer made differ from lm-eval's figures."""
        framed = getattr(self.lm, "framing", None)  # a served model's tokens are its own
        return framed.notes() if framed else []

    def aggregates(self, task: str) -> tuple[list[Aggregate], list[Caveat]]:
        """Metrics that are no mean over items, over all that was answered, and why one of them has no value."""
        return aggregates(self.loaded[task], sorted(self._rows[task], key=lambda row: row["doc_id"]))

    def result(self, task: str) -> TaskResult:
        """What was answered of a task until now, in the order it was asked. Raises ValueError where nothing was."""
        answers: Mapping[Item, Answer] = getattr(self.lm, "answers", {})
        place = {item: index for index, item in enumerate(self.order[task])}
        rows = sorted(self._rows[task], key=lambda row: place[row["doc_id"]])
        cut: set[Item] = getattr(self.lm, "truncated", set())
        kinds = metric_kinds(self.loaded[task], rows)
        return task_result(task, self.loaded[task], rows, answers, cut, kinds, self.chat, self.template)


def _seed() -> None:
    """What lm-eval seeds before it builds prompts; torch only where something has loaded it."""
    import numpy as np

    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])  # noqa: NPY002 - the generator that tasks' own functions use
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEEDS["torch"])


def _built(lm: Any, task: Any, items: Sequence[int], chat: bool) -> dict[int, list[Any]]:
    """lm-eval's requests of each item, in its order. Raises Unsupported for what it would not run either."""
    if getattr(task, "UNSAFE_CODE", False):
        raise Unsupported(f"task {task.config.task} runs code that the model writes")
    if getattr(task, "MULTIMODAL", False):
        raise Unsupported(f"task {task.config.task} shows pictures")
    if task.config.num_fewshot is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=SEEDS["few-shot"])
    with rendering(task.config.task):
        task.build_all_requests(
            samples=list(items),
            apply_chat_template=chat,
            chat_template=lm.apply_chat_template if chat else None,
            tokenizer_name=lm.tokenizer_name if chat else "",
        )
    found: dict[int, list[Any]] = {item: [] for item in items}
    for request in task.instances:
        found[items[request.doc_id]].append(request)
    return {item: sorted(requests, key=lambda request: request.idx) for item, requests in found.items()}


def _answer(lm: Any, requests: Sequence[Any]) -> None:
    """Ask the model, kind by kind, a request as often as its task says."""
    for kind in dict.fromkeys(request.request_type for request in requests):
        asked = [request for request in requests if request.request_type == kind for _ in range(request.repeats)]
        for request, response in zip(asked, getattr(lm, kind)(asked), strict=True):
            request.resps.append(response)


def _rows(task: Any, requests: Mapping[int, Sequence[Any]]) -> Rows:
    """What lm-eval's evaluator keeps of each item, for each of the task's answer filters."""
    from lm_eval.utils import handle_non_serializable, hash_string

    task._instances = [request for asked in requests.values() for request in asked]  # noqa: SLF001 - as it is built
    task.apply_filters()
    rows: Rows = []
    for item, asked in requests.items():
        document = json.dumps(asked[0].doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
        for name in asked[0].filtered_resps:
            responses = [request.filtered_resps[name] for request in asked]
            rows.append(
                {
                    "doc_id": item,
                    "doc": asked[0].doc,
                    "filter": name,
                    "responses": responses,
                    "metrics": task.process_results(asked[0].doc, responses),
                    "doc_hash": hash_string(document),
                    "prompt_hash": hash_string(asked[0].arguments[0]),
                }
            )
    return rows
