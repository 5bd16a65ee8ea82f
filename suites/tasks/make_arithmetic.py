# SPDX-License-Identifier: Apache-2.0
"""Sums with four numbers to choose from.

Why so plain: the sets compare precisions of one model on a CPU, so an item is
a handful of tokens, and a third of the items is easy enough for a very small
model. Addition and subtraction begin with a tiny finished sum, without which
such a model does not see what is wanted. The three wrong numbers have as many
digits as the right one, and how many of them are smaller is drawn at random, so
neither length nor size gives the right one away.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Item = tuple[str, str, list[str]]
Sum = tuple[str, int]
"""Context and right answer."""

PER_LEVEL = 14
NAMES = (
    "Ann", "Ben", "Tom", "Eva", "Max", "Lily", "Sam", "Kate", "Paul", "Nora",
    "Leo", "Jane", "Mark", "Rosa", "Jack", "Emma",
)  # fmt: skip
WARES = (
    ("pen", "pens"), ("cup", "cups"), ("book", "books"), ("hat", "hats"), ("ball", "balls"),
    ("cake", "cakes"), ("lamp", "lamps"), ("toy", "toys"), ("bag", "bags"), ("map", "maps"),
    ("pie", "pies"), ("belt", "belts"), ("plate", "plates"), ("shirt", "shirts"),
)  # fmt: skip
LESS = (-1, -2, -3, -4, -5, -6, -7, -8, -10, -11, -20)


def wrong_numbers(rng: random.Random, gold: int) -> list[int]:
    """Three near numbers of the same digit count, a random share of them smaller."""
    digits = len(str(gold))
    low = [gold + d for d in LESS if gold + d > 0 and len(str(gold + d)) == digits]
    high = [gold - d for d in LESS if len(str(gold - d)) == digits]
    shares = [n for n in range(4) if n <= len(low) and 3 - n <= len(high)]
    smaller = rng.choice(shares)
    return rng.sample(low, smaller) + rng.sample(high, 3 - smaller)


def addition(rng: random.Random, level: int) -> Sum:
    """One digit, two digits and one, two digits and two."""
    if level == 0:
        a = rng.randint(1, 8)
        b = rng.randint(1, 9 - a)
    elif level == 1:
        a, b = rng.randint(11, 79), rng.randint(2, 9)
    else:
        a = rng.randint(12, 79)
        b = rng.randint(11, 99 - a)
    return f"2 + 1 = 3, {a} + {b} =", a + b


def subtraction(rng: random.Random, level: int) -> Sum:
    """One digit, two digits less one, two digits less two."""
    if level == 0:
        a = rng.randint(3, 9)
        b = rng.randint(1, a - 1)
    elif level == 1:
        a, b = rng.randint(21, 99), rng.randint(2, 9)
    else:
        a = rng.randint(40, 99)
        b = rng.randint(12, a - 11)
    return f"3 - 1 = 2, {a} - {b} =", a - b


def multiplication(rng: random.Random, level: int) -> Sum:
    """Small tables, large tables, a two-digit factor."""
    if level == 0:
        a, b = rng.choice((2, 3, 4, 5, 10)), rng.randint(2, 9)
    elif level == 1:
        a, b = rng.randint(5, 9), rng.randint(3, 9)
    else:
        a, b = rng.randint(12, 24), rng.randint(3, 9)
    return f"{a} x {b} =", a * b


def sequence(rng: random.Random, level: int) -> Sum:
    """Counting on, even steps, and falling or doubling rows."""
    if level == 0:
        step = rng.choice((1, 1, 2, 5, 10))
        start = rng.randint(1, 9) * (step if step in (5, 10) else 1)
    elif level == 1:
        step, start = rng.randint(3, 9), rng.randint(2, 20)
    elif rng.random() < 0.35:
        start = rng.randint(1, 11)
        row = [start * 2**n for n in range(5)]
        return ", ".join(map(str, row[:4])) + ",", row[4]
    else:
        step = -rng.randint(2, 9)
        start = rng.randint(50, 99)
    row = [start + step * n for n in range(5)]
    return ", ".join(map(str, row[:4])) + ",", row[4]


def prices(rng: random.Random, level: int) -> Sum:
    """Change from a note, or the price of several things."""
    one, many = rng.choice(WARES)
    if level == 0:
        cost = rng.randint(2, 5)
        return f"One {one} costs {cost}. Two {many} cost", 2 * cost
    if level == 1:
        price = rng.randint(1, 9)
        return f"I pay 10 for a {one} at {price}. Change:", 10 - price
    if rng.random() < 0.5:
        cost, count = rng.randint(4, 9), rng.randint(3, 8)
        return f"One {one} costs {cost}. {count} {many} cost", cost * count
    price = rng.randint(11, 38)
    return f"I pay 50 for a {one} at {price}. Change:", 50 - price


def comparison(rng: random.Random, level: int) -> Sum:
    """A little more or less, the smallest or largest of four, more and fewer."""
    if level == 0:
        gold, step = rng.randint(1, 9), rng.choice((("One", 1), ("Two", 2)))
        if gold > step[1] and rng.random() < 0.5:
            return f"{step[0]} more than {gold - step[1]} is", gold
        return f"{step[0]} less than {gold + step[1]} is", gold
    if level == 1:
        four = rng.sample(range(11, 99), 4)
        if rng.random() < 0.5:
            return "Largest of {}, {}, {}, {}:".format(*four), max(four)
        return "Smallest of {}, {}, {}, {}:".format(*four), min(four)
    one, two = rng.sample(NAMES, 2)
    have, gap = rng.randint(14, 60), rng.randint(3, 9)
    if rng.random() < 0.5:
        return f"{one} has {have}, {gap} fewer than {two}. {two} has", have + gap
    gap = min(gap, have - 10)
    return f"{one} has {have}, {gap} more than {two}. {two} has", have - gap


def build(rng: random.Random) -> list[Item]:
    """All groups, three levels each, no sum twice."""
    makers: tuple[tuple[str, Callable[[random.Random, int], Sum]], ...] = (
        ("addition", addition),
        ("subtraction", subtraction),
        ("multiplication", multiplication),
        ("sequences", sequence),
        ("prices", prices),
        ("comparison", comparison),
    )
    items: list[Item] = []
    for group, make in makers:
        seen: set[str] = set()
        for level in range(3):
            while len(seen) < PER_LEVEL * (level + 1):
                context, gold = make(rng, level)
                if context in seen:
                    continue
                seen.add(context)
                listed = [int(n) for n in re.findall(r"\d+", context)]
                wrong = [n for n in listed if n != gold] if " of " in context else None
                numbers = [gold, *(wrong or wrong_numbers(rng, gold))]
                items.append((group, context, [str(n) for n in numbers]))
    return items
