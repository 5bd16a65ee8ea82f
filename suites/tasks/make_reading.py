# SPDX-License-Identifier: Apache-2.0
"""Short made-up passages with one question each.

Why made up: nothing outside the passage helps, so the answer has to be read.
Every passage names four things of the kind asked for, and all four are the
choices, so the wrong ones are as likely as the right one to a model that does
not read. Most questions are followed by the first words of the answer, so that
the choices are short and fit on grammatically. Names, things and places are
dealt from shuffled lists, hence no passage comes twice and the words vary.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Item = tuple[str, str, list[str]]
Asked = tuple[str, str, str, list[str], int]
"""Passage, question, start of the answer, the four choices, and which of them is right."""
Way = tuple[str, str, list[str], list[str]]
"""Question and start of the answer with gaps, the words for the gaps, and the answers."""


def words(text: str, between: str | None = None) -> list[str]:
    """A word list written as one string, to keep the long lists readable."""
    return text.split(between)


PER_SHAPE = 14
WOMEN = words(
    "Anna Maria Laura Nina Emma Julia Sophie Clara Eva Rosa Lucy Alice Diana Grace Helen Irene "
    "Jane Kate Lily Mary Nora Olivia Paula Ruth Sara Tina Vera Wendy"
)
MEN = words(
    "Ben Carl David Eric Frank George Henry Ivan Jack Kevin Leo Mark Nick Oscar Paul Peter Ralph "
    "Sam Tom Victor Walter Adam Bruno Dan Felix Hugo Luke Max"
)
COLORS = words("red blue green yellow white black brown pink gray orange purple")
THINGS = words(
    "kite scarf drum lamp clock violin basket mirror camera hat teapot blanket guitar knife bell "
    "map balloon candle wallet hammer pillow ribbon flute whistle bucket radio"
)
SMALL = words("key coin ring button letter ticket pen stamp photo spoon needle marble watch")
SPOTS = words(
    "in the drawer/on the desk/under the bed/on the shelf/behind the door/in the basket/"
    "on the chair/under the sofa/in the cupboard/by the window/on the stairs/in the garage",
    "/",
)
JOBS = words(
    "dentist baker pilot nurse farmer plumber teacher judge singer butcher tailor lawyer painter "
    "barber sailor cook gardener doctor dancer carpenter"
)
CITIES = words(
    "Rome Oslo Paris Cairo Lima Boston Dublin Madrid Tokyo Vienna Prague Berlin Lisbon Athens "
    "London Moscow Sydney Toronto"
)
VEHICLES = words("bus train car plane boat taxi truck")
PARTS = words("door roof fence gate kitchen bench stove carpet sofa porch chimney wall")
PLACES = words("bakery bank museum library market pool office school theater bookshop pharmacy zoo")
HOURS = words("six seven eight nine ten eleven")
ACTS = words(
    "washed the car/fed the cat/baked bread/called a friend/swept the floor/read a book/"
    "watered the plants/took a nap/wrote a letter/made the bed/cleaned the oven/went for a walk/"
    "played the piano/ironed a shirt/cut the grass/painted a chair",
    "/",
)
RELATIVES = words("aunt uncle brother sister father mother cousin grandmother grandfather")
WEATHER = words("sunny foggy rainy windy snowy cloudy stormy")
FOODS = words("bread butter honey cheese rice tea coffee fish soup salad cake milk pasta")
PRICES = words("two three four five six seven eight nine ten twelve")
PASSED = words("ball map key letter camera book bag hat phone ring lamp guitar")
HOLDERS = words("box jar bag drawer vase basket cup bucket suitcase pot tin chest wallet backpack")
PETS = words("dog cat horse parrot rabbit goat pig hamster duck turtle")
PET_NAMES = words("Rex Coco Luna Milo Bella Rocky Daisy Oreo Ginger Simba Lucky Pepper")
AGES = words("four five six seven eight nine ten eleven twelve")
EXCUSES = words(
    "the bus broke down/the car would not start/the alarm did not ring/the road was closed/"
    "the dog ran away/the train was full/the bridge was blocked/the keys were lost/"
    "the baby was crying/the bike had a flat tire/the snow was deep/the elevator got stuck",
    "/",
)
DOINGS = words("cooking reading sleeping singing painting dancing knitting writing studying resting whistling")
ROOMS = words("kitchen garden attic bedroom garage cellar hall bathroom library")
SIGHTS = words(
    "saw the tiger/ate ice cream/bought a hat/rode the train/fed the ducks/took photos/"
    "swam in the lake/climbed the tower/wore boots/drank tea/sang along/got wet/learned to ski/"
    "carried a map",
    "/",
)
SUBJECTS = words("math history music art biology French chess cooking dancing poetry")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
ORDER = ("first", "second", "third", "last")


class Source:
    """Deals words so that the whole list is used before any word returns."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.piles: dict[int, list[str]] = {}

    def four(self, words: list[str]) -> list[str]:
        """Four different words of the list."""
        pile = self.piles.setdefault(id(words), [])
        if len(pile) < 4:
            pile[:] = self.rng.sample(words, len(words))
        return [pile.pop() for _ in range(4)]

    def one(self, words: list[str]) -> str:
        """One word of the list."""
        return self.four(words)[0]

    def people(self) -> list[str]:
        """Two women and two men, mixed."""
        named = self.four(WOMEN)[:2] + self.four(MEN)[:2]
        self.rng.shuffle(named)
        return named

    def hero(self) -> tuple[str, str, str]:
        """A name with its pronoun and possessive."""
        if self.rng.random() < 0.5:
            return self.one(WOMEN), "she", "her"
        return self.one(MEN), "he", "his"


def a(word: str) -> str:
    """The word with its indefinite article."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def listed(parts: list[str], again: str = "") -> str:
    """Four parts as two sentences; ``again`` opens the second one."""
    one, two = f"{parts[0]} and {parts[1]}", f"{again}{parts[2]} and {parts[3]}"
    return f"{one[0].upper()}{one[1:]}. {two[0].upper()}{two[1:]}."


def ask(s: Source, *ways: Way) -> tuple[str, str, list[str], int]:
    """Ask about one of the four facts in one of the ways given."""
    question, start, cues, answers = s.rng.choice(ways)
    right = s.rng.randrange(4)
    return question.format(cues[right]), start.format(cues[right]), answers, right


def possession(s: Source) -> Asked:
    """Who has what."""
    who, what, color = s.people(), s.four(THINGS), s.four(COLORS)
    parts = [f"{w} has {a(c)} {t}" for w, c, t in zip(who, color, what, strict=True)]
    return listed(parts), *ask(
        s,
        ("Who has the {}?", "", what, who),
        ("What does {} have?", "{} has", who, [f"the {t}" for t in what]),
        ("What color is the {}?", "The {} is", what, color),
    )


def location(s: Source) -> Asked:
    """What lies where."""
    what, where = s.four(SMALL), s.four(SPOTS)
    parts = [f"the {t} is {p}" for t, p in zip(what, where, strict=True)]
    return listed(parts), *ask(
        s,
        ("Where is the {}?", "The {} is", what, where),
        ("What is {}?", "", where, [f"the {t}" for t in what]),
    )


def jobs(s: Source) -> Asked:
    """Who works as what."""
    who, job = s.people(), s.four(JOBS)
    told = f"{who[0]} is {a(job[0])}, and {who[1]} is {a(job[1])}. "
    told += f"{who[2]} works as {a(job[2])}, and {who[3]} works as {a(job[3])}."
    return told, *ask(
        s,
        ("Who is the {}?", "The {} is", job, who),
        ("What does {} work as?", "{} is", who, [a(j) for j in job]),
    )


def travel(s: Source) -> Asked:
    """Who went where and how."""
    who, city, by = s.people(), s.four(CITIES), s.four(VEHICLES)
    parts = [f"{w} went to {c} by {v}" for w, c, v in zip(who, city, by, strict=True)]
    return listed(parts), *ask(
        s,
        ("Who went to {}?", "", city, who),
        ("Where did {} go?", "{} went", who, [f"to {c}" for c in city]),
        ("How did {} travel?", "{} went", who, [f"by {v}" for v in by]),
    )


def colors(s: Source) -> Asked:
    """Which part of a house has which color."""
    part, color, owner = s.four(PARTS), s.four(COLORS), s.hero()[0]
    parts = [f"the {p} is {c}" for p, c in zip(part, color, strict=True)]
    text = listed([f"at {owner}'s house, {parts[0]}", *parts[1:]])
    return text, *ask(
        s,
        ("What color is the {}?", "The {} is", part, color),
        ("What is {}?", "", color, [f"the {p}" for p in part]),
    )


def opening(s: Source) -> Asked:
    """When which place opens."""
    place, hour = s.four(PLACES), s.four(HOURS)
    parts = [f"the {p} opens at {h}" for p, h in zip(place, hour, strict=True)]
    return listed(parts), *ask(
        s,
        ("When does the {} open?", "The {} opens", place, [f"at {h}" for h in hour]),
        ("What opens at {}?", "", hour, [f"the {p}" for p in place]),
    )


def order(s: Source) -> Asked:
    """What was done first, next and last."""
    name, she, _ = s.hero()
    act = s.four(ACTS)
    text = f"First {name} {act[0]}. Then {she} {act[1]}. "
    text += f"After that {she} {act[2]}, and last {she} {act[3]}."
    if s.rng.random() < 0.6:
        right = s.rng.choice((0, 3))
        when = ORDER[right]
        return text, f"What did {name} do {when}?", f"{when.capitalize()} {she}", act, right
    right = s.rng.randrange(1, 4)
    question = f"What did {name} do right after {she} {act[right - 1]}?"
    return text, question, she.capitalize(), act, right


def race(s: Source) -> Asked:
    """Who came in at which place."""
    who, where = s.people(), s.one(CITIES)
    text = f"In the race in {where}, {who[0]} came first and {who[1]} came second. "
    text += f"{who[2]} came third, and {who[3]} came last."
    right = s.rng.randrange(4)
    if right and s.rng.random() < 0.4:
        return text, f"Who came in right after {who[right - 1]}?", "", who, right
    return text, f"Who came {ORDER[right]}?", "", who, right


def gifts(s: Source) -> Asked:
    """Which present came from whom."""
    name, she, her = s.hero()
    giver, what = s.four(RELATIVES), s.four(THINGS)
    parts = [f"a {t} from {her} {g}" for t, g in zip(what, giver, strict=True)]
    text = listed([f"{name} got {parts[0]}", *parts[1:]], f"{she} got ")
    return text, *ask(
        s,
        (f"Who gave {name} the {{}}?", "The {} came from", what, [f"{her} {g}" for g in giver]),
        (f"What did {she} get from {her} {{}}?", "", giver, [f"a {t}" for t in what]),
    )


def weather(s: Source) -> Asked:
    """The weather in four cities."""
    city, sky, day = s.four(CITIES), s.four(WEATHER), s.one(DAYS)
    parts = [f"in {c} it was {w}" for w, c in zip(sky, city, strict=True)]
    text = listed([f"on {day}, {parts[0]}", *parts[1:]])
    return text, *ask(
        s,
        ("How was the weather in {}?", "In {} it was", city, sky),
        ("Where was it {}?", "It was {} in", sky, city),
    )


def market(s: Source) -> Asked:
    """What costs how much."""
    food, price = s.four(FOODS), s.four(PRICES)
    parts = [f"the {f} costs {p} dollars" for f, p in zip(food, price, strict=True)]
    money = [f"{p} dollars" for p in price]
    return listed(parts), *ask(
        s,
        ("How much does the {} cost?", "The {} costs", food, money),
        ("What costs {}?", "", money, [f"the {f}" for f in food]),
    )


def passing(s: Source) -> Asked:
    """A thing that goes from hand to hand."""
    who, what = s.people(), s.one(PASSED)
    text = f"{who[0]} gave the {what} to {who[1]}. Then {who[1]} gave it to {who[2]}, "
    text += f"and {who[2]} gave it to {who[3]}, who kept it."
    ways = [
        (f"Who has the {what} now?", f"The {what} is now with", 3),
        (f"Who had the {what} first?", f"At first the {what} was with", 0),
    ]
    ways += [(f"Who gave the {what} to {who[n + 1]}?", "It was given by", n) for n in (1, 2)]
    ways += [(f"Who got the {what} from {who[n]}?", f"{who[n]} gave it to", n + 1) for n in (0, 1)]
    question, start, right = s.rng.choice(ways)
    return text, question, start, who, right


def moving(s: Source) -> Asked:
    """A thing that goes from one holder to the next."""
    name, she, _ = s.hero()
    what, into = s.one(SMALL), s.four(HOLDERS)
    text = f"First the {what} was in the {into[0]}. {name} moved it to the {into[1]}, then to "
    text += f"the {into[2]}. At the end {she} put it in the {into[3]}."
    right = s.rng.choice((0, 3))
    when = "at first" if right == 0 else "at the end"
    start = f"{when.capitalize()} it was in"
    return text, f"Where was the {what} {when}?", start, [f"the {h}" for h in into], right


def pets(s: Source) -> Asked:
    """Whose pet is called what."""
    who, pet, name = s.people(), s.four(PETS), s.four(PET_NAMES)
    parts = [f"{w} has a {p} called {n}" for w, p, n in zip(who, pet, name, strict=True)]
    return listed(parts), *ask(
        s,
        ("What is the {} called?", "The {} is called", pet, name),
        ("Who owns {}?", "", name, who),
        ("What animal does {} have?", "{} has", who, [f"a {p}" for p in pet]),
    )


def ages(s: Source) -> Asked:
    """How old everyone is."""
    who, age = s.people(), s.four(AGES)
    parts = [f"{w} is {n}" for w, n in zip(who, age, strict=True)]
    text = listed(parts)[:-1] + " years old."
    if s.rng.random() < 0.3:
        rank = [AGES.index(n) for n in age]
        if s.rng.random() < 0.5:
            return text, "Who is the oldest?", "The oldest is", who, rank.index(max(rank))
        return text, "Who is the youngest?", "The youngest is", who, rank.index(min(rank))
    return text, *ask(s, ("Who is {} years old?", "", age, who), ("How old is {}?", "{} is", who, age))


def causes(s: Source) -> Asked:
    """Why everyone was late."""
    who, why = s.people(), s.four(EXCUSES)
    text = f"{who[0]} was late because {why[0]}, and {who[1]} because {why[1]}. "
    text += f"{who[2]} was late because {why[2]}, and {who[3]} because {why[3]}."
    return text, *ask(
        s,
        ("Why was {} late?", "Because", who, why),
        ("Who was late because {}?", "", why, who),
    )


def rooms(s: Source) -> Asked:
    """Who does what where."""
    who, does, room = s.people(), s.four(DOINGS), s.four(ROOMS)
    parts = [f"{w} is {d} in the {r}" for w, d, r in zip(who, does, room, strict=True)]
    return listed(parts), *ask(
        s,
        ("Who is in the {}?", "", room, who),
        ("What is {} doing?", "{} is", who, does),
        ("Where is {}?", "{} is", who, [f"in the {r}" for r in room]),
    )


def exception(s: Source) -> Asked:
    """Everyone but one."""
    who, act, city = s.people(), s.one(SIGHTS), s.one(CITIES)
    right = s.rng.randrange(4)
    text = f"{', '.join(who[:3])} and {who[3]} spent a day in {city}. "
    if s.rng.random() < 0.5:
        text += f"Everyone except {who[right]} {act}."
        return text, f"Who was the only one that never {act}?", "", who, right
    text += f"Only {who[right]} {act}."
    return text, f"Who {act}?", "", who, right


def lessons(s: Source) -> Asked:
    """Which subject is taught when and by whom."""
    who, what, day = s.people(), s.four(SUBJECTS), s.four(DAYS)
    parts = [f"{w} teaches {t} on {d}" for w, t, d in zip(who, what, day, strict=True)]
    return listed(parts), *ask(
        s,
        ("Who teaches {}?", "", what, who),
        ("What does {} teach?", "{} teaches", who, what),
        ("On which day is {} taught?", "{} is taught on", what, day),
    )


SHAPES: tuple[Callable[[Source], Asked], ...] = (
    possession, location, jobs, travel, colors, opening, order, race, gifts, weather,
    market, passing, moving, pets, ages, causes, rooms, exception, lessons,
)  # fmt: skip


def build(rng: random.Random) -> list[Item]:
    """All shapes, equally many passages each, none twice."""
    source = Source(rng)
    items: list[Item] = []
    for shape in SHAPES:
        seen: set[str] = set()
        while len(seen) < PER_SHAPE:
            passage, question, start, answers, right = shape(source)
            if passage in seen:
                continue
            seen.add(passage)
            opening_words = f" {start[0].upper()}{start[1:]}" if start else ""
            context = f"{passage}\nQ: {question}\nA:{opening_words}"
            wrong = [x for n, x in enumerate(answers) if n != right]
            items.append((shape.__name__, context, [answers[right], *wrong]))
    return items
