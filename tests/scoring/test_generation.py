# SPDX-License-Identifier: Apache-2.0
"""Answers end where a look at their whole text after every token would end them, alone and side by side."""

import random
from types import SimpleNamespace

import pytest

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance

from bench.engines.contract import NotFinite
from bench.scoring import generation
from bench.scoring.generation import MARGIN, Growing, changed_alone
from bench.scoring.journal import Journal
from bench.scoring.lm import EngineLM

END = 0
PIECES = ["", "a", "b", "ab", "ba", "\n", "\n\n", "aa\nb", "é", " b"]
"""Text by token: pieces that stop strings span, begin inside and contain."""


def decode(tokens):
    """Text of the tokens."""
    return "".join(PIECES[token] for token in tokens)


def grown(tokens, stops, limit=500):
    """An answer that hears these tokens until it wants no more."""
    answer = Growing(decode=decode, end_tokens=frozenset({END}), stops=stops, limit=limit)
    for token in tokens:
        if not answer.take(token):
            break
    return answer


@pytest.mark.parametrize(
    ("tokens", "stop", "text", "count"),
    [
        ([1, 5, 5, 1], "\n\n", "a", 3),
        ([1, 7, 1], "a\n", "aa", 2),
        ([3, 4, 1], "bb", "a", 2),
        ([2] * 40 + [5, 5], "\n\n", "b" * 40, 42),
        ([2] * 40 + [1, 6, 9], "\n\n b", "b" * 40 + "a", 43),
    ],
    ids=["spans two tokens", "begins inside one", "ends inside one", "far behind", "three tokens, far behind"],
)
def test_a_stop_string_ends_an_answer_wherever_its_tokens_are_cut(tokens, stop, text, count):
    """The text before it is the answer; the tokens that hold it count."""
    answer = grown(tokens, [stop])
    found, kept = answer.result()
    assert (found, kept.tokens, kept.cut) == (text, count, False)


@pytest.mark.parametrize("seed", range(40))
def test_looking_at_the_end_alone_finds_what_the_whole_text_tells(seed):
    """Random answers of up to 200 tokens and random stops."""
    rng = random.Random(seed)
    tokens = [rng.choice((1, 2, 3, 4, 8, 8, 9) if rng.random() < 0.97 else (5, 6, 7)) for _ in range(200)]
    stops = [rng.choice(("\n\n", "\nb", "a\nb a", "éaé b", "bbbbbb")) for _ in range(2)]
    wanted = next((n for n in range(1, 201) if any(stop in decode(tokens[:n]) for stop in stops)), 200)
    assert len(grown(tokens, stops).tokens) == wanted


def test_only_the_end_of_a_long_answer_is_decoded():
    """Of 300 tokens, none of them a stop, no more than the window at once until the end."""
    lengths = []
    answer = Growing(
        decode=lambda tokens: lengths.append(len(tokens)) or decode(tokens), end_tokens=frozenset(), stops=["\n\n"],
        limit=300,
    )  # fmt: skip
    while answer.take(1):
        pass
    assert (max(lengths), len(answer.tokens), answer.ended) == (2 + MARGIN, 300, False)
    assert answer.result()[1].cut


class Together:
    """An engine that hands out scripted answers side by side, a token of each in turn."""

    generates_together = 4
    context_length, end_tokens, prefix_token, vocabulary = 1000, frozenset({END}), 3, 10

    def __init__(self, scripts):
        self.scripts, self.asked, self.provenance = scripts, [], SimpleNamespace(source="scripted")

    def encode(self, text, *, special=False):
        """Digits are tokens, other letters none."""
        return [int(letter) for letter in text if letter.isdigit()]

    def decode(self, tokens):
        """Text of the tokens."""
        return decode(tokens)

    def generate(self, asked, take):
        """A token of each until nobody wants more; a script's None is NaN, its exception is raised."""
        self.asked += [one.tokens for one in asked]
        running, at = list(range(len(asked))), 0
        while running:
            for index in list(running):
                token = self.scripts[asked[index].tokens][at]
                if isinstance(token, BaseException):
                    raise token
                if not take(index, token):
                    running.remove(index)
            at += 1


def ask(text, item):
    """A request of one item."""
    return Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 4}), 0, metadata=("task", item, 1))


def made(scripts, folder):
    """An lm-eval model over scripted answers."""
    engine = Together(scripts)
    return engine, EngineLM(engine, 100, lambda finished, total: None, journal=Journal(folder))


SCRIPTS = {(1,): [1, 0], (2,): [2, 2, 2, 2, 2], (3,): [1, 2, 5], (4, 4): [4, 0]}


def test_answers_come_back_in_the_order_they_were_asked(tmp_path):
    """Whichever ended first; an empty prompt is the beginning token, and one asked twice is answered twice."""
    engine, lm = made(SCRIPTS, tmp_path)
    texts = lm.generate_until([ask(text, item) for item, text in enumerate(["2", "", "1", "44", "1"])])
    assert texts == ["bbbb", "ab", "a", "ba", "a"]
    assert [lm.answers[("task", item)].cut for item in range(5)] == [True, False, False, False, False]
    assert engine.asked[1] == (3,)


def test_logits_that_are_no_numbers_name_their_item_and_the_others_are_kept(tmp_path):
    """The next attempt asks for that answer alone."""
    requests = [ask(text, item) for item, text in enumerate(["1", "2", "44"])]
    _, lm = made(SCRIPTS | {(2,): [2, None]}, tmp_path)
    with pytest.raises(NotFinite, match=r"^NaN or infinite logits: task task, item 1, token 2 of its answer$"):
        lm.generate_until(requests)
    engine, lm = made(SCRIPTS, tmp_path)
    assert lm.generate_until(requests) == ["a", "bbbb", "ba"]
    assert engine.asked == [(2,)]


def test_an_interruption_keeps_the_answers_that_had_ended(tmp_path):
    """Whatever stood beside them."""
    requests = [ask(text, item) for item, text in enumerate(["1", "2", "44"])]
    _, lm = made(SCRIPTS | {(2,): [2, 2, KeyboardInterrupt()]}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lm.generate_until(requests)
    engine, lm = made(SCRIPTS, tmp_path)
    assert lm.generate_until(requests) == ["a", "bbbb", "ba"]
    assert engine.asked == [(2,)]


class Alone(Together):
    """Generates some answers otherwise by themselves than beside others."""

    def __init__(self, scripts, alone):
        super().__init__(scripts)
        self.alone, self.began = alone, []

    def prefill(self, prompts):
        """The answer to one prompt by itself."""
        (prompt,) = prompts
        self.began.append(tuple(prompt))
        tokens = iter((self.scripts | self.alone)[tuple(prompt)])
        return SimpleNamespace(step=lambda: [next(tokens)], finite=True, close=lambda: None)


def changed(engine, asked, folder):
    """Which of the first answers have another text when they are generated by themselves."""
    lm = EngineLM(engine, 100, lambda finished, total: None, journal=Journal(folder))
    requests = [ask(text, item) for item, text in enumerate(asked)]
    for request, text in zip(requests, lm.generate_until(requests), strict=True):
        request.resps.append(text)
    return changed_alone(lm, requests, [lm.answers["task", item].tokens for item in range(len(asked))])


def test_answers_that_a_batch_changes_are_counted(tmp_path):
    """One of three; tokens behind the end or the stop change nothing."""
    engine = Alone(SCRIPTS, {(2,): [2, 2, 1, 2, 2], (3,): [1, 2, 7]})
    assert changed(engine, ["1", "2", "3"], tmp_path) == [False, True, True]
    assert changed(Alone(SCRIPTS, {(3,): [3, 5]}), ["1", "2", "3"], tmp_path) == [False, False, False]


def test_few_answers_are_generated_once_more(tmp_path, monkeypatch):
    """The first that begin within so many tokens, and no more than so many; none where nothing stood side by side."""
    engine = Alone(SCRIPTS, {})
    monkeypatch.setattr(generation, "ALONE_TOKENS", 5)
    assert changed(engine, ["2", "1", "2", "1"], tmp_path / "a") == [False, False]
    monkeypatch.setattr(generation, "ALONE", 1)
    assert changed(engine, ["2", "1", "2", "1"], tmp_path / "a") == [False]
    assert engine.began == [(2,), (1,), (2,)]
    engine.generates_together = 1
    assert changed(engine, ["1"], tmp_path / "b") == []
