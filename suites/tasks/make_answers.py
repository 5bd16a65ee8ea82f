# SPDX-License-Identifier: Apache-2.0
"""Short answers that are generated, not chosen: copying, finding, counting, adding.

Why these: the one right answer follows from the prompt alone, a very small model gets a good part of it, and nothing
is right by chance. Each item begins with two finished examples of its kind, so that the form of the answer is known and
a wrong one is wrong, not chatty. Copied sentences are the longest answers: a model that starts to ramble shows there.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from suites.tasks.make_reading import COLORS, MEN, SPOTS, THINGS, WOMEN

Pair = tuple[str, str]
"""What is asked and its answer, both without the words around them."""

PER_KIND = 20
SHOTS = 2


def copied(rng: random.Random) -> Pair:
    """A sentence said again."""
    who, color, thing, spot = rng.choice(WOMEN + MEN), rng.choice(COLORS), rng.choice(THINGS), rng.choice(SPOTS)
    sentence = f"{who} put the {color} {thing} {spot}."
    return f"Say: {sentence}\nSaid:", sentence


def last(rng: random.Random) -> Pair:
    """The last of five words."""
    words = rng.sample(THINGS, 5)
    return f"List: {', '.join(words)}\nLast:", words[-1]


def owner(rng: random.Random) -> Pair:
    """Who of two has a thing."""
    one, other = rng.choice(WOMEN), rng.choice(MEN)
    mine, yours = rng.sample(THINGS, 2)
    asked = rng.randrange(2)
    text = f"{one} has the {mine} and {other} has the {yours}."
    return f"{text}\nWho has the {(mine, yours)[asked]}?", (one, other)[asked]


def color(rng: random.Random) -> Pair:
    """The colour of one of two things."""
    first, second = rng.sample(COLORS, 2)
    mine, yours = rng.sample(THINGS, 2)
    asked = rng.randrange(2)
    text = f"The {mine} is {first} and the {yours} is {second}."
    return f"{text}\nWhich colour is the {(mine, yours)[asked]}?", (first, second)[asked]


def counted(rng: random.Random) -> Pair:
    """The next of numbers in equal steps."""
    start, step = rng.randint(1, 9), rng.choice((1, 2, 3, 5, 10))
    numbers = [start + step * i for i in range(5)]
    return f"Numbers: {', '.join(map(str, numbers[:4]))}\nNext:", str(numbers[4])


def added(rng: random.Random) -> Pair:
    """A sum of two small numbers."""
    a, b = rng.randint(1, 20), rng.randint(1, 9)
    return f"Sum: {a} + {b}\nResult:", str(a + b)


KINDS: tuple[Callable[[random.Random], Pair], ...] = (copied, last, owner, color, counted, added)


def build(rng: random.Random) -> list[dict[str, object]]:
    """All kinds, equally many items each, none twice and none among its own examples."""
    items: list[dict[str, object]] = []
    for kind in KINDS:
        seen: set[str] = set()
        while len(seen) < PER_KIND:
            shots = [kind(rng) for _ in range(SHOTS)]
            asked, answer = kind(rng)
            if asked in seen or any(asked == text or answer == said for text, said in shots):
                continue
            seen.add(asked)
            context = "".join(f"{text} {said}\n\n" for text, said in shots) + asked
            number = f"answers_{kind.__name__}_{len(seen):03d}"
            items.append({"id": number, "group": kind.__name__, "context": context, "answer": answer})
    return items
