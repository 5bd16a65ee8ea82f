# SPDX-License-Identifier: Apache-2.0
"""When a task is left: its verdict is settled, the budget is spent, or the reference has no more."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from builders import sample

from bench.records.record import Measurement, Unit
from bench.scoring.evaluation import TaskFailed
from suites.stopping import Stopping, following


def measured(task: str, margins: list[float], **labels: object) -> list[Measurement]:
    """A task of two choices whose right one leads by so many nats."""
    hashes = "".join(f"{index:010x}" for index in range(len(margins)))
    about = {"task": task, "digest": f"{len(margins)}", "chance": 0.5, "output_type": "multiple_choice"}
    flat = [value for margin in margins for value in (margin, 0.0)]
    right = [float(margin > 0) for margin in margins]
    return [
        sample("acc", right, Unit.FRACTION, **about, item_hashes=hashes, **labels),
        sample("choice_loglikelihood", flat, Unit.NAT, task=task, choices=2, right=[0] * len(margins)),
    ]


class Answers:
    """Tasks whose every answer is known, and when each batch of them was asked for."""

    def __init__(self, **tasks: list[float]) -> None:
        self.loaded, self.tasks = dict.fromkeys(tasks), tasks
        self.done = dict.fromkeys(tasks, 0)
        self.asks: list[tuple[str, int]] = []

    def asked(self, task: str) -> int:
        """All there are."""
        return len(self.tasks[task])

    def advance(self, task: str, items: int) -> None:
        """Answer until so many."""
        assert self.done[task] < items <= self.asked(task)
        self.done[task] = items
        self.asks.append((task, items))

    def measured(self, task: str) -> list[Measurement]:
        """What was answered until now."""
        return measured(task, self.tasks[task][: self.done[task]])


class Broken(Answers):
    """Tasks of which some cannot be scored from an item on."""

    def __init__(self, at: dict[str, int], **tasks: list[float]) -> None:
        super().__init__(**tasks)
        self.at = at

    def advance(self, task: str, items: int) -> None:
        """Answer, unless the task's own code raises."""
        if items >= self.at.get(task, 10**9):
            raise TaskFailed(f"{task} cannot be scored: KeyError: 'gold'")
        super().advance(task, items)


BASE = np.random.default_rng(0).normal(1.0, 2.0, 300).tolist()
LOST = [margin - 1.0 for margin in BASE]
NOISE = np.random.default_rng(1).normal(0.0, 1.0, 300).tolist()
MOVED = [margin + noise for margin, noise in zip(BASE, NOISE, strict=True)]


def run(answers: Answers, reference: dict[str, list[Measurement]], *, budget: int = 10**9, settles: bool = True):
    """Everything asked, the budget spent after so many batches."""
    found = Stopping(
        evaluation=answers, measured=answers.measured, reference=reference,
        spent=lambda: len(answers.asks) >= budget, settles=settles,
    )  # fmt: skip
    found.run()
    return found


def test_batches_grow_and_are_the_same_for_every_row():
    """Each look is at the end of one."""
    ends, done = [], 0
    while done < 256:
        done = following(done)
        ends.append(done)
    assert ends == [8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256]


def test_without_a_reference_every_item_is_answered_and_nothing_is_said():
    """The reference itself, or a row that stands alone: tasks take turns, the one that is behind first."""
    answers = Answers(a=BASE[:20], b=BASE[:9])
    found = run(answers, {})
    assert answers.asks == [("a", 8), ("b", 8), ("a", 16), ("b", 9), ("a", 20)]
    assert found.caveats() == []
    assert found.tasks["a"].labels(20) == {}


def test_a_settled_task_is_left_and_its_time_goes_to_the_others():
    """What has lost a nat is worse after a few looks; what only moved is answered to its end."""
    answers = Answers(lost=LOST, moved=MOVED)
    found = run(answers, {"lost": measured("lost", BASE), "moved": measured("moved", BASE)})
    done = answers.done["lost"]
    assert 16 <= done < 100 and answers.done["moved"] == 300
    labels = found.tasks["lost"].labels(done)
    assert labels["looks"] == [16, 24, 32, 48, 64, 96, 128, 192, 300]
    assert (labels["items_asked"], labels["ended"]) == (300, "settled")
    assert labels["looks"][labels["rounds"] - 1] == done
    (caveat,) = found.caveats()
    assert caveat.kind == "items_settled"
    assert caveat.text == f"answered until the verdict was settled: {done} of 300 items of lost (worse)"


def test_a_profile_that_wants_every_item_gets_it():
    """And is judged as one that nobody looked at."""
    answers = Answers(lost=LOST)
    found = run(answers, {"lost": measured("lost", BASE)}, settles=False)
    assert answers.done["lost"] == 300 and found.tasks["lost"].labels(300) == {}


@pytest.mark.parametrize(("budget", "done"), [(0, 8), (1, 8), (3, 16)])
def test_a_spent_budget_ends_the_cell_between_batches_after_eight_items_of_each_task(budget, done):
    """What was cut is said, and how many items were asked."""
    answers = Answers(a=BASE, b=BASE)
    found = run(answers, {}, budget=budget)
    assert answers.done == {"a": done, "b": 8}
    assert found.tasks["b"].labels(8) == {"items_asked": 300, "ended": "budget"}
    (caveat,) = found.caveats()
    counted = "8 of 300 items of a, b" if done == 8 else "16 of 300 items of a; 8 of 300 items of b"
    assert (caveat.kind, caveat.text) == ("items_cut", f"answered before the budget was spent: {counted}")


def test_no_more_is_asked_than_a_reference_that_was_cut_can_be_compared_on():
    """It was asked as many, and could not: pairs end where it ends. One that was asked fewer items cuts nobody."""
    cut = measured("moved", BASE[:104], items_asked=300, ended="budget")
    answers = Answers(moved=MOVED)
    found = run(answers, {"moved": cut})
    assert answers.done["moved"] == 104
    assert found.tasks["moved"].labels(104)["ended"] == "reference"
    answers = Answers(moved=MOVED)
    run(answers, {"moved": measured("moved", BASE[:104])})
    assert answers.done["moved"] == 300


def test_a_reference_that_answered_other_items_settles_nothing():
    """Nothing is compared, and nothing claims to have been looked at."""
    other = measured("lost", BASE)
    other[0] = other[0].model_copy(update={"labels": {**other[0].labels, "item_hashes": "f" * 3000}})
    answers = Answers(lost=LOST)
    found = run(answers, {"lost": other})
    assert answers.done["lost"] == 300 and found.tasks["lost"].labels(300) == {}


def test_the_suite_says_in_its_labels_what_was_done():
    """Labels of a task that was looked at to its end name the looks alone."""
    answers = Answers(moved=MOVED)
    found = run(answers, {"moved": measured("moved", BASE)})
    labels = found.tasks["moved"].labels(300)
    assert set(labels) == {"looks", "rounds"} and labels["rounds"] == 9
    assert SimpleNamespace(**labels).looks[-1] == 300


def test_a_task_that_cannot_be_scored_costs_itself_alone():
    """Whether at once or at a later item: the others are answered to the end, and the record says why."""
    answers = Broken({"first": 1, "later": 20}, first=BASE[:40], later=BASE[:40], sound=BASE[:40])
    found = run(answers, {})
    assert (list(found.tasks), answers.done["sound"]) == (["sound"], 40)
    assert [(c.kind, c.text) for c in found.caveats()] == [
        ("task_failed", f"{name} cannot be scored: KeyError: 'gold'; it is left out") for name in ("first", "later")
    ]


def test_where_no_task_can_be_scored_the_cell_fails_with_the_reason():
    """An empty record would look like an answer."""
    with pytest.raises(TaskFailed, match="only cannot be scored"):
        run(Broken({"only": 1}, only=BASE[:40]), {})
