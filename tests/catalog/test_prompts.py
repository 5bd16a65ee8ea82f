# SPDX-License-Identifier: Apache-2.0
"""The frames of fine-tuned models, word for word where their projects print them, and their use around answers."""

from __future__ import annotations

import pytest

from bench.catalog.entries import read_catalog
from bench.catalog.prompts import TEMPLATES, template
from bench.errors import UserError

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay hello.\n\n### Response:"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alpaca", ALPACA + "\n"),
        ("alpaca-short", ALPACA),
        ("dolly", ALPACA + "\n"),
        ("chinese-alpaca", ALPACA.replace(":\nSay", ":\n\nSay") + "\n\n"),
        ("belle", "Human: Say hello.\n\nAssistant:"),
        ("koala", "BEGINNING OF CONVERSATION: USER: Say hello. GPT:"),
        ("chatglm", "Say hello."),
        ("gpt4all", "Say hello.\n"),
        ("instruct-gpt-j", "Say hello.\n"),
        ("firefly", "<s>Say hello.</s></s>"),
        ("stackllama", "Question: Say hello.\n\nAnswer: "),
        (
            "vicuna-v1.1",
            (
                "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
                "detailed, and polite answers to the user's questions. USER: Say hello. ASSISTANT:"
            ),
        ),
        (
            "vicuna-v0",
            (
                "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
                "detailed, and polite answers to the human's questions.\n\n### Human: Say hello.\n### Assistant:"
            ),
        ),
    ],
)
def test_a_question_is_framed_as_the_project_frames_it(name: str, expected: str) -> None:
    """Down to the last newline, or its absence."""
    assert template(name).render("Say hello.") == expected


def test_a_text_to_work_on_has_its_place_or_follows_the_question() -> None:
    """Alpaca has a frame of its own for it, Dolly another, BELLE none."""
    assert "paired with an input" in template("alpaca").render("Sum up.", "A long text.")
    assert template("alpaca").render("Sum up.", "A text.").endswith("### Input:\nA text.\n\n### Response:\n")
    assert "\n\nInput:\nA text.\n\n" in template("dolly").render("Sum up.", "A text.")
    assert template("belle").render("Sum up.", "A text.") == "Human: Sum up.\nA text.\n\nAssistant:"


def test_braces_in_a_question_are_left_alone() -> None:
    """Code is asked about as it stands."""
    assert template("belle").render("What is {x}?") == "Human: What is {x}?\n\nAssistant:"


def test_every_template_asks_once_and_an_unknown_one_names_the_others() -> None:
    """Each has one place for the question."""
    assert [name for name, found in TEMPLATES.items() if found.text.count("{instruction}") != 1] == []
    with pytest.raises(UserError, match="no prompt template 'nobody'; one of: alpaca, "):
        template("nobody")


def test_every_template_of_the_catalogue_exists() -> None:
    """An entry cannot name one that is not here."""
    assert {model.template for model in read_catalog() if model.template} <= set(TEMPLATES)


def test_generated_answers_are_asked_for_in_the_template_and_cut_at_its_stops() -> None:
    """The prompt reaches the engine framed; the next turn's opening ends the answer."""
    lm = pytest.importorskip("bench.scoring.lm")
    from lm_eval.api.instance import Instance

    seen = []

    class Echo:
        """Answers with fixed bytes."""

        context_length, end_tokens, prefix_token = 1000, frozenset({0}), 0

        def __init__(self) -> None:
            self.left = list(b"42\n### Instruction:\nmore")

        def encode(self, text: str, *, special: bool = False) -> list[int]:
            seen.append(text)
            return list(text.encode())

        def decode(self, tokens: list[int]) -> str:
            return bytes(tokens).decode()

        def prefill(self, prompts: list[list[int]]) -> Echo:
            return self

        def step(self) -> list[int]:
            return [self.left.pop(0)]

        finite = True

        def close(self) -> None:
            pass

    asked = lm.Frame(template="alpaca-short")
    asker = lm.EngineLM(Echo(), 500, lambda done, total: None, asked)
    request = Instance("generate_until", {}, ("Say hello.", {"until": ["\n\n"]}), 0, metadata=("task", 0, 1))
    assert asker.generate_until([request]) == ["42\n"]
    assert (seen[-1], asker.answers[("task", 0)].cut, asker.truncated) == (ALPACA, False, set())
