# SPDX-License-Identifier: Apache-2.0
"""Minimal pairs: one well-formed English sentence against one that breaks a rule.

Why pairs: the two sentences differ in one word, in the order of the same words,
or in one form, so the only thing that can make the first likelier is the rule.
Each phenomenon has frames of its own and word lists that fit them, so that the
well-formed sentence is also a sensible one; words are dealt from shuffled lists
so that no list is used twice before all of it was used once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Item = tuple[str, str, list[str]]
Pair = tuple[str, str]
"""The well-formed sentence and the other one."""


def words(text: str, between: str | None = None) -> list[str]:
    """A word list written as one string, to keep the long lists readable."""
    return text.split(between)


PER_GROUP = 20
WOMEN = words("Anna Maria Laura Nina Emma Julia Clara Eva Rosa Lucy Diana Helen Jane Kate")
MEN = words("Ben Carl David Eric Frank Henry Jack Kevin Leo Mark Oscar Paul Tom Victor")
PEOPLE = words(
    "baker driver teacher farmer doctor student singer painter nurse neighbor guard sailor "
    "lawyer dancer cook visitor worker child=children woman=women man=men pilot tailor writer "
    "player gardener judge plumber soldier waiter girl boy"
)
FEMALE = words("my aunt/the queen/my sister/the princess/the actress/my mother/the girl/the widow", "/")
MALE = words("my uncle/the king/my brother/the prince/the boy/my father/the monk/the waiter", "/")
HABITS = words(
    "sing=sings in the choir/work=works at night/live=lives near the river/"
    "swim=swims in the lake/drive=drives to town/sleep=sleeps until noon/"
    "walk=walks to work/sit=sits by the window/speak=speaks too loudly/dance=dances very well/"
    "eat=eats at home/laugh=laughs all day/travel=travels by train/run=runs in the park/"
    "cook=cooks on Sundays/play=plays the piano/write=writes long letters/sell=sells old books/"
    "wear=wears a green coat/drink=drinks black tea",
    "/",
)
PLACED = words(
    "cup=on the shelf/knife=knives in the drawer/shoe=under the bed/letter=on the desk/"
    "box=boxes in the attic/apple=in the basket/chair=in the garden/coin=in the jar/"
    "dog=behind the house/horse=in the barn/boat=near the bridge/bird=on the roof/"
    "ticket=in the envelope/leaf=leaves on the ground/towel=in the bathroom/"
    "candle=on the table/ladder=against the wall/glass=glasses in the sink/"
    "sheepdog=in the field/bus=buses at the station",
    "/",
)
ATTRACT = words(
    "key=keys to the/cabinet=cabinets/rusty;label=labels on the/bottle=bottles/torn;"
    "picture=pictures of the/castle=castles/beautiful;door=doors of the/shed=sheds/green;"
    "road=roads to the/village=villages/narrow;book=books about the/planet=planets/interesting;"
    "toy=toys near the/pillow=pillows/broken;roof=roofs of the/cottage=cottages/red;"
    "letter=letters from the/lawyer=lawyers/short;garden=gardens behind the/house=houses/small;"
    "handle=handles of the/drawer=drawers/loose;price=prices of the/ticket=tickets/too high;"
    "tree=trees beside the/barn=barns/very old;lamp=lamps above the/table=tables/bright;"
    "gift=gifts for the/guest=guests/expensive;wheel=wheels of the/cart=carts/heavy;"
    "story=stories about the/pirate=pirates/funny;path=paths along the/river=rivers/muddy;"
    "cover=covers of the/magazine=magazines/colorful;bridge=bridges near the/farm=farms/wooden",
    ";",
)
KNOWS = words("know help trust like visit thank admire avoid follow miss")
MOODS = words("tired happy hungry nervous famous busy sick angry clever rich lonely polite")
BOUGHT = words(
    "bought/lamp/new;washed/plate/dirty;painted/fence/wooden;sold/chair/old;"
    "opened/box=boxes/heavy;fixed/clock/broken;carried/bag/large;cleaned/window/small;"
    "found/coin/shiny;borrowed/book/thick;kept/letter/secret;lost/button/golden;"
    "made/basket/round;drew/map/detailed;peeled/potato=potatoes/big;picked/flower/yellow;"
    "sent/card/funny;moved/table/narrow;used/knife=knives/sharp;tested/engine/noisy",
    ";",
)
SELVES = words(
    "hurt * with a knife/saw * in the mirror/blamed * for the mistake/"
    "introduced * to the guests/locked * in the cellar/dried * with a towel/"
    "taught * to swim/prepared * for the trip/reminded * to lock up/washed * in the river/"
    "burned * on the stove/wrapped * in a blanket/cut * on the glass/called * lucky",
    "/",
)
IRREGULAR = words(
    "broke=broken the window/wrote=written a letter/ate=eaten the soup/took=taken the bus/"
    "gave=given a speech/drove=driven the van/chose=chosen a card/stole=stolen the money/"
    "threw=thrown the ball/wore=worn a coat/tore=torn the page/sang=sung a song/"
    "began=begun the lesson/rode=ridden a pony/spoke=spoken the truth/knew=known the answer/"
    "grew=grown roses/drew=drawn a map/saw=seen the moon/blew=blown out the candle/"
    "froze=frozen the meat/flew=flown a kite/shook=shaken the bottle/drank=drunk the milk/"
    "swam=swum across the lake/went=gone to bed/did=done the work/came=come back home/"
    "fell=fallen off the horse/woke=woken the baby",
    "/",
)
NO_OBJECT = words("arrived slept sneezed yawned vanished existed disappeared snored coughed appeared died")
LIKES_ING = words("enjoys avoids dislikes finished suggested misses admitted denied")
WANTS_TO = words("hopes decided agreed promised wants managed hesitated")
ACTS = words(
    "sell=selling the car/cook=cooking the meal/leave=leaving the city/write=writing poems/"
    "clean=cleaning the house/paint=painting the wall/visit=visiting the zoo/"
    "drive=driving the bus/read=reading the news/wash=washing the dog/study=studying French/"
    "teach=teaching children/play=playing chess/fix=fixing old clocks/feed=feeding the birds",
    "/",
)
EVER = words(
    "seen a whale/climbed a volcano/flown a plane/won a prize/met a king/driven a tractor/"
    "been to Rome/worn a tie/played chess/eaten a mango/written a poem/ridden a camel/"
    "lived abroad/failed a test/broken a bone/owned a boat/heard this song/left the island",
    "/",
)
HELD = words(
    "found/key;bought/lamp;made/cake;took/money;owned/house;brought/wine;wanted/car;"
    "carried/box;fixed/radio;used/hammer;kept/ring;mentioned/problem;described/accident",
    ";",
)
LEARNS = words("knows remembers heard learned noticed forgot guessed discovered")
BEFORE = words(
    "sell/sold/leave town/left town;eat/ate/go home/went home;buy/bought/get married/got married;"
    "read/read/fall asleep/fell asleep;clean/cleaned/go out/went out;"
    "hide/hid/leave school/left school;pack/packed/move away/moved away",
    ";",
)
COUNTED = words("apples lemons candles plates pencils stamps eggs nails towels buttons chairs")
MASS = words("rice milk flour sand butter glue salt honey soap bread oil water sugar")
SHOPPING = words("bought sold needed brought found ordered stored used")
DEALT = words("helped thanked followed invited visited called met warned trusted watched")
WHEN = words("yesterday/last night/on Monday/this morning/last week/after school/in town/at the party", "/")
CASES = ("I=me", "we=us", "he=him", "she=her", "they=them")
THAN = words(
    "truck/car/heavy/heavier;river/pond/deep/deeper;castle/cottage/big/bigger;"
    "horse/dog/fast/faster;summer/spring/warm/warmer;lake/pool/cold/colder;"
    "tower/house/tall/taller;rope/ribbon/strong/stronger;knife/spoon/sharp/sharper;"
    "sofa/bench/soft/softer;highway/path/wide/wider;lion/fox/large/larger;"
    "road/street/long/longer;hotel/cabin/clean/cleaner;lamp/candle/bright/brighter;"
    "kitchen/cellar/dry/drier;pear/lemon/sweet/sweeter;bicycle/scooter/cheap/cheaper",
    ";",
)
VOWEL = words("apple engine island umbrella orange onion elephant oven airport artist egg actor uncle insect office")
CONSONANT = words("table bottle garden letter doctor pencil mountain bridge lemon ticket castle")
SIGHTED = words("saw found drew needed wanted described mentioned painted remembered")
TRAITS = words(
    "red coat/long rope/warm blanket/small dog/quiet room/cheap watch/dark room/young cat/"
    "wooden spoon/sharp knife/blue scarf/heavy bag/clean towel/large house/soft pillow",
    "/",
)
MADE = words("buy find build draw sell steal cook paint carry fix")
OWNED = words("car bike house boat picture")
TAKEN = words("paint sell find fix draw")
GOING = words("go sleep work eat sit stop swim")
ASKING = words("Where When Why")


class Source:
    """Deals words so that a whole list is used before any word returns."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.turn = 0
        self.piles: dict[int, list[str]] = {}

    def one(self, words: Sequence[str]) -> str:
        """The next word of the list."""
        pile = self.piles.setdefault(id(words), [])
        if not pile:
            pile[:] = self.rng.sample(words, len(words))
        return pile.pop()

    def way(self, count: int) -> int:
        """Which of several variants is next; they take turns."""
        return self.turn % count

    def person(self) -> Pair:
        """A noun for a person, singular and plural."""
        return forms(self.one(PEOPLE))

    def name(self) -> str:
        """A first name."""
        return self.one(WOMEN if self.rng.random() < 0.5 else MEN)


def forms(word: str) -> Pair:
    """Singular and plural: ``man=men`` says both, ``cup`` takes an s."""
    one, _, many = word.partition("=")
    return one, many or one + "s"


def swap(frame: str, good: str, bad: str) -> Pair:
    """The frame with the right and with the wrong word for its star."""
    made = [frame.replace("*", word) for word in (good, bad)]
    return made[0][0].upper() + made[0][1:], made[1][0].upper() + made[1][1:]


def agreement(s: Source) -> Pair:
    """The baker sings / sing."""
    noun, habit = s.person(), s.one(HABITS)
    verbs, _, rest = habit.partition(" ")
    many, one = verbs.split("=")
    if s.way(2):
        return swap(f"The {noun[1]} * {rest}.", many, one)
    return swap(f"The {noun[0]} * {rest}.", one, many)


def agreement_be(s: Source) -> Pair:
    """The cups are / is on the shelf."""
    noun, place = s.one(PLACED).split("=")
    words = place.split(" ")
    one, many = noun, noun + "s"
    if words[0] not in ("on", "in", "under", "behind", "near", "against", "at"):
        many, place = words[0], " ".join(words[1:])
    verbs = (("is", "are"), ("was", "were"))[s.way(4) // 2]
    if s.way(2):
        return swap(f"The {many} * {place}.", verbs[1], verbs[0])
    return swap(f"The {one} * {place}.", verbs[0], verbs[1])


def agreement_attractor(s: Source) -> Pair:
    """The key to the cabinets is / are rusty."""
    head, other, trait = s.one(ATTRACT).split("/")
    one, rest = head.split("=")
    many, link = rest.split(" ", 1)
    near = forms(other)
    if s.way(2):
        return swap(f"The {many} {link} {near[0]} * {trait}.", "are", "is")
    return swap(f"The {one} {link} {near[1]} * {trait}.", "is", "are")


def agreement_relative(s: Source) -> Pair:
    """The boys who know the cook are / is happy."""
    one, two, verb, mood = s.person(), s.person(), s.one(KNOWS), s.one(MOODS)
    third = verb + ("es" if verb.endswith("ss") else "s")
    if s.way(2):
        return swap(f"The {one[1]} who {verb} the {two[0]} * {mood}.", "are", "is")
    return swap(f"The {one[0]} who {third} the {two[1]} * {mood}.", "is", "are")


def determiner_noun(s: Source) -> Pair:
    """Anna bought these lamps / lamp."""
    verb, noun, _ = s.one(BOUGHT).split("/")
    one, many = forms(noun)
    near = s.way(4) < 2
    if s.way(2):
        return swap(f"{s.name()} {verb} {'these' if near else 'those'} *.", many, one)
    return swap(f"{s.name()} {verb} {'this' if near else 'that'} *.", one, many)


def determiner_adjective(s: Source) -> Pair:
    """The cook sold this / these old chair."""
    verb, noun, trait = s.one(BOUGHT).split("/")
    one, many = forms(noun)
    this, these = (("this", "these"), ("that", "those"))[s.way(4) // 2]
    if s.way(2):
        return swap(f"The {s.person()[0]} {verb} * {trait} {many}.", these, this)
    return swap(f"The {s.person()[0]} {verb} * {trait} {one}.", this, these)


def anaphor_number(s: Source) -> Pair:
    """The boys hurt themselves / himself."""
    act = s.one(SELVES)
    if s.way(3) == 0:
        return swap(f"{s.one(FEMALE)} {act}.", "herself", "themselves")
    if s.way(3) == 1:
        return swap(f"{s.one(MALE)} {act}.", "himself", "themselves")
    return swap(f"The {s.person()[1]} {act}.", "themselves", s.rng.choice(("himself", "herself")))


def anaphor_gender(s: Source) -> Pair:
    """My uncle blamed himself / herself."""
    act = s.one(SELVES)
    if s.way(2):
        return swap(f"{s.one(FEMALE)} {act}.", "herself", "himself")
    return swap(f"{s.one(MALE)} {act}.", "himself", "herself")


def irregular_past(s: Source) -> Pair:
    """The boy broke / broken the window; has broken / broke."""
    verbs, rest = s.one(IRREGULAR).split(" ", 1)
    past, done = verbs.split("=")
    noun = s.person()[0]
    if s.way(2):
        return swap(f"The {noun} has * {rest}.", done, past)
    return swap(f"The {noun} * {rest}.", past, done)


def argument_structure(s: Source) -> Pair:
    """The cook washed / arrived the plates."""
    verb, noun, trait = s.one(BOUGHT).split("/")
    return swap(f"The {s.person()[0]} * the {trait} {forms(noun)[1]}.", verb, s.one(NO_OBJECT))


def verb_complement(s: Source) -> Pair:
    """The cook enjoys reading / to read."""
    verbs, rest = s.one(ACTS).split(" ", 1)
    plain, ing = verbs.split("=")
    if s.way(2):
        return swap(f"{s.name()} {s.one(LIKES_ING)} * {rest}.", ing, "to " + plain)
    return swap(f"{s.name()} {s.one(WANTS_TO)} * {rest}.", "to " + plain, ing)


def npi_licensing(s: Source) -> Pair:
    """No / Some sailor has ever seen a whale."""
    done, noun = s.one(EVER), s.person()
    frames = (
        (f"* {noun[0]} has ever {done}.", "No", "Some"),
        (f"* {noun[1]} have ever {done}.", "Few", "Many"),
        (f"* has ever {done}.", "Nobody", "Somebody"),
        (f"* of the {noun[1]} have ever {done}.", "None", "Some"),
        (f"The {noun[0]} has * bought any {s.one(MASS)}.", "not", "just"),
    )
    return swap(*frames[s.way(5)])


def filler_gap(s: Source) -> Pair:
    """Anna knows what / that the cook found."""
    verb, thing = s.one(HELD).split("/")
    start = f"{s.name()} {s.one(LEARNS)} * the {s.person()[0]} {verb}"
    if s.way(2):
        return swap(f"{start}.", "what", "that")
    return swap(f"{start} the {thing}.", "that", "what")


def wh_islands(s: Source) -> Pair:
    """What did Tom and Anna buy / Tom buy and Anna; and other islands."""
    tom, ann = s.one(MEN), s.one(WOMEN)
    if s.way(2):
        do, did, leave, left = s.one(BEFORE).split("/")
        good = f"What did {tom} {do} before {ann} {left}?"
        return good, f"What did {tom} {leave} before {ann} {did}?"
    verb = s.one(MADE)
    if s.way(4):
        return f"What did {tom} and {ann} {verb}?", f"What did {tom} {verb} and {ann}?"
    thing = s.one(OWNED)
    steal = s.one(TAKEN)
    return f"Whose {thing} did {tom} {steal}?", f"Whose did {tom} {steal} {thing}?"


def negation(s: Source) -> Pair:
    """The boy did not eat / ate; has not eaten / not has eaten; does not / do not."""
    noun = s.person()
    if s.way(3) == 0:
        verbs, _, rest = s.one(HABITS).partition(" ")
        return swap(f"The {noun[0]} does not * {rest}.", *verbs.split("="))
    if s.way(3) == 1:
        return swap(f"The {noun[0]} * {s.one(EVER)}.", "has not", "not has")
    verbs, _, rest = s.one(HABITS).partition(" ")
    return swap(f"The {noun[1]} * {verbs.split('=')[0]} {rest}.", "do not", "does not")


def quantifiers(s: Source) -> Pair:
    """Too many / much cups, a few / a little, every baker / bakers."""
    count, mass, name, verb = s.one(COUNTED), s.one(MASS), s.name(), s.one(SHOPPING)
    noun, habit = s.person(), s.one(HABITS)
    one = habit.split("=")[1]
    frames = (
        (f"{name} {verb} too * {count}.", "many", "much"),
        (f"{name} {verb} too * {mass}.", "much", "many"),
        (f"{name} {verb} * {count}.", "a few", "a little"),
        (f"{name} {verb} * {mass}.", "a little", "a few"),
        (f"Every * {one}.", noun[0], noun[1]),
        (f"{name} {verb} several *.", count, count[:-1]),
    )
    return swap(*frames[s.way(6)])


def pronoun_case(s: Source) -> Pair:
    """The cook helped us / we; they / them helped the cook."""
    subject, other = s.one(CASES).split("=")
    noun, verb, when = s.rng.choice(s.person()), s.one(DEALT), s.one(WHEN)
    if s.way(2):
        return swap(f"* {verb} the {noun} {when}.", subject, other)
    return swap(f"The {noun} {verb} * {when}.", other, subject)


def comparison(s: Source) -> Pair:
    """The truck is heavier / heavy than the car."""
    one, two, plain, more = s.one(THAN).split("/")
    if s.way(2):
        return swap(f"The {two} is not as * as the {one}.", plain, more)
    return swap(f"The {one} is * than the {two}.", more, plain)


def articles(s: Source) -> Pair:
    """An / a apple."""
    start = f"The {s.person()[0]} {s.one(SIGHTED)} *"
    if s.way(2):
        return swap(f"{start} {s.one(VOWEL)}.", "an", "a")
    return swap(f"{start} {s.one(CONSONANT)}.", "a", "an")


def word_order(s: Source) -> Pair:
    """The red coat / the coat red; where did he go / he did go."""
    name = s.name()
    if s.way(2):
        trait, thing = s.one(TRAITS).split(" ")
        return swap(f"The * belongs to {name}.", f"{trait} {thing}", f"{thing} {trait}")
    noun, verb = s.person()[0], s.one(GOING)
    ask = s.one(ASKING)
    return swap(f"{ask} * {verb}?", f"did the {noun}", f"the {noun} did")


PHENOMENA: tuple[Callable[[Source], Pair], ...] = (
    agreement, agreement_be, agreement_attractor, agreement_relative, determiner_noun,
    determiner_adjective, anaphor_number, anaphor_gender, irregular_past, argument_structure,
    verb_complement, npi_licensing, filler_gap, wh_islands, negation, quantifiers, pronoun_case,
    comparison, articles, word_order,
)  # fmt: skip


def build(rng: random.Random) -> list[Item]:
    """All phenomena, equally many pairs each, none twice."""
    items: list[Item] = []
    for phenomenon in PHENOMENA:
        source = Source(rng)
        seen: set[Pair] = set()
        while len(seen) < PER_GROUP:
            pair = phenomenon(source)
            source.turn += 1
            if pair not in seen and len(set(pair)) == 2:
                seen.add(pair)
                items.append((phenomenon.__name__, "", list(pair)))
    return items
