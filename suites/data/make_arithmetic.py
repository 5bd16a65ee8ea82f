# SPDX-License-Identifier: Apache-2.0
"""Write probe/arithmetic.txt: worked arithmetic in words and symbols.

The probe texts are scored by a full-precision and a quantized model, and their
next-token distributions are compared. Digits are where small errors in the
weights show early, so one of the texts is made of arithmetic. It is computed
here, not typed, so that every result in it is right; the model is then not
being measured on how it continues false sums.

Each function below returns a few paragraphs of different shapes about one
subject. The seed is fixed and only the standard library is used, so the file
comes out the same, byte for byte, on each run.
"""

import itertools
from collections.abc import Callable
from datetime import date, timedelta
from fractions import Fraction
from math import gcd, isqrt
from pathlib import Path
from random import Random

SEED = 20240817
TARGET = Path(__file__).resolve().parent / "probe" / "arithmetic.txt"

SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = [
    "-",
    "-",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
]
PLACES = ("units", "tens", "hundreds", "thousands", "ten-thousands")
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def words(n: int) -> str:
    """Spell a whole number below one million."""
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10] + (f"-{SMALL[n % 10]}" if n % 10 else "")
    if n < 1000:
        rest = f" and {words(n % 100)}" if n % 100 else ""
        return f"{SMALL[n // 100]} hundred{rest}"
    tail = n % 1000
    link = " and " if 0 < tail < 100 else " "
    return f"{words(n // 1000)} thousand" + (link + words(tail) if tail else "")


def cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def money(cents: int, sign: str = "£") -> str:
    return f"{sign}{cents // 100:,}.{cents % 100:02d}"


def clock(minutes: int) -> str:
    minutes %= 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def day_name(d: date) -> str:
    return f"{DAYS[d.weekday()]}, {d.day} {MONTHS[d.month - 1]} {d.year}"


def short(value: Fraction, places: int = 6) -> str:
    """A decimal that ends within `places` digits, without trailing zeros."""
    scaled = value * 10**places
    if scaled.denominator != 1:
        raise ValueError(f"{value} does not end within {places} decimals")
    whole, part = divmod(abs(scaled.numerator), 10**places)
    digits = f"{part:0{places}d}".rstrip("0")
    return ("-" if value < 0 else "") + str(whole) + (f".{digits}" if digits else "")


def rounded(value: Fraction, places: int) -> str:
    """Round a positive value half up and print it with `places` decimals."""
    n = (value * 10**places + Fraction(1, 2)) // 1
    return f"{n // 10**places}.{n % 10**places:0{places}d}" if places else str(n)


def mixed(value: Fraction) -> str:
    whole, rest = divmod(value.numerator, value.denominator)
    if rest == 0:
        return str(whole)
    part = f"{rest}/{value.denominator}"
    return f"{whole} {part}" if whole else part


def carrying(a: int, b: int) -> str:
    """Explain a column addition from right to left."""
    steps, carry, place = [], 0, 0
    while a or b:
        x, y = a % 10, b % 10
        total = x + y + carry
        text = f"{PLACES[place]}: {x} + {y}"
        text += f" + {carry} carried" if carry else ""
        text += f" = {total}"
        if total > 9:
            text += f", write {total % 10} and carry 1"
        steps.append(text)
        carry, a, b, place = total // 10, a // 10, b // 10, place + 1
    if carry:
        steps.append("and the last 1 goes in front")
    return "; ".join(steps)


def additions(r: Random) -> list[str]:
    a, b = r.randint(2500, 4999), r.randint(2500, 4999)
    c, d = r.randint(560, 899), r.randint(450, 899)
    e = [r.randint(100, 999) for _ in range(4)]
    lines = "\n".join(f"{n:>9,}" for n in e)
    f, g = r.randint(46, 59), r.randint(33, 39)
    to_ten = 10 - f % 10
    k = r.randint(1100, 4800)
    return [
        (
            f"{a:,} + {b:,}. Begin on the right. {cap(carrying(a, b))}. So the sum is "
            f"{a + b:,}, which in words is {words(a + b)}."
        ),
        (
            f"What do {words(c)} and {words(d)} make together? Rounding first, about "
            f"{round(c, -2)} and about {round(d, -2)} give {round(c, -2) + round(d, -2)}, "
            f"so the answer must lie near there. Exactly: {c} + {d} = {c + d}. The "
            f"estimate was off by {abs(c + d - round(c, -2) - round(d, -2))}."
        ),
        (
            f"Four deliveries came in during the week, in kilograms:\n{lines}\n"
            f"---------\n{sum(e):>9,}\n"
            f"Check it upwards, in a different order: {e[3]} + {e[2]} = {e[3] + e[2]}, "
            f"and {e[1]} more is {e[3] + e[2] + e[1]}, and {e[0]} more is {sum(e)}. "
            "Both ways agree."
        ),
        (
            f"To add {f} and {g} without paper, move {to_ten} from the second number "
            f"to the first. That leaves {f + to_ten} + {g - to_ten}, and nobody needs "
            f"a pencil for {f + g}."
        ),
        (
            f"The odometer showed {k * 10 + 7:,} km before the holiday and "
            f"{k * 10 + 7 + 1386:,} km after it, so the car had gone 1,386 km. "
            f"Over 9 days that is 1386 / 9 = {1386 // 9} km a day."
        ),
    ]


def subtractions(r: Random) -> list[str]:
    a, b = r.choice((1000, 2000, 5000)), r.randint(123, 877)
    up = (-b) % 10
    up2 = (-(b + up)) % 100
    rest = a - (b + up + up2)
    c, d = r.randint(6, 9) * 100 + r.randint(0, 3), r.randint(3, 5) * 100 + 78
    born, died = r.randint(1741, 1760), r.randint(1801, 1829)
    low, high = -r.randint(7, 19), r.randint(3, 14)
    return [
        (
            f"{a} - {b} by counting up. From {b} to {b + up} is {up}; from {b + up} to "
            f"{b + up + up2} is {up2}; from there to {a} is {rest}. "
            f"{up} + {up2} + {rest} = {a - b}. Proof: {b} + {a - b} = {a}."
        ),
        (
            f"Take {d} from {c}. It is easier to take away {d + 22} and then give back "
            f"22: {c} - {d + 22} = {c - d - 22}, and {c - d - 22} + 22 = {c - d}."
        ),
        (
            f"A clockmaker was born in {born} and died in {died}, having had his birthday "
            f"that year. {died} - {born} = {died - born}, so he lived to be "
            f"{words(died - born)}."
        ),
        (
            f"Before dawn the thermometer stood at {low} °C, and at two in the afternoon "
            f"it read {high} °C. The rise is {high} - ({low}) = {high} + {-low} = "
            f"{high - low} degrees. Subtracting a negative number is the same as adding."
        ),
    ]


def products(r: Random) -> list[str]:
    a, b = r.randint(23, 89), r.randint(12, 19)
    c = r.randint(31, 79)
    n = r.randint(13, 28)
    x, y = r.randint(112, 389), r.randint(24, 67)
    t, u = divmod(y, 10)
    half, dbl = r.choice((14, 18, 22, 26)), r.choice((15, 35, 45))
    return [
        f"{a} × {b} = {a} × 10 + {a} × {b - 10} = {a * 10} + {a * (b - 10)} = {a * b}.",
        (
            f"Multiplying by 99 is multiplying by 100 with one taken off: 99 × {c} = "
            f"{c * 100} - {c} = {c * 99}. In the same way 101 × {c} = {c * 100} + {c} = "
            f"{c * 101}, and the two answers differ by exactly {2 * c}."
        ),
        (
            f"The square of {n} is {n * n}. Its neighbours multiplied, {n - 1} × {n + 1}, "
            f"give {n * n - 1}, one less. Two steps away on each side, {n - 2} × {n + 2} is "
            f"{n * n - 4}, less by four. The next would be less by nine: "
            f"{n - 3} × {n + 3} = {n * n - 9}."
        ),
        (
            f"Long multiplication of {x} by {y}:\n"
            f"  {x} × {u} = {x * u}\n  {x} × {t * 10} = {x * t * 10}\n"
            f"  {x * u} + {x * t * 10} = {x * y}\n"
            f"The last digit has to be that of {x % 10} × {u}, namely {x * u % 10}, "
            "and it is."
        ),
        (
            f"Halve one and double the other: {half} × {dbl} is as much as "
            f"{half // 2} × {dbl * 2}, and that is {half * dbl}."
        ),
    ]


def divisions(r: Random) -> list[str]:
    q, d, m = r.randint(21, 88), r.randint(6, 9), r.randint(1, 5)
    n = q * d + m
    seats, people = 47, r.randint(400, 600)
    buses = -(-people // seats)
    k = r.choice((1237, 2184, 4635, 7218, 8883))
    s = sum(map(int, str(k)))
    verdict = "so" if k % 9 == 0 else "so it leaves a remainder and"
    state = "is" if k % 9 == 0 else "is not"
    a, b = r.choice(((84, 126), (90, 168), (132, 204)))
    chain, x, y = [], b, a
    while y:
        chain.append(f"{x} = {x // y} × {y} + {x % y}")
        x, y = y, x % y
    return [
        (
            f"Divide {n} by {d}. {cap(words(d))} goes into {n} {words(q)} times, because "
            f"{d} × {q} = {d * q}, with {m} left over. As a mixed number the quotient is "
            f"{mixed(Fraction(n, d))}."
        ),
        (
            f"There are {people} pupils and each bus holds {seats}. {people} ÷ {seats} is "
            f"{people // seats} remainder {people % seats}. Nobody can be left behind, so "
            f"{buses} buses are hired, and {buses * seats - people} seats stay empty."
        ),
        f"Is {k} divisible by 9? Its digits add up to {s}, {verdict} {k} {state} a "
        f"multiple of nine: {k} = 9 × {k // 9}" + (f" + {k % 9}." if k % 9 else "."),
        (
            f"The greatest common divisor of {a} and {b}, by Euclid's method: "
            f"{'; '.join(chain)}. The last remainder that was not zero is {x}. The least "
            f"common multiple follows at once: {a} × {b} / {x} = {a * b // x}."
        ),
    ]


def shopping(r: Random) -> list[str]:
    p, q = r.randint(125, 289), r.randint(310, 495)
    n = r.randint(3, 6)
    total = n * p + q
    change = 2000 - total
    coins, left = [], change
    for value, name in (
        (500, "£5 note"),
        (200, "£2 coin"),
        (100, "£1 coin"),
        (50, "50p"),
        (20, "20p"),
        (10, "10p"),
        (5, "5p"),
        (2, "2p"),
        (1, "1p"),
    ):
        if left >= value:
            coins.append(f"{left // value} × {name}")
            left %= value
    goods = {
        "flour, 2 kg": r.randint(149, 219),
        "butter": r.randint(239, 315),
        "a dozen eggs": r.randint(289, 365),
        "yeast": r.randint(79, 135),
    }
    bill = sum(goods.values())
    rows = "\n".join(f"{name:<14}{money(v, '$'):>7}" for name, v in goods.items())
    small, large = r.randint(168, 189), r.randint(405, 439)
    a, b = Fraction(small, 250), Fraction(large, 600)
    better = "large" if b < a else "small"
    each = r.randint(11, 17) * 5
    return [
        (
            f"{cap(words(n))} notebooks at {money(p)} come to {money(n * p)}; a pen at "
            f"{money(q)} makes it {money(total)}. Paying with a twenty-pound note, you get "
            f"back {money(change)}: {', '.join(coins)}."
        ),
        (
            f"Receipt\n{rows}\n{'total':<14}{money(bill, '$'):>7}\n{'cash':<14}"
            f"{money(1500, '$'):>7}\n{'change':<14}{money(1500 - bill, '$'):>7}"
        ),
        (
            f"Which jar is the better buy, 250 g for {money(small)} or 600 g for "
            f"{money(large)}? The first costs {rounded(a * 100, 1)} pence for 100 g and "
            f"the second {rounded(b * 100, 1)} pence, so the {better} one wins."
        ),
        (
            f"Stamps are {each} cents each. With $10.00 you can buy {1000 // each} of "
            f"them, since {1000 // each} × {each} = {1000 // each * each}; there would be "
            f"{1000 % each} cents over, and one stamp more would cost "
            f"{money((1000 // each + 1) * each, '$')}."
        ),
    ]


def percentages(r: Random) -> list[str]:
    price, off = r.randint(4, 19) * 20, r.choice((15, 20, 25, 35))
    cut = price * off // 100
    base, pct = r.randint(3, 9) * 200, r.choice((4, 6, 12))
    old = r.choice((40, 80, 160, 250))
    new = old + old * r.choice((10, 15, 30)) // 100
    net = r.randint(21, 79) * 100
    votes = (r.randint(300, 420), r.randint(180, 260), r.randint(60, 120))
    everyone = sum(votes)
    up = r.choice((10, 20, 25))
    after = Fraction(100 + up, 100) * Fraction(100 - up, 100) * 100
    return [
        (
            f"A coat marked {price} euros is reduced by {off}%. Ten percent of {price} is "
            f"{short(Fraction(price, 10))}, so {off}% is {short(Fraction(price * off, 100))}"
            f", and the coat now costs {price} - {cut} = {price - cut} euros."
        ),
        (
            f"{pct}% of {base} equals {base}% of {pct}; both are {base * pct // 100}. "
            "Swapping the two numbers often makes the sum easier."
        ),
        (
            f"The fare went from {old} to {new} cents. The increase of {new - old} cents, "
            f"measured against the old fare, is {new - old}/{old} = "
            f"{short(Fraction((new - old) * 100, old))} percent. Measured against the new "
            f"fare it would be only {rounded(Fraction((new - old) * 100, new), 1)} percent."
        ),
        (
            f"Net {money(net, '€')}, value-added tax at 19% {money(net * 19 // 100, '€')}, "
            f"gross {money(net * 119 // 100, '€')}. To get back from the gross amount one "
            "divides by 1.19 and does not subtract nineteen percent of it, which would "
            f"take off {money((net * 119 * 19 + 5000) // 10000, '€')} and leave too little."
        ),
        f"Of {everyone} valid votes, {votes[0]} went to Ruiz, {votes[1]} to Halloran "
        f"and {votes[2]} to Bly: "
        + ", ".join(f"{rounded(Fraction(v * 100, everyone), 1)}%" for v in votes)
        + f". A majority needs {everyone // 2 + 1}. "
        + ("Ruiz has it." if votes[0] > everyone // 2 else "Nobody has it yet."),
        (
            f"Something that rises by {up}% and then falls by {up}% does not end where it "
            f"began. From 100 it goes to {100 + up}, and {up}% of {100 + up} is "
            f"{short(Fraction((100 + up) * up, 100))}, which brings it down to "
            f"{short(after)}."
        ),
    ]


def interest(r: Random) -> list[str]:
    start, rate = r.choice((1000, 2000, 4000)), r.choice((2, 3, 5))
    balance, lines = start * 100, []
    for year in range(1, 5):
        gain = (balance * rate * 2 + 100) // 200
        balance += gain
        lines.append(f"year {year}: + {money(gain)} -> {money(balance)}")
    simple = start * rate * 4
    p, months = r.randint(20, 60) * 12, 12
    return [
        f"{money(start * 100)} at {rate}% a year, compounded yearly and rounded to "
        "the penny:\n" + "\n".join(lines) + f"\nWith simple interest it would be "
        f"{money(start * 100 + simple)} after four years.",
        (
            f"A loan of ${p} is repaid in {months} equal parts without interest. Each "
            f"part is ${p // months}. After {words(5)} of them ${p // months * 5} has been "
            f"paid and ${p - p // months * 5} is still owed."
        ),
        (
            f"At {rate}% a year money doubles in roughly 72 / {rate} = "
            f"{short(Fraction(72, rate))} years. That is a rule of thumb and not a law."
        ),
    ]


def units(r: Random) -> list[str]:
    km, c, lb = r.randint(5, 42), r.choice((-10, 5, 15, 25, 35)), r.randint(3, 14)
    feet, inches = r.randint(5, 6), r.randint(1, 11)
    total = feet * 12 + inches
    speed = r.choice((36, 54, 72, 90, 108))
    ml = r.randint(2, 6) * 250
    w, h, d = r.randint(3, 6) * 10, r.randint(2, 4) * 10, r.randint(3, 5) * 10
    area = r.randint(12, 48)
    secs = r.randint(4000, 9999)
    return [
        (
            f"{km} km in miles: one mile is 1.609344 km, and {km} / 1.609344 = "
            f"{rounded(Fraction(km * 1000000, 1609344), 2)} (rounded)."
        ),
        (
            f"From Celsius to Fahrenheit, multiply by 9, divide by 5 and add 32. For "
            f"{c} °C: {c} × 9 = {c * 9}; {c * 9} / 5 = {c * 9 // 5}; {c * 9 // 5} + 32 = "
            f"{c * 9 // 5 + 32} °F. Only at -40 do the two scales agree."
        ),
        (
            f"He is {feet} feet {inches} inches tall, that is {feet} × 12 + {inches} = "
            f"{total} inches; at 2.54 cm each, {short(Fraction(total * 254, 100))} cm."
        ),
        (
            f"{speed} km/h is {speed * 1000} metres in 3600 seconds, or "
            f"{speed * 10 // 36} m/s. The short way is to divide by 3.6."
        ),
        (
            f"The recipe asks for {ml} ml of stock, and the jug holds a quarter of a "
            f"litre. How many jugs? {ml} ÷ 250 = {ml // 250}."
        ),
        (
            f"An aquarium measures {w} cm by {h} cm by {d} cm inside. Its volume is "
            f"{w} × {h} × {d} = {w * h * d:,} cubic centimetres, and since a litre is "
            f"1,000 of those it takes {short(Fraction(w * h * d, 1000))} litres. Filled "
            f"to nine tenths, it holds {short(Fraction(w * h * d * 9, 10000))}."
        ),
        (
            f"{lb} lb × 0.45359237 kg/lb = {short(Fraction(lb * 45359237, 10**8), 8)} kg, "
            f"say {rounded(Fraction(lb * 45359237, 10**8), 2)} kg."
        ),
        (
            f"How many square centimetres are there in {area} square metres? Not "
            f"{area * 100}: each metre is 100 cm in both directions, so the factor is "
            f"100 × 100 = 10,000, and the answer is {area * 10000:,}."
        ),
        (f"{secs} seconds = {secs // 60} min {secs % 60} s = {secs // 3600} h {secs % 3600 // 60} min {secs % 60} s."),
    ]


def times(r: Random) -> list[str]:
    dep, dur = r.randint(7 * 60, 11 * 60), r.randint(130, 290)
    night, sleep = 22 * 60 + r.randint(5, 55), r.randint(430, 510)
    d = date(r.randint(2021, 2031), r.randint(1, 12), r.randint(1, 28))
    gap = r.randint(45, 150)
    later = d + timedelta(days=gap)
    y = r.choice((1900, 2000, 2024, 2100))
    leap = y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)
    zone = r.randint(5, 9)
    call = r.randint(17, 21) * 60 + 30
    start = date(r.randint(2022, 2030), 2, 20)
    a, b = r.choice(((8, 12), (6, 15), (10, 14)))
    lcm = a * b // gcd(a, b)
    laps = [r.randint(68, 79) for _ in range(4)]
    angle = r.randint(1, 11)
    return [
        (
            f"The train leaves at {clock(dep)} and takes {dur // 60} hours and {dur % 60} "
            f"minutes. Add the hours first: {clock(dep + dur // 60 * 60)}. Then the "
            f"minutes: it arrives at {clock(dep + dur)}."
        ),
        (
            f"Asleep at {clock(night)}, awake at {clock(night + sleep)}. Up to midnight "
            f"that is {1440 - night} minutes, and after midnight {night + sleep - 1440}; "
            f"altogether {sleep} minutes, which is {sleep // 60} h {sleep % 60} min."
        ),
        (
            f"{gap} days after {day_name(d)} comes {day_name(later)}. The weekday can be "
            f"checked by itself: {gap} = 7 × {gap // 7} + {gap % 7}, and {gap % 7} "
            f"days on from a {DAYS[d.weekday()]} is a {DAYS[later.weekday()]}."
        ),
        f"Was {y} (or will it be) a leap year? {y} / 4 = {short(Fraction(y, 4))}, with "
        "no remainder. "
        + (
            f"It is a century, so it must also divide by 400, and {y} {'does' if y % 400 == 0 else 'does not'}. "
            if y % 100 == 0
            else "It is not a century, so nothing more has to be tried. "
        )
        + f"The year has {366 if leap else 365} days.",
        (
            f"When it is {clock(call)} in the office, it is {zone} hours earlier at the "
            f"branch overseas, {clock(call - zone * 60)}. A meeting at 09:00 there is at "
            f"{clock(540 + zone * 60)} here."
        ),
        (
            f"From 20 February {start.year} to 10 March of that year is "
            f"{(date(start.year, 3, 10) - start).days} days, because February has "
            f"{(date(start.year, 3, 1) - date(start.year, 2, 1)).days} of them: "
            f"{(date(start.year, 3, 1) - start).days} to reach the first of March, and "
            "nine more."
        ),
        (
            f"One bus comes every {a} minutes and another every {b}. Both left at 07:00. "
            f"Multiples of {b}: {', '.join(str(b * i) for i in range(1, lcm // b + 1))}. "
            f"The first that {a} also divides is {lcm}, so they meet again at "
            f"{clock(420 + lcm)}."
        ),
        "Lap times in seconds: "
        + ", ".join(map(str, laps))
        + f". Together {sum(laps)} s, or {sum(laps) // 60}:{sum(laps) % 60:02d}; the "
        f"average is {short(Fraction(sum(laps), 4))} s, the fastest {min(laps)}, the "
        f"slowest {max(laps)}, and the spread {max(laps) - min(laps)}.",
        (
            f"At {angle} o'clock exactly the hands stand {min(angle, 12 - angle)} hour "
            f"marks apart, and as each mark is 30 degrees the angle is "
            f"{min(angle, 12 - angle) * 30} degrees."
        ),
    ]


def sequences(r: Random) -> list[str]:
    a, d = r.randint(2, 9), r.randint(3, 9)
    arith = [a + d * i for i in range(6)]
    g, q = r.randint(2, 5), r.choice((2, 3))
    geo = [g * q**i for i in range(6)]
    n = r.randint(15, 40)
    fib = [r.randint(1, 4), r.randint(3, 7)]
    while len(fib) < 9:
        fib.append(fib[-1] + fib[-2])
    off = r.randint(1, 6)
    quad = [i * i + off for i in range(1, 8)]
    gaps = [y - x for x, y in itertools.pairwise(quad)]
    c = r.choice((6, 7, 9, 11))
    walk = [c]
    while walk[-1] != 1:
        walk.append(walk[-1] // 2 if walk[-1] % 2 == 0 else 3 * walk[-1] + 1)
    primes = [p for p in range(2, 60) if all(p % k for k in range(2, isqrt(p) + 1))]
    return [
        (
            f"{', '.join(map(str, arith))}, ... Each term is {d} more than the one before. "
            f"The tenth is {a} + 9 × {d} = {a + 9 * d}, and the hundredth is "
            f"{a} + 99 × {d} = {a + 99 * d}."
        ),
        (
            f"Next in the row {', '.join(map(str, geo[:5]))}? Every step multiplies by {q}, "
            f"hence {geo[5]}. All six together make {sum(geo)}."
        ),
        (
            f"1 + 2 + 3 + ... + {n}: write the row backwards beneath itself, and each of "
            f"the {n} columns adds up to {n + 1}. Half of {n} × {n + 1} = {n * (n + 1)} is "
            f"{n * (n + 1) // 2}."
        ),
        (
            f"Start with {fib[0]} and {fib[1]} and let each number be the sum of the two "
            f"before: {' '.join(map(str, fib))}. The ratio of the last two, "
            f"{fib[-1]}/{fib[-2]}, is {rounded(Fraction(fib[-1], fib[-2]), 4)}, already "
            "close to 1.6180."
        ),
        (
            f"{' '.join(map(str, quad))} -- the differences are {' '.join(map(str, gaps))}, "
            f"and the differences of those are all 2. The rule is n² + {off}; for n = 20 "
            f"it gives {400 + off}."
        ),
        (
            f"Halve it if it is even, otherwise triple it and add one. From {c}: "
            f"{' -> '.join(map(str, walk))}. That took {len(walk) - 1} steps, and the "
            f"highest point was {max(walk)}."
        ),
        (
            f"The primes below sixty are {', '.join(map(str, primes[:-1]))} and "
            f"{primes[-1]}. There are {words(len(primes))} of them, and "
            f"{sum(1 for p in primes if p + 2 in primes)} pairs differ by two."
        ),
        "Powers of two, from the first to the sixteenth: "
        + ", ".join(f"{2**i:,}" for i in range(1, 17))
        + f". Adding up the first ten gives {sum(2**i for i in range(1, 11)):,}, two "
        f"less than the eleventh, {2**11:,}.",
    ]


def fraction_sums(r: Random) -> list[str]:
    a, b = Fraction(r.randint(1, 3), 4), Fraction(r.randint(1, 5), 6)
    c, d = Fraction(r.choice((2, 4)), 9), Fraction(r.choice((3, 9)), 8)
    n, m = r.choice(((84, 126), (36, 60), (45, 105), (64, 112)))
    g = gcd(n, m)
    whole = r.randint(2, 5)
    e = whole + Fraction(2, 3)
    cups, guests = Fraction(3, 4), r.choice((6, 10, 14))
    need = cups * guests / 4
    p, q = r.choice(((1, 7), (2, 11), (5, 13), (3, 7)))
    digits, rest, seen = "", p, [p]
    while True:
        rest *= 10
        digits += str(rest // q)
        rest %= q
        if rest in seen:
            break
        seen.append(rest)
    f = r.choice((Fraction(3, 8), Fraction(7, 16), Fraction(9, 40), Fraction(11, 20)))
    bigger = "5/8" if Fraction(5, 8) > Fraction(7, 12) else "7/12"
    acres = r.randint(3, 8) * 12
    return [
        f"{a} + {b}: both can be written in twelfths, {a * 12}/12 + {b * 12}/12 = "
        f"{(a + b) * 12}/12" + (f", which is {mixed(a + b)}." if f"{(a + b) * 12}/12" != mixed(a + b) else "."),
        (
            f"{c} × {d} = {c.numerator * d.numerator}/{c.denominator * d.denominator}, "
            f"and cancelling leaves {mixed(c * d)}. Dividing instead, turn the second "
            f"fraction over: {c} ÷ {d} = {c} × {1 / d} = {mixed(c / d)}."
        ),
        (
            f"Reduce {n}/{m}. Both are divisible by {g}; {n} ÷ {g} = {n // g} and "
            f"{m} ÷ {g} = {m // g}, so it is {n // g}/{m // g} in lowest terms."
        ),
        (
            f"{whole} and two thirds is {e.numerator} thirds. Take away five sixths: "
            f"{e.numerator * 2}/6 - 5/6 = {e.numerator * 2 - 5}/6 = "
            f"{mixed(e - Fraction(5, 6))}."
        ),
        (
            f"If three quarters of a cup of rice feeds four, then {words(guests)} people "
            f"need {guests}/4 as much: 3/4 × {guests}/4 = {3 * guests}/16 = "
            f"{mixed(need)} cups."
        ),
        (
            f"{p}/{q} = 0.{digits}{digits[:3]}... The block {digits} repeats for ever, "
            f"because after {len(digits)} steps of the long division a remainder comes "
            "back that was there before."
        ),
        f"{f} as a decimal is {short(f)}, and as a percentage {short(f * 100)}%.",
        (
            "Which is larger, 5/8 or 7/12? Over 24 they become 15/24 and 14/24, so it is "
            f"{bigger}, by one twenty-fourth."
        ),
        (
            f"A farmer leaves half of her {acres} acres to one child, a third to the "
            f"second and the rest to the village: {acres // 2}, {acres // 3} and "
            f"{acres - acres // 2 - acres // 3} acres. The village gets one sixth."
        ),
    ]


def tables(r: Random) -> list[str]:
    n = r.choice((7, 8, 12, 13))
    rows = "\n".join(f"{i:>2} × {n} = {i * n:>3}" for i in range(1, 11))
    towns = ("Aldby", "Corran", "Wick", "Senn")
    rain = {t: [r.randint(18, 96) for _ in range(3)] for t in towns}
    head = f"{'':<8}{'Jan':>5}{'Feb':>5}{'Mar':>5}{'sum':>6}"
    body = "\n".join(f"{t:<8}" + "".join(f"{v:>5}" for v in vs) + f"{sum(vs):>6}" for t, vs in rain.items())
    cols = [sum(vs[i] for vs in rain.values()) for i in range(3)]
    foot = f"{'all':<8}" + "".join(f"{v:>5}" for v in cols) + f"{sum(cols):>6}"
    wet = max(towns, key=lambda t: sum(rain[t]))
    marks = sorted(r.sample(range(41, 99), 7))
    powers = "\n".join(f"{k} | {k * k} | {k**3} | {k**4}" for k in range(2, 10))
    hours = {"Mon": 450, "Tue": 495, "Wed": 380, "Thu": 510, "Fri": 345}
    sheet = "\n".join(f"{k}  {v // 60}:{v % 60:02d}" for k, v in hours.items())
    week = sum(hours.values())
    rate = r.randint(14, 21) * 60
    bases = "\n".join(f"{v}: binary {v:b}, octal {v:o}, hexadecimal {v:X}" for v in r.sample(range(20, 250), 4))
    return [
        f"The table of {n}:\n{rows}",
        (
            f"Rainfall in millimetres\n{head}\n{body}\n{foot}\n"
            f"The wettest place was {wet} with {sum(rain[wet])} mm. The rows and the "
            f"columns both add up to {sum(cols)}."
        ),
        (
            f"Marks in order: {' '.join(map(str, marks))}. The median is the fourth, "
            f"{marks[3]}. The mean is {sum(marks)} / 7 = "
            f"{rounded(Fraction(sum(marks), 7), 2)}, and the range {marks[-1]} - "
            f"{marks[0]} = {marks[-1] - marks[0]}."
        ),
        f"number | square | cube | fourth power\n{powers}",
        (
            f"Hours worked\n{sheet}\nIn all {week} minutes, or {week // 60}:"
            f"{week % 60:02d}. At {money(rate)} an hour, {money(rate // 60)} a minute, "
            f"this earns {money(rate // 60 * week)}."
        ),
        f"The same numbers in other bases:\n{bases}",
    ]


def puzzles(r: Random) -> list[str]:
    x, k, m = r.randint(4, 15), r.randint(3, 8), r.randint(5, 30)
    hens, goats = r.randint(9, 20), r.randint(4, 8)
    heads, legs = hens + goats, 2 * hens + 4 * goats
    age, times_older = r.randint(7, 12), 4
    wait = (times_older - 2) * age
    u, v = r.choice(((60, 40), (80, 70), (50, 25)))
    dist = (u + v) * r.randint(2, 4)
    side, other = r.randint(6, 14), r.randint(15, 24)
    legs3 = r.choice(((9, 12), (8, 15), (20, 21), (12, 35)))
    hyp = isqrt(legs3[0] ** 2 + legs3[1] ** 2)
    people = r.randint(7, 15)
    pa, pb = 6, 3
    joint = Fraction(pa * pb, pa + pb)
    scale = r.choice((25000, 50000))
    cm = r.randint(4, 14)
    return [
        (
            f"I think of a number, multiply it by {k}, add {m}, and get {x * k + m}. "
            f"Undo the steps in reverse: {x * k + m} - {m} = {x * k}, and {x * k} ÷ {k} = "
            f"{x}."
        ),
        (
            f"Hens and goats in a yard: {heads} heads, {legs} legs. If all were hens there "
            f"would be {2 * heads} legs. The missing {legs - 2 * heads} belong to the "
            f"goats, two extra for each, so there are {goats} goats and {hens} hens."
        ),
        (
            f"A father is {age * times_older} and his daughter {age}. When will he be "
            f"twice as old as she is? In {wait} years: {age * times_older} + {wait} = "
            f"{age * times_older + wait}, {age} + {wait} = {age + wait}, and 2 × "
            f"{age + wait} = {2 * (age + wait)}."
        ),
        (
            f"Two delivery vans start {dist} km apart and drive towards each other at {u} "
            f"and {v} km/h. The gap shrinks by {u + v} km each hour and is gone after "
            f"{dist // (u + v)} hours, {u * dist // (u + v)} km from where the first began."
        ),
        (
            f"A rectangle {side} m by {other} m has a perimeter of {2 * (side + other)} m "
            f"and an area of {side * other} m². Adding one metre to both sides adds "
            f"{side + other + 1} m² to the area."
        ),
        (
            f"Right triangle, short sides {legs3[0]} and {legs3[1]}. Squares: "
            f"{legs3[0] ** 2} + {legs3[1] ** 2} = {hyp * hyp}. Root: {hyp}."
        ),
        (
            f"{cap(words(people))} people clink glasses, each with each. Every one of them "
            f"does it {people - 1} times, but that counts each clink twice: {people} × "
            f"{people - 1} / 2 = {people * (people - 1) // 2}."
        ),
        (
            f"One pump empties the cellar in {pa} hours, another in {pb}. Per hour they "
            f"manage 1/{pa} and 1/{pb}, together {1 / joint}, so with both running it "
            f"takes {mixed(joint)} hours."
        ),
        (
            f"On a map of 1:{scale:,} two chapels lie {cm} cm apart. In the field that is "
            f"{cm} × {scale:,} = {cm * scale:,} cm, or "
            f"{short(Fraction(cm * scale, 100000))} km."
        ),
    ]


def chance(r: Random) -> list[str]:
    red, blue = r.randint(3, 7), r.randint(4, 9)
    n = red + blue
    both = Fraction(red, n) * Fraction(red - 1, n - 1)
    s = r.randint(4, 10)
    pairs = [(i, s - i) for i in range(1, 7) if 1 <= s - i <= 6]
    flips = r.randint(3, 6)
    k = r.randint(4, 6)
    fact = 1
    for i in range(2, k + 1):
        fact *= i
    return [
        f"A bag holds {red} red and {blue} blue marbles. The chance that two drawn "
        f"blindly are both red is {red}/{n} × {red - 1}/{n - 1} = "
        f"{red * (red - 1)}/{n * (n - 1)}"
        + ("" if both.denominator == n * (n - 1) else f" = {both}")
        + f", about {rounded(both * 100, 1)} in a hundred.",
        (f"Throwing {s} with two dice: {', '.join(f'{i}+{j}' for i, j in pairs)}. That is {len(pairs)} of 36 ways."),
        (
            f"No heads at all in {flips} fair tosses has a probability of (1/2)^{flips} = "
            f"1/{2**flips}; at least one head therefore has {2**flips - 1}/{2**flips}."
        ),
        (
            f"In how many orders can {words(k)} books stand on a shelf? "
            f"{' × '.join(str(i) for i in range(k, 0, -1))} = {fact}."
        ),
    ]


def roots_and_powers(r: Random) -> list[str]:
    n = r.choice((19, 29, 45, 53, 71, 90))
    low = isqrt(n)
    guess = Fraction(2 * low + 1, 2)
    better = (guess + Fraction(n) / guess) / 2
    a, b = r.randint(3, 6), r.randint(2, 4)
    sci = r.randint(11, 98)
    neg = r.randint(3, 9)
    dec1, dec2 = Fraction(r.randint(11, 49), 10), Fraction(r.randint(101, 499), 100)
    rnd = Fraction(r.randint(31415, 98765), 10000)
    return [
        (
            f"The square root of {n} lies between {low} and {low + 1}, for {low}² = "
            f"{low * low} and {low + 1}² = {(low + 1) ** 2}. Try {short(guess)}: {n} / "
            f"{short(guess)} is {rounded(Fraction(n) / guess, 4)}, and the mean of the two "
            f"is {rounded(better, 4)}. Squared, that is {rounded(better * better, 3)}, "
            "good enough for most purposes."
        ),
        (f"10^{a} × 10^{b} = 10^{a + b}, a one with {words(a + b)} zeros: {10 ** (a + b):,}."),
        (
            f"{sci},000,000 in scientific notation is "
            f"{short(Fraction(sci, 10))} × 10^7; {sci} thousandths is "
            f"{short(Fraction(sci, 1000))} = {short(Fraction(sci, 10))} × 10^-2."
        ),
        (f"(-{neg})² = {neg * neg}, but (-{neg})³ = -{neg**3}. An even power loses the sign and an odd one keeps it."),
        (
            f"{short(dec1)} × {short(dec2)}: leave out the points, {int(dec1 * 10)} × "
            f"{int(dec2 * 100)} = {int(dec1 * 10) * int(dec2 * 100)}; then set off three "
            f"places, counting any final zero: {rounded(dec1 * dec2, 3)}."
        ),
        (
            f"{short(rnd)} rounded to three decimals is {rounded(rnd, 3)}, to two "
            f"{rounded(rnd, 2)}, to one {rounded(rnd, 1)}, and to the nearest whole number "
            f"{rounded(rnd, 0)}."
        ),
    ]


SECTIONS: tuple[Callable[[Random], list[str]], ...] = (
    additions,
    subtractions,
    products,
    divisions,
    shopping,
    percentages,
    interest,
    units,
    times,
    sequences,
    fraction_sums,
    tables,
    puzzles,
    chance,
    roots_and_powers,
)


def build() -> str:
    """Return the whole text, its paragraphs in a fixed random order."""
    r = Random(SEED)
    paragraphs = [text for section in SECTIONS for text in section(r)]
    r.shuffle(paragraphs)
    return "\n\n".join(paragraphs) + "\n"


def main() -> None:
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(build().encode("utf-8"))


if __name__ == "__main__":
    main()
