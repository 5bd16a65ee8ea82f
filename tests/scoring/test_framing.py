# SPDX-License-Identifier: Apache-2.0
"""What a tokenizer puts around a text: a beginning is never scored, an end stands in no text that goes on."""

import os

import pytest

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")
pytest.importorskip("lm_eval")

from builders import make_model  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402

from bench.catalog.model import Objective  # noqa: E402
from bench.engines import fake  # noqa: E402
from bench.engines.contract import LoadRequest  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.scoring.framing import framing  # noqa: E402
from bench.scoring.lm import EngineLM, Frame  # noqa: E402

BEGIN, MASK, END = 2, 3, fake.END


class Framed(fake.FakeEngine):
    """A fake whose tokenizer puts tokens of its own around a text; it remembers what it is asked."""

    before, after = (BEGIN,), ()
    prefix_token = BEGIN
    joins = False
    """Whether a text is split otherwise beside the tokens around it."""

    def encode(self, text, *, special=False):
        """Bytes, between its own tokens."""
        body = list(text.encode())
        if not special:
            return body
        return [*self.before, *([200] if self.joins else body), *self.after]

    def score(self, rows, done=lambda finished: None):
        """Score and remember."""
        self.rows = list(rows)
        return super().score(rows, done)

    def prefill(self, prompts, *, suppress=()):
        """Remember the prompt."""
        self.prompt = list(prompts[0])
        return super().prefill(prompts, suppress=suppress)


def model(objective=Objective.CAUSAL, longest=2048, **changes):
    """Such an engine as lm-eval sees it."""
    asked = {"weights": Weights.RANDOM, "scheme": fake.BACKEND.scheme("fake-fp16"), "device": "cpu"}
    engine = Framed(LoadRequest(model=make_model(), **asked))
    for name, value in changes.items():
        setattr(engine, name, value)
    return EngineLM(engine, longest, lambda finished, total: None, Frame(objective))


def ask(kind, *arguments):
    """One of lm-eval's requests."""
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=("some_task", 0, 1))


def total(engine, text):
    """Summed log-probability of a text's bytes."""
    return float(sum(engine.unigram[byte] for byte in text.encode()))


@pytest.mark.parametrize(
    ("before", "after", "joins", "begin", "end"),
    [
        ((BEGIN,), (), False, [BEGIN], []),
        ((), (END,), False, [BEGIN], [END]),
        ((BEGIN,), (END,), False, [BEGIN], [END]),
        ((MASK, BEGIN), (END,), False, [MASK, BEGIN], [END]),
        ((), (), False, [BEGIN], []),
        ((BEGIN,), (END,), True, [BEGIN], [END]),
    ],
)
def test_what_stands_around_a_text_is_found(before, after, joins, begin, end):
    """By comparing a text with itself; where it is split otherwise in between, by the ends the engine knows."""
    found = framing(model(before=before, after=after, joins=joins).engine, encoder=False)
    assert (found.begin, found.end) == (begin, end)


def test_behind_an_encoder_the_end_stays():
    """A sequence-to-sequence model was trained to read it."""
    made = model(Objective.SEQ2SEQ, before=(), after=(END,))
    made.loglikelihood([ask("loglikelihood", "abc", " d")])
    assert made.engine.rows[0].context == (*b"abc", END)
    assert made.framing.notes() == []


def test_a_rolling_text_is_scored_once_after_its_beginning():
    """The beginning token is context and never scored, and the record says that lm-eval scores it."""
    made = model()
    (value,) = made.loglikelihood_rolling([ask("loglikelihood_rolling", "a text")])
    (row,) = made.engine.rows
    assert (row.context, row.continuation) == ((BEGIN,), tuple(b"a text"))
    assert value == pytest.approx(total(made.engine, "a text"), rel=1e-6)
    (note,) = made.framing.notes()
    assert note.kind == "begin_not_scored" and note.text.startswith("some_task: the beginning token")


@pytest.mark.parametrize("length", [1, 9, 10, 11, 35])
@pytest.mark.parametrize("before", [(), (BEGIN,), (MASK, BEGIN)])
def test_windows_cover_a_text_whatever_stands_before_it(before, length):
    """Windows of ten tokens: each byte once, none longer than the model reads, the end of the beginning always seen."""
    made = model(longest=10, before=before, after=(END,))
    text = "the quick brown fox jumps over it.."[:length]
    made.loglikelihood_rolling([ask("loglikelihood_rolling", text)])
    rows = made.engine.rows
    assert bytes(token for row in rows for token in row.continuation) == text.encode()
    assert max(len(row.context) + len(row.continuation) for row in rows) <= 11
    assert rows[0].context[-1] == BEGIN
    if length < 9 and before:
        assert rows[0].context == before


def test_without_a_beginning_of_its_own_nothing_differs_from_lm_eval():
    """The token that stands for an empty context comes first, and no note is made."""
    made = model(before=())
    made.loglikelihood_rolling([ask("loglikelihood_rolling", "abc")])
    assert made.engine.rows[0].context == (BEGIN,)
    assert made.framing.notes() == []


def test_a_context_goes_on_and_answers_of_one_letter_differ():
    """With an end behind every text each answer would be that end, and all choices alike."""
    made = model(after=(END,))
    found = made.loglikelihood([ask("loglikelihood", "Q: 1 + 1 =", letter) for letter in ("A", "B")])
    assert [row.context for row in made.engine.rows] == [(BEGIN, *b"Q: 1 + 1 =")] * 2
    assert [row.continuation for row in made.engine.rows] == [tuple(b"A"), tuple(b"B")]
    assert [value for value, _ in found] == pytest.approx([total(made.engine, letter) for letter in "AB"], rel=1e-6)
    (note,) = made.framing.notes()
    assert note.kind == "end_left_out"


def test_a_prompt_is_not_ended_before_its_answer():
    """What is generated goes on from the question."""
    made = model(after=(END,))
    made.generate_until([ask("generate_until", "Q:", {"until": ["\n"], "max_gen_toks": 2})])
    assert made.engine.prompt == [BEGIN, *b"Q:"]


def test_an_end_that_the_text_itself_has_stays():
    """Only what the tokenizer added is left out."""
    assert model(after=(10,)).tok_encode("a\n") == [BEGIN, *b"a\n"]


def test_in_transformers_a_tokenizer_that_begins_and_ends_every_text_changes_no_question(tmp_path):
    """The beginning is not scored and the end stands in no context: by the model's own definition."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import tiny_llama
    from tokenizers import Tokenizer, processors

    from bench.engines.transformers import BACKEND

    folder = tiny_llama.write_checkpoint(tmp_path / "framed")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    around = [("<s>", tiny_llama.BEGIN), ("</s>", tiny_llama.END)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=around)
    tokenizer.save(str(folder / "tokenizer.json"))
    asked = {"weights": Weights.LOCAL, "scheme": BACKEND.scheme("fp32"), "device": "cpu", "path": str(folder)}
    threads = torch.get_num_threads()
    engine = BACKEND.load(LoadRequest(model=make_model(), threads=1, **asked))
    assert engine.encode("the fox", special=True) == [tiny_llama.BEGIN, *tiny_llama.encode("the fox"), tiny_llama.END]
    found, true = tiny_llama.asked_after_beginning(engine)
    torch.set_num_threads(threads)
    assert found == pytest.approx(true, abs=1e-3)
    assert abs(found[1] - found[2]) > 0.1
