# SPDX-License-Identifier: Apache-2.0
"""An Engine as an lm-eval model, and the evaluation of tasks item by item."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, TemplateLM
from pydantic import JsonValue

from bench.catalog.model import Objective
from bench.catalog.prompts import template
from bench.engines.abilities import Asked, Chats
from bench.engines.contract import Engine, NotFinite, Row, Score, Unsupported
from bench.records.scored import Answer, Item, TaskResult
from bench.scoring import journal as journals
from bench.scoring.evaluation import RunningEvaluation
from bench.scoring.framing import framing
from bench.scoring.generation import Growing, generate, limits_of
from bench.scoring.journal import Journal
from bench.scoring.tasks import load_tasks

if TYPE_CHECKING:
    from lm_eval.api.task import Task

Progress = Callable[[int, int], None]


class _KeptAnswer(TypedDict):
    tokens: int
    empty: bool
    loop: float
    cut: bool


@dataclass(frozen=True)
class Frame:
    """What decides how a model is asked."""

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
"""By objective, the output types of tasks that cannot be applied to it, each with the reason."""


class EngineLM(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """lm-eval's requests answered by an Engine.

    Encoding, truncation and rolling windows follow lm-eval's own Hugging Face model, so that the same weights give
    the same scores there and here, but for what a tokenizer puts around a text (`bench.scoring.framing`); scores are
    float32 whatever the weights are.
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
        self.framing = framing(engine, encoder=frame.objective is Objective.SEQ2SEQ)
        self.done = done
        self.truncated: set[Item] = set()
        """Task and document of every item that was cut to fit."""
        self.answers: dict[Item, Answer] = {}
        self.items: dict[str, list[int]] = {}
        """By task, the items that are asked: lm-eval counts requests, not documents."""
        self._cuts: list[bool] = []

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

        A text that already begins with the beginning token gets no second one, as in lm-eval's own model. None that it
        puts after a text: what is read here goes on.
        """
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self._prefix_text)
        tokens = self.engine.encode(string, special=add_special_tokens)
        return self.framing.open_ended(tokens) if add_special_tokens else tokens

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """As lm-eval's; a context of blanks alone, which move to the continuation, is the empty one that it documents.

        lm-eval 0.4.13 fails there with a tokenizer that puts nothing before a text.
        """
        before, after = super()._encode_pair(context, continuation)
        return before or [self.prefix_token_id], after

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
            self._cuts.append(max(len(context), len(continuation)) > self.max_length)
            return Row(tuple(context[-self.max_length :]), tuple(continuation[-self.max_length :]))
        self._cuts.append(len(context) + len(continuation) > self.max_length + 1)
        tokens = (context + continuation)[-(self.max_length + 1) :]
        cut = max(1, len(tokens) - len(continuation))
        return Row(tuple(tokens[:cut]), tuple(tokens[cut:]))

    def _item(self, request: Instance) -> Item:
        """Task and document of a request."""
        place, chosen = request.doc_id, self.items.get(str(request.task_name))
        return (request.task_name, place if chosen is None or place is None else chosen[place])

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihood (nats) of each continuation, and whether greedy decoding would give it."""
        self._cuts = []
        result: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        self.truncated |= {self._item(r) for r, cut in zip(requests, self._cuts, strict=True) if cut}
        _refuse_infinite([self._item(r) for r in requests], [total for total, _ in result])
        return result

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood (nats) of each whole text, every token predicted once, in windows of `max_length`."""
        owners: list[int] = []
        rows: list[Row] = []
        for owner, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            windows = self.framing.rolling(tokens, self.max_length, str(request.task_name))
            owners += [owner] * len(windows)
            rows += windows
        scores = self._score(rows)
        totals = [0.0] * len(requests)
        for owner, score in zip(owners, scores, strict=True):
            totals[owner] += score.total
        _refuse_infinite([self._item(r) for r in requests], totals)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy answers, cut before the first stop string. Raises NotFinite when all that can be answered are kept."""
        questions: list[JsonValue] = [["generate", r.args[0], json.loads(json.dumps(r.args[1]))] for r in requests]
        known = [self.journal.recall(question) for question in questions]
        missing = [index for index, answer in enumerate(known) if answer is None]
        answered = len(requests) - len(missing)
        if answered:
            self.done(answered, len(requests))
        wrong: list[str] = []
        asked, growing, cut = self.growing([requests[index] for index in missing])

        def take(index: int, token: int | None) -> bool:
            nonlocal answered
            answer, place = growing[index], missing[index]
            if answer.take(token):
                return True
            if answer.finite:
                text, kept = answer.result()
                known[place] = [text, vars(kept), cut[index]]
                self.journal.keep(questions[place], known[place])
            else:
                task, item = self._item(requests[place])
                wrong.append(f"task {task}, item {item}, token {len(answer.tokens) + 1} of its answer")
            answered += 1
            self.done(answered, len(requests))
            return False

        generate(self.engine, asked, take)
        if wrong:
            more = f", and in {len(wrong) - 1} more of {len(requests)} answers" if len(wrong) > 1 else ""
            raise NotFinite(f"NaN or infinite logits: {wrong[0]}{more}")
        return [self._answered(request, answer) for request, answer in zip(requests, known, strict=True)]

    def _answered(self, request: Instance, known: JsonValue) -> str:
        """The text of an answer; what else is kept of it goes to its item."""
        text, answer, cut = cast(tuple[str, _KeptAnswer, bool], known)
        self.answers[self._item(request)] = Answer(**answer)
        if cut:
            self.truncated.add(self._item(request))
        return text

    def growing(self, requests: Sequence[Instance]) -> tuple[list[Asked], list[Growing], list[bool]]:
        """Prompts, the answers that are to grow behind them, and whether each prompt was cut to fit."""
        asked, growing, cut = [], [], []
        for request in requests:
            context, options = request.args
            stops, limit = limits_of(options)
            if self.frame.template:
                framed = template(self.frame.template)
                context, stops = framed.render(context), [*stops, *framed.stop]
            whole = self.tok_encode(context) or [self.prefix_token_id]
            prompt = whole[-max(1, self.max_length - limit) :]
            asked.append(Asked(tuple(prompt), limit))
            ends = self.engine.end_tokens
            growing.append(Growing(decode=self.engine.decode, end_tokens=ends, stops=stops, limit=limit))
            cut.append(len(prompt) < len(whole))
        return asked, growing, cut

    @property
    def tokenizer_name(self) -> str:
        """Where the tokenizer comes from."""
        return str(self.engine.provenance.source)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's own template. Raises Unsupported if it has none."""
        if not chat_template:
            return None
        if not isinstance(self.engine, Chats):
            raise Unsupported("this engine applies no chat template: leave out --chat-template")
        if self.engine.chat_template is None:
            raise Unsupported("this model's tokenizer has no chat template: leave out --chat-template")
        return self.engine.chat_template

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the tokenizer's template writes it."""
        assert isinstance(self.engine, Chats)
        return self.engine.chat(chat_history, answer=add_generation_prompt)


def _refuse_infinite(items: Sequence[Item], totals: Sequence[float]) -> None:
    """Raise NotFinite for the first item without a number."""
    wrong = [item for item, total in zip(items, totals, strict=True) if not math.isfinite(total)]
    if wrong:
        task, number = wrong[0]
        raise NotFinite(
            f"NaN or infinite logits: task {task}, item {number}, and {len(wrong)} of {len(items)} requests"
        )


def evaluate(engine: Engine, **asked: Any) -> list[TaskResult]:
    """Every item that is asked of each task, in one go: `opened`, then all of it."""
    evaluation = opened(engine, **asked)
    for name in evaluation.loaded:
        evaluation.advance(name, evaluation.asked(name))
    return [evaluation.result(name) for name in evaluation.loaded]


def opened(
    engine: Engine,
    *,
    tasks: Sequence[str],
    items: int,
    max_length: int,
    done: Progress = lambda done, total: None,
    files: Mapping[str, str] = MappingProxyType({}),
    chat: bool = False,
    frame: Frame = PLAIN,
    left_out: Callable[[str, str], None] = lambda task, reason: None,
    journal: Journal | None = None,
) -> RunningEvaluation:
    """`items` items of each task, the same ones whoever asks, ready to be answered.

    `files` are the caller's own task files by name; with `chat`, items are asked in the tokenizer's chat template.
    `left_out` hears of each task that means nothing for the model's objective, and why; `done` of requests answered, of
    all there are. Raises Unsupported when a task is unknown to lm-eval or none is left, UserError when a task's data
    cannot be had; answering raises NotFinite.
    """
    lm = EngineLM(engine, max_length, lambda finished, total: None, frame, journal)
    lm.chat_template(chat)
    loaded = load_tasks(tasks, files)
    for name, task in list(loaded.items()):
        reason = INAPPLICABLE[frame.objective].get(str(task.config.output_type))
        if reason:
            left_out(name, reason)
            del loaded[name]
            if not loaded:
                raise Unsupported(reason)
    chosen = {name: chosen_items(name, len(task.eval_docs), items) for name, task in loaded.items()}
    evaluation = scored(lm, loaded, chosen, frame, chat=chat)
    lm.done = lambda finished, total: done(evaluation.answered + finished, evaluation.requests)
    return evaluation


def scored(
    lm: LM,
    loaded: Mapping[str, Task],
    samples: Mapping[str, Sequence[int]],
    frame: Frame = PLAIN,
    *,
    chat: bool = False,
) -> RunningEvaluation:
    """The items `samples` of each loaded task, to be answered by an lm-eval model in that order."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    told = hashlib.sha256(str(lm.chat_template(chat)).encode()).hexdigest()[:12] if chat else None
    return RunningEvaluation(lm, loaded, samples, chat=told, template=frame.template)


def chosen_items(task: str, available: int, wanted: int) -> list[int]:
    """Indices of the items every precision answers, in the order they are asked: a shuffle seeded by the task's name.

    Whoever asks fewer asks the beginning of it, so that rows of any length have their items in common.
    """
    indices = list(range(available))
    random.Random(task).shuffle(indices)
    return indices[:wanted]
