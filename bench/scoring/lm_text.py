# SPDX-License-Identifier: Apache-2.0
"""A TextEngine as an lm-eval model: generated answers with what each cost, and likelihoods where they are proven.

A server that shows the log-probabilities of a text, and has proven them (`bench.engines.abilities.ScoresTexts`), is
asked for the whole text, context and continuation; the tokens that end behind the context are the continuation's.
Blanks at the end of a context belong to the continuation, as lm-eval has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from bench.engines.abilities import ScoresTexts
from bench.engines.contract import NotFinite, Reply, Stopped, TextEngine, Unsupported
from bench.errors import UserError
from bench.records.record import Caveat
from bench.records.scored import Aggregate, TaskResult
from bench.scoring.evaluation import RunningEvaluation, TaskFailed
from bench.scoring.generation import Options, limits_of
from bench.scoring.lm import Progress, chosen_items, scored
from bench.scoring.tasks import load_tasks

NO_FIRST = "the server gives no log-probability to a text's first token"
NO_ROLLING = "needs the likelihood of a whole text from its first token, which servers do not show"
NO_LIKELIHOODS = "needs the likelihoods of given texts, which a served model does not show"


class TextLM(LM):  # type: ignore[misc]  # lm_eval ships no types
    """lm-eval's requests answered by a server. Answers stay, so that what was done can be scored after a stop."""

    def __init__(self, engine: TextEngine, done: Progress) -> None:
        super().__init__()
        self.engine, self.done = engine, done
        self.items: dict[str, list[int]] = {}
        """By task, its items by lm-eval's position."""
        self.replies: dict[int, Reply] = {}
        """By item."""
        self.known: dict[tuple[str, str], tuple[float, bool]] = {}
        """Likelihoods by context and continuation: no text is asked twice."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy answers, cut before the first stop string; no item is asked twice."""
        answers = []
        for index, request in enumerate(requests):
            item = self.items[str(request.task_name)][request.doc_id]
            if item not in self.replies:
                self.replies[item] = self._ask(*request.args)
            answers.append(self.replies[item].text)
            self.done(index + 1, len(requests))
        return answers

    def _ask(self, context: str, options: Options) -> Reply:
        stops, limit = limits_of(options)
        return self.engine.reply(context, max_tokens=limit, stops=stops)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihood (nats) of each continuation, and whether each of its tokens is the likeliest.

        Raises Unsupported where the server shows none of a text.
        """
        found = []
        for index, request in enumerate(requests):
            found.append(self._likelihood(*request.args))
            self.done(index + 1, len(requests))
        return found

    def _likelihood(self, context: str, continuation: str) -> tuple[float, bool]:
        assert isinstance(self.engine, ScoresTexts)
        if (context, continuation) in self.known:
            return self.known[context, continuation]
        begins = len(context.rstrip())
        tokens = [t for t in self.engine.scored(context + continuation) if t.start + len(t.text) > begins]
        values = [token.log_prob for token in tokens]
        if not tokens or None in values:
            raise Unsupported(NO_FIRST)
        total = math.fsum(value for value in values if value is not None)
        if not math.isfinite(total):
            raise NotFinite("the server's log-probabilities hold infinite ones")
        self.known[context, continuation] = total, all(token.likeliest for token in tokens)
        return self.known[context, continuation]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Unsupported."""
        raise Unsupported(NO_ROLLING)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One task's results, with the reply to each item in their order."""

    result: TaskResult
    replies: tuple[Reply, ...]
    """None of a task that compares likelihoods."""
    aggregates: tuple[Aggregate, ...] = ()
    """Metrics of the whole task."""
    failed: tuple[Caveat, ...] = ()
    """Why one of them has no value."""


@dataclass(kw_only=True)
class Evaluation:
    """The answered tasks, the ones that cannot be asked, and what ended the evaluation early."""

    answered: list[Answered] = field(default_factory=list)
    not_applicable: dict[str, str] = field(default_factory=dict)
    """Reasons by task."""
    stopped: str = ""
    """Why not every item was asked, empty if every one was."""


def evaluate_text(
    engine: TextEngine,
    *,
    tasks: Sequence[str],
    items: int,
    done: Callable[[int, int], None] = lambda done, total: None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> Evaluation:
    """Ask `items` items of each task with generated answers; every model gets the same items.

    A stop keeps what is answered. Raises Unsupported when a task is unknown or cannot be had.
    """
    loaded = load_tasks(tasks, files)
    found = Evaluation()
    for name, task in loaded.items():
        if reason := _inapplicable(engine, str(task.OUTPUT_TYPE)):
            found.not_applicable[name] = reason
            continue
        lm = TextLM(engine, done)
        evaluation = scored(lm, {name: task}, {name: chosen_items(name, len(task.eval_docs), items)})
        asked = evaluation.asked(name)
        lm.done = partial(_tell, done, evaluation)
        try:
            for item in range(asked):
                evaluation.advance(name, item + 1)
        except (TaskFailed, Unsupported) as error:
            found.not_applicable[name] = str(error)
            continue
        except (Stopped, UserError) as error:
            if isinstance(error, UserError) and not found.answered and not evaluation.done[name]:
                raise
            found.stopped = f"{error} ({evaluation.done[name]} of {asked} items of {name} answered)"
            if not evaluation.done[name]:
                return found
        order = evaluation.order[name][: evaluation.done[name]]
        whole, failed = evaluation.aggregates(name)
        found.answered.append(
            Answered(
                result=evaluation.result(name), replies=tuple(lm.replies[item] for item in order if lm.replies),
                aggregates=tuple(whole), failed=tuple(failed),
            )
        )  # fmt: skip
        if found.stopped:
            return found
    return found


def _inapplicable(engine: TextEngine, kind: str) -> str:
    """Why a kind of task cannot be asked of this server, empty if it can."""
    if kind == "generate_until":
        return ""
    if not isinstance(engine, ScoresTexts):
        return NO_LIKELIHOODS
    return NO_ROLLING if kind == "loglikelihood_rolling" else engine.unproven()


def _tell(done: Progress, evaluation: RunningEvaluation, finished: int, _: int) -> None:
    """Requests answered of all there are, from those of one batch."""
    done(evaluation.answered + finished, evaluation.requests)
