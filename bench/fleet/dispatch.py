# SPDX-License-Identifier: Apache-2.0
"""Hand loads out to boxes and take records home. A cell is done when its record is stored here, and not before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from bench.errors import UserError
from bench.fleet.link import Boxes, Event, Gone, Link, Lost, Over, Said
from bench.fleet.loads import TRIES, Load, chosen
from bench.fleet.members import Flight, Home, Member
from bench.fleet.wire import Answer, Box, Look, Needs, Seen, complaint, heard
from bench.records.record import Ending
from bench.records.store import Store, record_in, run_in
from bench.run.answered import Answered

LOOK_S = 180.0
"""Seconds that a box may take to say what it is: the first import from a network's disk is slow."""
WAIT_S = 600.0
"""So long the call waits for a box while it has none that could measure what is left."""
JOIN_S = 60.0
"""So long a cluster without a box that could measure is given: its nodes may be about to join."""
HEAR_S = 5.0


class Dispatcher:
    """One call over many boxes."""

    def __init__(
        self, link: Link, store: Store, look: Look, home: Home, *, clock: Callable[[], float] = time.monotonic,
        wait_s: float = WAIT_S,
    ) -> None:  # fmt: skip
        self.link, self.store, self.look, self.home = link, store, look, home
        self.clock, self.wait_s = clock, wait_s
        self.members: dict[str, Member] = {}
        self.refused: dict[str, str] = {}
        """By box, why it does not measure for us."""
        self.waiting: list[Load] = []
        self.flights: dict[str, Flight] = {}
        self.looking: dict[str, tuple[Box, float]] = {}
        """By question, the boxes that have not said yet what they are, and since when."""
        self.answers: list[Answered] = []
        self.undecided: set[str] = set()
        self.given_up: list[Load] = []
        self._answered: set[str] = set()
        self._asked, self._misses = 0, Counter[str]()
        self._idle: float | None = None
        """Since when there was nothing that could go on."""
        self._away = False
        self._met = False
        """Whether the cluster has said which boxes it has."""
        self._admitted = False
        """Whether any box has ever measured for us, or could have."""

    def run(self) -> None:
        """Until every load is done or given up. Raises UserError where no box can measure, or the disk is full."""
        while True:
            self._hand_out()
            if self._done():
                return
            event = self.link.hear(HEAR_S)
            if event is not None:
                self._take(event)
            self._look_again()

    def _done(self) -> bool:
        if self.flights or self.looking or not self._met:
            self._idle = None
            return False
        if self._admitted and not self.waiting:
            return True
        self._idle = self.clock() if self._idle is None else self._idle
        idle = self.clock() - self._idle
        waited = idle >= self.wait_s
        if not self._admitted and (waited or (not self._away and (self.refused or idle >= JOIN_S))):
            why = "; ".join(self.refused.values()) or "it has no node that offers a CPU or a GPU"
            raise UserError(f"no box of this cluster can measure what is asked: {why}", "")
        if not waited and not self._fits_nowhere():
            return False
        for load in self.waiting:
            self.home.tell(f"no box that is here can take {load}; the same command goes on when one can")
        self.given_up += self.waiting
        self.waiting = []
        return True

    def _fits_nowhere(self) -> bool:
        """Whether boxes of each waiting load's machine are here, and all are too small."""
        for load in self.waiting:
            own = [member for member in self.members.values() if _same(member, load)]
            if not own or any(load.fits(member.seen, member.held) for member in own):
                return False
        return bool(self.waiting)

    def _hand_out(self) -> None:
        for member in self.members.values():
            while len(member.busy) < member.slots and not member.doubted:
                others = [other for other in self.members.values() if other is not member]
                elsewhere = {key for f in self.flights.values() if f.member is not member for key in f.makes}
                elsewhere |= {key for other in others for key in other.held}
                begun = {family for other in others for family in other.families}
                load = chosen(self.waiting, member.seen, member.held, member.families, elsewhere, begun)
                if load is None:
                    break
                self.waiting.remove(load)
                self._fly(load, member)

    def _fly(self, load: Load, member: Member) -> None:
        name = self._name("load")
        self.flights[name] = Flight(load=load, member=member, asked=load.asked, makes=load.makes)
        member.busy.add(name)
        if load.cells:
            member.families.add(load.family)
        self.home.begins(member.box, load)
        self.link.ask(name, member.box, load.handout(self.home.beside(load)), load.needs(member.box))

    def _name(self, kind: str) -> str:
        self._asked += 1
        return f"{kind}-{self._asked}"

    def _take(self, event: Event) -> None:
        if isinstance(event, Boxes):
            self._meet(event)
        elif isinstance(event, Gone):
            if not self._away:
                self.home.tell(f"the cluster does not answer: {event.why}; what is stored is kept, waiting for it")
            self._away = True
            self._lose_all()
        elif event.name in self.looking:
            self._looked(event)
        elif event.name in self.flights:
            self._heard(event)

    def _meet(self, event: Boxes) -> None:
        """Boxes that came are asked what they are; those that went are forgotten, their loads come back as `Lost`."""
        if self._away:
            self.home.tell(f"the cluster answers again, with {len(event.boxes)} nodes")
        self._away, self._met = False, True
        self._idle = None
        living = {box.id for box in event.boxes}
        for gone in [member for name, member in self.members.items() if name not in living]:
            self._forget(gone)
        known = {*self.members, *self.refused, *(box.id for box, _ in self.looking.values())}
        for box in event.boxes:
            if box.id not in known and (box.cpus or box.gpus):
                self._ask_what(box)

    def _ask_what(self, box: Box) -> None:
        name = self._name("look")
        self.looking[name] = (box, self.clock())
        self.link.ask(name, box, self.look, Needs())

    def _lose_all(self) -> None:
        """Nothing that was asked will be answered, and boxes that come back must be asked anew what they are."""
        self.looking, self.members = {}, {}
        for name in sorted(self.flights):
            self._give_back(name, "the cluster is gone", blamed=False)

    def _look_again(self) -> None:
        for name, (box, since) in list(self.looking.items()):
            if self.clock() - since > LOOK_S:
                del self.looking[name]
                self._refuse(box, f"has not said in {LOOK_S:.0f} s what it is")

    def _refuse(self, box: Box, why: str) -> None:
        self.refused[box.id] = f"{box.name} {why}"
        self.home.tell(f"box {box.name} is left out: {why}")
        if (member := self.members.pop(box.id, None)) is not None:
            for name in sorted(member.busy):
                self._give_back(name, "it is left out")

    def _looked(self, event: Said | Over | Lost) -> None:
        box, _ = self.looking[event.name]
        if isinstance(event, Lost):
            del self.looking[event.name]
            self._missed(box, event.why)
            return
        answer = heard(event.line) if isinstance(event, Said) else Answer(refused=("it said nothing", ""))
        if answer.told or answer == Answer():
            return
        del self.looking[event.name]
        if answer.seen is None:
            self._refuse(box, complaint(answer))
        elif box.id in self.members:
            self.members[box.id].doubted = False
        else:
            self._admit(box, answer.seen)

    def _missed(self, box: Box, why: str) -> None:
        """A box that does not even say what it is may be dead already; one that is there is asked again."""
        self._misses[box.id] += 1
        if self._misses[box.id] >= TRIES:
            self._refuse(box, why)
        elif box.id in self.members:
            self._forget(self.members[box.id])

    def _admit(self, box: Box, seen: Seen) -> None:
        try:
            found = self.home.admitted(box, seen)
        except UserError as error:
            self._refuse(box, str(error))
            return
        slots = box.gpus if seen.machine.kind == "cuda" else 1
        self._admitted = True
        self.members[box.id] = Member(box=box, seen=seen, slots=slots)
        self.waiting += found

    def _forget(self, member: Member) -> None:
        self.home.tell(f"box {member.box.name} has gone")
        self.members.pop(member.box.id, None)
        for name in sorted(member.busy):
            self._give_back(name, "its node is gone")

    def _heard(self, event: Said | Over | Lost) -> None:
        flight = self.flights[event.name]
        if isinstance(event, Said):
            self._said(event, flight)
        elif isinstance(event, Lost):
            self._give_back(event.name, event.why)
            self._doubt(flight.member)
        else:
            self._give_back(event.name, "its process ended without its last line")

    def _doubt(self, member: Member) -> None:
        """A node that died is listed as living for a while: only one that answers is given more."""
        if not member.doubted and member.box.id in self.members:
            member.doubted = True
            self._ask_what(member.box)

    def _said(self, event: Said, flight: Flight) -> None:
        answer = heard(event.line)
        if answer.record is not None:
            self._home(answer.record, event.name)
        elif answer.held is not None:
            flight.member.held.add(answer.held)
        elif answer.run is not None:
            self._run_ended(answer.run, flight.load)
        elif answer.undecided is not None:
            self.undecided |= set(answer.undecided)
            self._land(event.name)
        elif answer.told is not None:
            self.home.tell(f"box {flight.member.box.name}: {answer.told}")
        elif answer.refused is not None:
            self._give_back(event.name, complaint(answer), blamed=False)
            self._refuse(flight.member.box, complaint(answer))
        elif answer.ended is not None:
            self._give_back(event.name, complaint(answer))
            self._doubt(flight.member)

    def _run_ended(self, text: str, load: Load) -> None:
        """Store what the end of a box's measuring told, of this run and machine alone: no cell waits for it."""
        try:
            told = run_in(text.encode(), self.store.root)
        except UserError:  # it was torn on its way
            return
        if (told.run, told.device) == (load.run, load.machine.device):
            self.store.write_run(told)

    def _home(self, text: str, name: str) -> None:
        """Store a record that came whole, unless its cell has one of another box by now."""
        flight = self.flights[name]
        try:
            record = record_in(text.encode(), self.store.root)
        except UserError as error:
            self._give_back(name, f"it sent what is no record: {error.message}")
            return
        key = record.cell.key
        if record.run != flight.load.run or key not in flight.asked:
            self._give_back(name, "it sent a record that nobody asked for")
            return
        if record.outcome.ending is Ending.OK and key in flight.makes:
            flight.member.held.add(key)
        flight.load.settle(key)
        if (key in self._answered and key not in flight.answered) or self.home.known(record):
            return  # a reference that another box has measured too
        self.store.write(record)
        flight.answered.add(key)
        self._answered.add(key)
        self.answers.append(Answered.of(record))
        self.home.record(record, flight.member.box, flight.load)

    def _land(self, name: str) -> None:
        """A load has said its last line; a cell of it that the budget left is told by `undecided`.

        Its box is given the next at once: the cluster begins it when the process of this one is gone, and home need not
        hear of that.
        """
        flight = self.flights.pop(name)
        flight.member.busy.discard(name)
        self.home.ends(flight.load)
        flight.load.cells = [p for p in flight.load.cells if p.cell.key not in self.undecided]
        if not flight.load.done:
            flight.load.lost += 1
            self._again(flight.load, "its box ended without answering all of it")

    def _give_back(self, name: str, why: str, *, blamed: bool = True) -> None:
        """Others shall measure what has no record; a load that costs one box after another is left open."""
        flight = self.flights.pop(name)
        flight.member.busy.discard(name)
        self.home.ends(flight.load)
        load = flight.load
        if load.done:
            return
        if blamed:
            load.lost += 1
        self.home.tell(f"box {flight.member.box.name} has lost {load}: {why}; given back")
        self._again(load, why)

    def _again(self, load: Load, why: str) -> None:
        if load.lost >= TRIES:
            self.home.tell(f"{load} stays open, for {load.lost} boxes were lost with it; the same command tries again")
            self.given_up.append(load)
        else:
            self.waiting.insert(0, load)


def _same(member: Member, load: Load) -> bool:
    return member.seen.machine.device == load.machine.device
