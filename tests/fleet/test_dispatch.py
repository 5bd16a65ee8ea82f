# SPDX-License-Identifier: Apache-2.0
"""Loads go to boxes, records come home whole, and what a box takes with it another measures."""

from __future__ import annotations

import contextlib
import io
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import make_machine, make_model
from fleet_world import Node, World, make_box, make_seen, renamed, torn
from rich.console import Console

from bench.errors import UserError
from bench.fleet import call, dispatch, loads
from bench.fleet.wire import Answer, Needs, Seen
from bench.plan.plan import Plan, make_plan
from bench.plan.selection import Selection
from bench.records import progress
from bench.records.code_digest import sources
from bench.records.progress import Progress
from bench.records.record import Ending, Record
from bench.records.store import Store, record_in
from bench.run.options import RunOptions

MODELS = tuple(make_model(name=name, display=name, repo=f"tests/{name}") for name in ("tiny", "other", "third"))
SUITES = ("memory", "throughput", "divergence")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def node(name: str, **seen: Any) -> Node:
    """A box with a name of two letters."""
    box = {key: seen.pop(key) for key in ("cpus", "gpus", "accelerator", "memory_bytes") if key in seen}
    return Node(box=make_box(name, **box), seen=make_seen(**seen))


class Fleet:
    """Calls on one folder of results."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.patch, self.said = Store(folder), monkeypatch, io.StringIO()
        self.options, self.models = RunOptions(), MODELS

    def run(self, world: World, *, fresh: bool = False, **selection: Any) -> call.Ended:
        """One call; three fakes of all precisions unless said otherwise."""
        fields: dict[str, Any] = {"models": ("tiny", "other", "third"), "backends": ("fake",), "profile": "smoke"}
        asked = Selection(**fields | {"suites": SUITES} | selection)

        def planned(seen: Seen) -> tuple[Plan, RunOptions]:
            made = make_plan(
                replace(asked, device=seen.machine.kind), self.models, seen.machine, self.store.records(),
                seen.free_bytes, held=lambda _: False,
            )  # fmt: skip
            return made, self.options

        def dispatcher(*given: Any) -> dispatch.Dispatcher:
            return dispatch.Dispatcher(*given, clock=world.clock)

        self.patch.setattr(call, "Dispatcher", dispatcher)
        console = Console(file=self.said, width=200)

        def of_run(run: str, device: str) -> list[Record]:
            return [r for r in self.store.records() if (r.run, r.cell.device) == (run, device)]

        return call.run_on_boxes(
            lambda: world, asked, None, self.store, planned, of_run, console, quiet=False, fresh=fresh
        )

    def records(self) -> list[Record]:
        """All that are stored; all must read."""
        found = list(self.store.records())
        assert self.store.unreadable == []
        return found

    def measured(self) -> Counter[str]:
        """How often each cell was."""
        return Counter(str(record.cell) for record in self.records())

    @property
    def lines(self) -> list[str]:
        """What people were told."""
        return self.said.getvalue().splitlines()


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """An empty folder of results."""
    return Fleet(tmp_path / "results", monkeypatch)


def test_boxes_of_one_device_share_its_loads_and_each_measures_one_at_a_time(fleet: Fleet) -> None:
    """27 cells of a second on three boxes take nine; a model's loads stay on the box that has its reference."""
    world = World(node("aa"), node("bb"), node("cc"))
    ended = fleet.run(world)
    assert len(ended.answers) == 27 and ended.open == 0 and world.closed
    assert set(fleet.measured().values()) == {1}
    assert world.most == 1 and world.now == pytest.approx(9.1)
    assert len({(box, asked.cells[0].cell.model) for box, asked, _ in world.asked}) == 3
    assert set(world.made.values()) == {1}  # no reference was made for nothing
    assert len(list(fleet.store.runs())) == 1  # of equal ends, whose names are equal here


def test_a_box_has_its_next_load_before_the_cluster_tells_that_the_last_is_over(fleet: Fleet) -> None:
    """Its last line says so: a slow word of the cluster costs nothing."""
    world = World(node("aa"), node("bb"), node("cc"))
    world.over_s = 5.0
    ended = fleet.run(world)
    assert len(ended.answers) == 27 and set(fleet.measured().values()) == {1}
    assert world.most == 1 and world.now == pytest.approx(9.1)


def test_a_call_tells_what_each_box_does_and_then_what_it_came_to(fleet: Fleet) -> None:
    """For `bench status`: whom it waits for, each box with what is left of its load, and at last nothing that runs."""
    world, told = World(node("aa", gpus=2, device="cuda-test", kind="cuda"), node("bb")), list[Progress]()

    def look() -> None:
        told.extend(progress.running(fleet.store.root))

    for moment in (0.05, 1.5, 2.5):
        world._later(moment, None, look)
    ended = fleet.run(world)
    waiting, first, second = told
    assert (waiting.cells, waiting.doing, waiting.waits_for) == (0, (), "a box")
    assert (first.cells, first.answered, first.waits_for) == (54, 3, "")
    places = ["10.0.0.1 (aaaaaa)", "10.0.0.1 (aaaaaa) 2", "10.0.0.1 (bbbbbb)"]
    assert [one.device for one in first.doing] == places
    left = [[one.what.rpartition(", ")[2] for one in news.doing] for news in (first, second)]
    assert left == [["2 cells)", "3 cells)", "2 cells)"], ["1 cell)", "2 cells)", "1 cell)"]]
    assert first.run in {record.run for record in fleet.records()}
    last = progress.last(fleet.store.root)
    assert last is not None and progress.running(fleet.store.root) == []
    assert (last.ended, last.answered, last.doing, last.run) == ("done", len(ended.answers), (), first.run)


def test_rows_that_are_compared_stay_on_one_box_where_that_costs_no_waiting(fleet: Fleet) -> None:
    """Speeds too, though no reference ties them: two boxes of a kind are not the same box."""
    world = World(node("aa"), node("bb"), node("cc"))
    fleet.run(world, suites=("throughput",))
    assert len({(box, asked.cells[0].cell.model) for box, asked, _ in world.asked}) == 3
    assert world.now == pytest.approx(3.1)


def test_who_needs_a_reference_waits_for_the_box_that_has_it(fleet: Fleet) -> None:
    """A second box has nothing to do meanwhile; making the reference there too would take longer than waiting."""
    world = World(node("aa"), node("bb"))
    fleet.run(world, models=("tiny",))
    assert set(world.made.values()) == {1} and len({box for box, _, _ in world.asked}) == 1


def test_who_needs_a_reference_waits_for_the_load_that_makes_it(fleet: Fleet) -> None:
    """Even where it stands before it, as what was given back does."""
    made = make_plan(Selection(models=("tiny",), backends=("fake",), suites=SUITES), MODELS, make_machine())
    known = {p.cell.key: p for p in made.cells if p.reference}
    found = list(loads.loads("run", make_machine(), RunOptions(), made.cells, shares=None, known=known))
    first = next(load for load in found if not load.references)
    waiting = [load for load in found if load is not first] + [first]
    assert loads.chosen(waiting, make_seen(), (), (), (), ()) is first
    assert loads.chosen(waiting, make_seen(), first.makes, (), (), ()) is waiting[0]
    assert loads.chosen(waiting[:-1], make_seen(), (), (), first.makes, ()) is None


@pytest.mark.parametrize("quietly", [False, True])
def test_a_node_that_dies_gives_its_cells_back(fleet: Fleet, quietly: bool) -> None:
    """What had come home stays; the rest, and the reference that lay there, are measured by others."""
    world = World(node("aa"), node("bb"), node("cc"))
    world.kill("aa" * 8, 4.6, quietly=quietly)
    ended = fleet.run(world)
    assert ended.open == 0 and world.most == 1
    assert set(fleet.measured().values()) == {1} and len(fleet.measured()) == 27
    lost = [text for text in fleet.lines if "given back" in text]
    assert len(lost) == 1 and lost[0].startswith("box 10.0.0.1 (aaaaaa) has lost ")
    again = [asked for box, asked, _ in world.asked if box != "aa" * 8 and asked.cells[0].cell.key in asked.needed]
    assert {asked.cells[0].cell.suite for asked in again} == {"divergence"}


def test_all_nodes_but_one_may_die(fleet: Fleet) -> None:
    """The last one measures everything that is left."""
    world = World(*(node(name) for name in ("aa", "bb", "cc", "dd")))
    for number, name in enumerate(("aa", "bb", "cc")):
        world.kill(name * 8, 1.5 + 2 * number)
    assert fleet.run(world).open == 0
    assert set(fleet.measured().values()) == {1} and len(fleet.measured()) == 27


def test_a_head_that_is_started_again_loses_nothing_that_is_home(fleet: Fleet) -> None:
    """Boxes come back under new names and keep what is in their caches."""
    world = World(node("aa"), node("bb"))
    world.head_dies(3.4, 60.0)
    ended = fleet.run(world)
    assert ended.open == 0 and world.now > 60
    assert set(fleet.measured().values()) == {1} and len(fleet.measured()) == 27
    assert "the cluster does not answer: its head has died; what is stored is kept, waiting for it" in fleet.lines
    assert "the cluster answers again, with 2 nodes" in fleet.lines


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_and_goes_every_cell_is_measured_once(fleet: Fleet, seed: int) -> None:
    """Boxes die and join, the head goes and comes back, at random; a load that was unlucky is for the next call."""
    chance = random.Random(seed)
    first = [node(f"{letter}{letter}") for letter in "abcd"[: chance.randint(1, 4)]]
    world = World(*first)
    for box in first:
        if chance.random() < 0.7:
            world.kill(box.box.id, chance.uniform(0.0, 12.0), quietly=chance.random() < 0.5)
    for number in range(chance.randint(0, 4)):
        world.join(node(f"j{number}"), chance.uniform(0.0, 15.0))
    if chance.random() < 0.5:
        gone = chance.uniform(0.0, 9.0)
        world.head_dies(gone, gone + chance.uniform(0.1, 30.0))
    world.join(node("zz"), 100.0)
    calls = [fleet.run(world)]
    while calls[-1].open:
        calls.append(fleet.run(World(node("yy"))))
    assert len(calls) <= 2 and world.most == 1
    assert set(fleet.measured().values()) == {1} and len(fleet.measured()) == 27
    assert len({record.run for record in fleet.records()}) == 1


def test_a_box_that_comes_later_takes_its_share(fleet: Fleet) -> None:
    """It is asked what it is, and then for loads."""
    world = World(node("aa"))
    world.join(node("bb"), 2.0)
    assert fleet.run(world).open == 0
    assert {box for box, _, _ in world.asked} == {"aa" * 8, "bb" * 8}
    assert world.now < 27


def test_a_load_that_its_boxes_die_of_stays_open(fleet: Fleet) -> None:
    """After three boxes; all others are measured, and the same command tries it again."""
    names = ("aa", "bb", "cc", "dd", "ee")
    world = World(*map(node, names))
    world.dies_of = "fake-int4"
    ended = fleet.run(world, models=("tiny",))
    assert ended.open == 3 and len(fleet.measured()) == 6
    assert "tiny int4 (fake-int4, 3 cells) stays open, for 3 boxes were lost with it; the same command tries again" in (
        fleet.lines
    )
    ended = fleet.run(World(node("ff")), models=("tiny",))
    assert [answer.cell.scheme for answer in ended.answers] == ["fake-int4"] * 3 and ended.open == 0
    assert len({record.run for record in fleet.records()}) == 1


def test_different_boxes_are_different_devices(fleet: Fleet) -> None:
    """Each measures the whole question, in rows of its own."""
    ended = fleet.run(World(node("aa"), node("bb", device="cpu-other")), models=("tiny",))
    assert ended.devices == ("cpu-test", "cpu-other")
    assert Counter(record.cell.device for record in fleet.records()) == {"cpu-test": 9, "cpu-other": 9}
    assert all(record.machine.device == record.cell.device for record in fleet.records())


def test_a_box_with_several_gpus_measures_one_load_on_each(fleet: Fleet) -> None:
    """Each asks for one GPU of that kind and for a CPU; nothing is asked of the host's memory beyond the process."""
    world = World(node("aa", gpus=2, accelerator="H200", kind="cuda", device="cuda-h200"))
    assert fleet.run(world).open == 0
    assert world.most == 1 and world.now == pytest.approx(16.1)
    assert {needs for _, _, needs in world.asked} == {Needs(cpus=1.0, gpus=1, accelerator="H200")}


def test_a_cpu_s_load_asks_for_all_its_cpus_and_for_what_it_is_predicted_to_need(fleet: Fleet) -> None:
    """No other task of the cluster shall run beside it."""
    world = World(node("aa", cpus=4.0))
    fleet.run(world, models=("tiny",), suites=("memory",))
    for _, asked, needs in world.asked:
        (planned,) = asked.cells
        assert needs == Needs(cpus=4.0, memory_bytes=planned.predicted.needed_bytes)
        assert needs.memory_bytes > 0


def test_a_load_is_given_to_no_box_that_is_too_small(fleet: Fleet) -> None:
    """One with room takes it; without one it stays open, in one line."""
    whole = fleet_needs("tiny")
    small, large = node("aa", free_bytes=whole), node("bb", free_bytes=whole)
    small.seen = small.seen.model_copy(update={"free_bytes": 1})
    world = World(large)
    world.join(small, 0.2)
    fleet.run(world, models=("tiny",), suites=("memory",))
    assert {box for box, _, _ in world.asked} == {"bb" * 8}
    world = World(node("cc", free_bytes=whole))
    world.kill("cc" * 8, 0.6)
    world.join(small, 0.3)
    ended = fleet.run(world, models=("other",), suites=("memory",))
    assert ended.open == 3
    assert "no box that is here can take other fp16 (fake-fp16, 1 cell); the same command goes on when one can" in (
        fleet.lines
    )


def fleet_needs(model: str) -> int:
    """More than all its loads need."""
    made = make_plan(Selection(models=(model,), backends=("fake",)), MODELS, make_machine())
    return 2 * max(planned.predicted.needed_bytes or 0 for planned in made.cells)


def test_what_does_not_fit_has_its_record(fleet: Fleet) -> None:
    """Made on a box, as all are."""
    world = World(node("aa", free_bytes=1))
    ended = fleet.run(world, models=("tiny",), suites=("memory",))
    ((_, asked, needs),) = world.asked
    assert asked.cells == () and len(asked.left_out) == 3 and needs == Needs()
    assert len(ended.answers) == 3 and ended.open == 0


def test_two_calls_that_ask_the_same_measure_nothing_twice(fleet: Fleet) -> None:
    """They hold a lock of one name while they do; another question has another."""
    waits: list[str] = []

    def wait(name: str, *, wait: bool, tell: Any, what: str) -> Any:
        waits.append(name)
        return contextlib.nullcontext()

    fleet.patch.setattr(call, "measuring", wait)
    for name, model in (("aa", "tiny"), ("bb", "tiny"), ("cc", "other")):
        fleet.run(World(node(name)), models=(model,))
    assert waits[0] == waits[1] != waits[2]


def test_a_call_goes_on_where_it_stopped(fleet: Fleet) -> None:
    """Under the same run, with what is open alone; --fresh begins anew."""
    world = World(node("aa"))
    world.head_dies(5.3, 10**7)
    assert fleet.run(world).open == 22  # nobody came back for ten minutes
    assert len(fleet.records()) == 5
    ended = fleet.run(World(node("bb")))
    assert len(ended.answers) == 22 and set(fleet.measured().values()) == {1} and len(fleet.measured()) == 27
    assert len({record.run for record in fleet.records()}) == 1
    assert len(fleet.run(World(node("bb")), fresh=True).answers) == 27


@pytest.mark.parametrize(
    ("spoils", "why"), [(torn, "it sent what is no record"), (renamed, "it sent a record that nobody asked for")]
)
def test_a_record_comes_home_whole_or_not_at_all(fleet: Fleet, spoils: Any, why: str) -> None:
    """What is torn on its way, or of another question, is not stored; its cells stay open after three tries."""
    world = World(node("aa"))
    world.spoils = spoils
    ended = fleet.run(world, models=("tiny",), suites=("memory",))
    assert ended.open == 3 and fleet.records() == [] and list(fleet.store.runs()) == []
    assert len([text for text in fleet.lines if why in text]) == 9


ANOTHER = "runs another version of this harness ({}; here sources {}); install the same one on every box"


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"sources": "0123"}, ANOTHER.format("sources 0123", sources())),
        ({"sources": "0123", "revision": "abc"}, ANOTHER.format("revision abc", sources())),
        ({"lacking": {"fake": "numpy: pip install -e ."}}, "lacks numpy for backend fake; pip install -e ."),
    ],
)
def test_a_box_that_cannot_or_must_not_measure_is_left_out_in_one_line(fleet: Fleet, seen: Any, said: str) -> None:
    """Others go on; where there is none, the call ends with that line."""
    assert fleet.run(World(node("aa", **seen), node("bb")), models=("tiny",)).open == 0
    assert f"box 10.0.0.1 (aaaaaa) is left out: {said}" in fleet.lines
    with pytest.raises(UserError) as refused:
        fleet.run(World(node("aa", **seen)), models=("tiny",), fresh=True)
    assert refused.value.message == f"no box of this cluster can measure what is asked: 10.0.0.1 (aaaaaa) {said}"


def test_a_box_that_refuses_a_load_is_given_no_other(fleet: Fleet) -> None:
    """A disk that is full there is no fault of the load: others measure it."""
    odd = node("aa")
    odd.says = Answer(refused=("cannot write results to /tmp: No space left on device", "free space on it"))
    world = World(odd, node("bb"))
    assert fleet.run(world, models=("tiny",)).open == 0
    assert [box for box, _, _ in world.asked].count("aa" * 8) == 1
    why = "cannot write results to /tmp: No space left on device; free space on it"
    assert f"box 10.0.0.1 (aaaaaa) is left out: {why}" in fleet.lines


def test_a_process_that_ends_badly_costs_its_load_a_try(fleet: Fleet) -> None:
    """Three of them, on boxes that are well otherwise, and it stays open."""
    odd = node("aa")
    odd.says = Answer(ended=(1, "Traceback\nValueError: odd"))
    world = World(odd)
    assert fleet.run(world, models=("tiny",), suites=("memory",)).open == 3
    assert len(world.asked) == 9
    assert (
        len([text for text in fleet.lines if text.endswith("its process ended with 1: ValueError: odd; given back")])
        == 9
    )


def test_a_cluster_without_cpus_and_gpus_measures_nothing(fleet: Fleet) -> None:
    """A node that offers none, as that of the caller, is not even asked; a minute is given to those about to join."""
    world = World(node("aa", cpus=0.0))
    with pytest.raises(UserError, match="it has no node that offers a CPU or a GPU"):
        fleet.run(world)
    assert 60 <= world.now < 70
    world = World(node("aa", cpus=0.0))
    world.join(node("bb"), 30.0)
    assert fleet.run(world, models=("tiny",), fresh=True).open == 0
    assert fleet.run(World(node("aa", cpus=0.0), node("bb")), models=("tiny",)).open == 0


def test_what_items_are_compared_with_goes_along(fleet: Fleet) -> None:
    """A row's tasks end early once they are told apart from the reference's, whose record its box must have."""
    world = World(node("aa"))
    fleet.run(world, models=("tiny",), suites=("quality",))
    beside = {
        asked.cells[0].cell.scheme: [record_in(text.encode(), Path("home")).cell.scheme for text in asked.records]
        for _, asked, _ in world.asked
    }
    assert beside == {"fake-fp16": [], "fake-int8": ["fake-fp16"], "fake-int4": ["fake-fp16"]}


def test_a_budget_is_shared_before_it_is_handed_out(fleet: Fleet) -> None:
    """Each load has its part; its records shall say what the whole call allowed."""
    fleet.options = RunOptions(budget_s=90.0)
    world = World(node("aa"))
    fleet.run(world, models=("tiny",), suites=("memory", "throughput"))
    assert sum(asked.budget_s for _, asked, _ in world.asked) == pytest.approx(90.0)
    assert {asked.whole_budget_s for _, asked, _ in world.asked} == {90.0}


def test_two_thousand_cells_over_eight_boxes_take_the_ideal_time(fleet: Fleet) -> None:
    """On a virtual clock: no box waits while there is a load that it could take."""
    names = [a + b for a in "abcd" for b in "xy"]
    world = World(*map(node, names))
    fleet.models = tuple(make_model(name=f"m{n:03}", display=f"m{n}", repo=f"tests/m{n}") for n in range(250))
    schemes = ("fake-fp16", "fake-int8", "fake-int4", "fake-fp32")
    ended = fleet.run(world, models=("m*",), suites=("memory", "throughput"), schemes=schemes)
    assert len(ended.answers) == 2000 and world.most == 1
    assert world.now == pytest.approx(250.1)
    assert all(answer.outcome.ending is Ending.OK for answer in ended.answers)
