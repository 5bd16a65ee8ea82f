# SPDX-License-Identifier: Apache-2.0
"""Answers side by side of engines of exported graphs are those of each prompt alone, token for token, in float32."""

import importlib
import random
from collections import defaultdict

import numpy as np
import pytest

pytest.importorskip(
    "optimum", reason="no exporter is installed here: nox -s tests-openvino, tests-onnxruntime have one"
)

import tiny
from builders import make_model

from bench.engines import abilities
from bench.engines.abilities import Asked, GeneratesTogether
from bench.engines.contract import DoesNotFit, LoadRequest, Unsupported
from bench.engines.exported import side_by_side
from bench.engines.registry import backend
from bench.records.cell import Weights

SCHEMES = {"onnxruntime": "ort-fp32", "openvino": "ov-fp32"}
FEW = tuple(range(2, 92))
"""A beginning that many prompts share."""


@pytest.fixture(scope="module", params=SCHEMES)
def name(request):
    """Each engine that is installed here."""
    if lacking := backend(request.param).missing():
        pytest.skip(f"{request.param} lacks {', '.join(lacking)}")
    return request.param


@pytest.fixture
def reader(name):
    """The class that reads with it."""
    return importlib.import_module(f"bench.engines.{name}.reader").Reader


@pytest.fixture(scope="module")
def engines(name, tmp_path_factory):
    """Loaded tiny engines by family, made on first use."""
    base, made = tmp_path_factory.mktemp("tiny"), {}

    def get(kind, **changes):
        key = kind, *changes.items()
        if key not in made:
            facts = {"model": make_model(), "weights": Weights.LOCAL, "scheme": backend(name).scheme(SCHEMES[name]),
                     "device": "cpu", "path": str(tiny.checkpoint(base, kind))}  # fmt: skip
            asked = LoadRequest(**(facts | changes))
            backend(name).prepare(asked)
            made[key] = backend(name).load(asked)
            assert made[key].refuted() is None
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(base / "cache"))
        yield get
    for engine in made.values():
        engine.close()


def questions(shared=()):
    """Prompts of 1 to 60 tokens with limits of 1 to 30, two of them the same."""
    rng = random.Random(0)
    made = []
    for _ in range(12):
        prompt = tuple(rng.randrange(3, tiny.VOCABULARY) for _ in range(rng.randrange(1, 61)))
        made.append(Asked(shared + prompt, rng.randrange(1, 31)))
    return [*made, made[0]]


def together(engine, asked, most=3, **options):
    """Every answer's tokens up to its limit or an end token, and how many stood side by side."""
    found = defaultdict(list)

    def take(index, token):
        found[index].append(token)
        return token is not None and token not in engine.end_tokens and len(found[index]) < asked[index].limit

    most = side_by_side.SideBySide(engine, asked, take, **options).run(most)
    return [found[index] for index in range(len(asked))], most


def alone(engine, asked):
    """The same by `prefill` and `step`, prompt after prompt."""
    answers = []
    for one in asked:
        generation, tokens = engine.prefill([one.tokens]), []
        while len(tokens) < one.limit and not engine.end_tokens & set(tokens[-1:]):
            tokens.append(generation.step()[0])
        generation.close()
        answers.append(tokens)
    return answers


@pytest.mark.parametrize("shared", [(), FEW], ids=["apart", "prefixed"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_answers_are_those_of_each_prompt_alone(engines, kind, shared):
    """Rows come and go, three at a time; what many begin with is read once."""
    engine = engines(kind)
    asked = questions(shared)
    wanted = alone(engine, asked)
    assert len({tuple(answer) for answer in wanted}) > 6, "answers that are all the same would prove nothing"
    assert together(engine, asked) == (wanted, 3)


def test_more_join_only_where_several_places_are_free(engines, monkeypatch):
    """All that is carried is copied for it: of eight places two must be free."""
    engine, joined = engines("llama"), []
    join = side_by_side.Batch.join

    def counted(self, new):
        joined.append((len(self.lengths), len(new)))
        join(self, new)

    monkeypatch.setattr(side_by_side.Batch, "join", counted)
    asked = [Asked((5 + index, 6, 7), 4 + index) for index in range(11)]
    assert together(engine, asked, most=8)[0] == alone(engine, asked)
    assert joined == [(0, 8), (6, 2), (6, 1)]


def test_common_beginnings_are_read_once_and_prompts_in_one_pass(engines, reader, monkeypatch):
    """Of 13 prompts behind 90 shared tokens, those once and the prompts' own in one pass."""
    engine, lengths = engines("llama"), []
    read = reader.read

    def counted(self, texts, rows, **options):
        lengths.append(len(texts[0]))
        return read(self, texts, rows, **options)

    monkeypatch.setattr(reader, "read", counted)
    together(engine, [Asked((*FEW, 100 + index, 7), 1) for index in range(13)], most=16)
    assert lengths == [90, 2 * 13]


def test_a_batch_that_does_not_fit_is_halved(engines, reader, monkeypatch):
    """More than two rows run out of memory; no answer is lost or begun anew."""
    engine, asked = engines("llama"), questions()
    wanted, step = alone(engine, asked), reader.step

    def little(self, tokens, *rest):
        if len(tokens) > 2:
            raise DoesNotFit("generate")
        return step(self, tokens, *rest)

    monkeypatch.setattr(reader, "step", little)
    assert together(engine, asked, most=8) == (wanted, 2)


def test_memory_that_is_short_makes_the_batch_smaller(engines):
    """Keys and values of two sequences are what may be taken."""
    engine, asked = engines("llama"), questions()
    longest = max(len(one.tokens) + one.limit for one in asked)
    left = 2 * 4 * longest * engine.position_elements + 1
    assert together(engine, asked, most=8, left=left) == (alone(engine, asked), 2)


def test_logits_that_are_no_numbers_end_their_own_answer_alone(engines, reader, monkeypatch):
    """The one whose first token is NaN is told so, the others are as ever."""
    engine, asked = engines("llama"), questions()
    wanted, read = alone(engine, asked), reader.read
    marked = list(asked[3].tokens)

    def broken(self, texts, rows, **options):
        logits = np.array(read(self, texts, rows, **options))
        text = list(texts[0])
        if any(text[at : at + len(marked)] == marked for at in range(len(text))):
            logits[:] = np.nan
        return logits

    monkeypatch.setattr(reader, "read", broken)
    wanted[3] = [None]
    assert together(engine, asked)[0] == wanted


def test_an_engine_generates_as_many_as_the_device_allows(engines, name, monkeypatch):
    """One where asked for plainly, where memory ran out before, where it takes no mask, where a pass is one."""
    monkeypatch.setitem(abilities.ROWS, "cpu", 32)
    engine = engines("llama")
    assert isinstance(engine, GeneratesTogether)
    assert engine.generates_together == 32
    assert engines("llama", plain_scoring=True).generates_together == 1
    assert engines("llama", small_batches=True).generates_together == 1
    others = {"openvino": {"kv": "int4"}, "onnxruntime": {"scheme": backend(name).scheme("ort-int8")}}
    assert engines("llama", **others[name]).generates_together == 1
    assert engines("mistral").generates_together == 1


def test_a_prompt_longer_than_the_context_is_refused(engines):
    """Among short ones too: whoever asks cuts it first."""
    engine = engines("llama")
    longest = engine.context_length
    with pytest.raises(Unsupported, match=f"{longest + 1} tokens are more than this model's context of {longest}"):
        together(engine, [Asked((5,), 2), Asked((5,) * (longest + 1), 2)])
