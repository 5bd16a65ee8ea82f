# SPDX-License-Identifier: Apache-2.0
"""Speed of a served model from known streams: thinking counts as what it is, and a count that cannot be is not used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from builders import make_cell, make_record

from bench.engines.contract import Reply, Stopped
from bench.judge.figures import figures
from bench.records.record import Provenance
from bench.suite import TextRun
from suites.served import throughput

GAP_S = 0.02
WORD = "word "


@dataclass
class Scripted:
    """Answers as they are given, then a stop."""

    replies: list[Reply]
    threads: None = None
    caveats: tuple[()] = ()
    spent_usd: float = 0.0
    provenance: Provenance = field(default_factory=lambda: Provenance(source="m at h"))

    def reply(self, prompt: str, **asked: Any) -> Reply:
        """The next one."""
        if not self.replies:
            raise Stopped("no more")
        return self.replies.pop(0)

    def close(self) -> None:
        """Nothing."""


def answer(thoughts: int, pieces: int, *, tokens: int | None = None, hidden: int = 0, each: str = WORD) -> Reply:
    """So many pieces of thinking and then of text, one every GAP_S."""
    arrivals = tuple(GAP_S * (n + 1) for n in range(thoughts + pieces))
    return Reply(
        text=each * pieces, thinking=each * thoughts, arrivals_s=arrivals, input_tokens=20, output_tokens=tokens,
        answer_s=arrivals[thoughts] if pieces else None, hidden_tokens=hidden, cost_usd=None,
    )  # fmt: skip


def measured(*replies: Reply) -> tuple[dict[str, Any], TextRun, dict[str, Any]]:
    """Figures, the run with its caveats, and the samples by name."""
    settings = throughput.PROFILES["smoke"] | {"repeats": len(replies)}
    cell = make_cell("throughput", settings=settings)
    run = TextRun(cell=cell, engine=Scripted(list(replies)))
    found = throughput.measure(run)
    return figures(make_record(cell, measurements=tuple(found))), run, {m.name: m for m in found}


def kinds(run: TextRun) -> list[str]:
    """Of its caveats."""
    return [caveat.kind for caveat in run.caveats]


def test_tokens_of_thinking_are_divided_by_the_time_of_thinking() -> None:
    """16 tokens, one every 20 ms: 50 tokens a second, whatever part of them was thought."""
    found, run, samples = measured(answer(12, 4, tokens=16), answer(12, 4, tokens=16))
    assert found["decode_tokens_per_s"].value == pytest.approx(50)
    assert found["ttft_s"].value == pytest.approx(0.02)
    assert found["ttft_answer_s"].value == pytest.approx(0.26)
    assert samples["thinking_pieces"].values == (12, 12)
    assert (samples["text_tokens"].values, samples["text_tokens"].counter) == ((16, 16), "the server's usage")
    assert kinds(run) == []


def test_a_model_that_does_not_think_has_one_time_to_its_first_token() -> None:
    """Nothing is said of thinking."""
    found, run, samples = measured(answer(0, 16, tokens=16))
    assert found["decode_tokens_per_s"].value == pytest.approx(50)
    assert "ttft_answer_s" not in found and "thinking_pieces" not in samples
    assert kinds(run) == []


def test_thinking_that_is_counted_and_not_shown_is_taken_off_and_said() -> None:
    """12 of 16 tokens were never sent: four came in 60 ms after the first."""
    found, run, samples = measured(answer(0, 4, tokens=16, hidden=12))
    assert found["decode_tokens_per_s"].value == pytest.approx(50)
    assert samples["text_tokens"].values == (4,)
    assert kinds(run) == ["hidden_thinking"]
    assert run.caveats[0].text == "1 of 1 answers begin with thinking that is counted and not shown"


def test_thinking_that_a_server_counts_and_hides_without_a_word_is_not_divided_by_the_answer() -> None:
    """16 tokens cannot be the twenty letters that came: pieces are taken for tokens, and a caveat says so."""
    found, run, samples = measured(answer(0, 4, tokens=16))
    assert found["decode_tokens_per_s"].value == pytest.approx(50)
    assert (samples["text_tokens"].values, samples["text_tokens"].counter) == ((4,), "pieces of the stream")
    assert kinds(run) == ["counts_disagree"]
    said = "the server counts 16 tokens and sent 20 characters in 4 pieces: each piece of the stream is taken for one"
    assert run.caveats[0].text == f"{said} token"


def test_thinking_that_a_server_shows_and_does_not_count_is_not_lost() -> None:
    """Four tokens are not sixteen pieces."""
    found, run, samples = measured(answer(12, 4, tokens=4))
    assert found["decode_tokens_per_s"].value == pytest.approx(50)
    assert samples["text_tokens"].values == (16,)
    assert kinds(run) == ["counts_disagree"]


@pytest.mark.parametrize(
    ("reply", "rate"),
    [
        (answer(0, 4, tokens=16, each="four words of text "), 16 * (1 - 1 / 4) / 0.06),
        (answer(4, 4, tokens=32, each="four words of text "), 32 * (1 - 1 / 8) / 0.14),
        (answer(0, 16, tokens=12), 12 * (1 - 1 / 16) / 0.3),
        (answer(0, 2, tokens=18, each="1 2 3 4 5 6 7 8 "), 18 * (1 - 1 / 2) / 0.02),
        (answer(0, 4, tokens=12, each="模型很"), 12 * (1 - 1 / 4) / 0.06),
    ],
    ids=["bundled", "bundled thinking", "split", "digits", "no letters of ASCII"],
)
def test_a_count_that_can_be_that_of_its_pieces_stands(reply: Reply, rate: float) -> None:
    """A server may send several tokens in a piece, or a token in several."""
    found, run, _ = measured(reply)
    assert found["decode_tokens_per_s"].value == pytest.approx(rate)
    assert kinds(run) == []


def test_answers_that_end_in_thinking_have_a_speed_and_a_caveat() -> None:
    """Their text is kept, and no time to an answer is made up."""
    found, run, samples = measured(answer(16, 0, tokens=16), answer(16, 0, tokens=16))
    assert found["decode_tokens_per_s"].value == pytest.approx(50)
    assert "ttft_answer_s" not in found and samples["thinking_pieces"].values == (16, 16)
    assert kinds(run) == ["only_thinking"]
    assert run.texts[0].text == WORD * 16


def test_what_was_timed_before_a_stop_is_kept_if_it_is_thinking_alone() -> None:
    """One of two repeats, and it never came to its answer."""
    cell = make_cell("throughput", settings=throughput.PROFILES["smoke"])
    run = TextRun(cell=cell, engine=Scripted([answer(16, 0, tokens=16)]))
    with pytest.raises(Stopped, match=r"no more \(1 of 2 repeats\)") as stopped:
        throughput.measure(run)
    assert {m.name for m in stopped.value.kept} >= {"ttft_s", "decode_s", "thinking_pieces"}
