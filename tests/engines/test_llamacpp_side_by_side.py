# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's answers side by side are those of each prompt by itself, token for token, in float32."""

import random
from collections import defaultdict

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed here: nox -s bench-llamacpp has it")
pytest.importorskip("gguf")

from tiny_gguf import config, load

from bench.engines import abilities
from bench.engines.abilities import Asked
from bench.engines.contract import DoesNotFit, Unsupported
from bench.engines.llamacpp import random_weights, side_by_side
from bench.engines.llamacpp.gguf_layout import CONTEXT_STEP

FAMILIES = ("bloom", "gemma3_text", "gpt2", "gpt_neox", "llama", "olmo2", "qwen2", "qwen3")
FEW = tuple(range(2, 92))
"""A beginning that many prompts share."""


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Loaded tiny engines by family, made on first use."""
    folder, made = tmp_path_factory.mktemp("gguf"), {}

    def get(kind):
        if kind not in made:
            path = folder / f"{kind}.gguf"
            random_weights.write(path, config(kind), "gguf-f32")
            made[kind] = load(path, "gguf-f32")
        return made[kind]

    yield get
    for engine in made.values():
        engine.close()


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch, engines):
    """Three sequences, so that answers leave and others take their place."""
    monkeypatch.setitem(abilities.ROWS, "cpu", 3)


def questions(engine, shared=()):
    """Prompts of 1 to 60 tokens with limits of 1 to 30, two of them the same."""
    rng = random.Random(0)
    made = []
    for _ in range(12):
        prompt = tuple(rng.randrange(2, engine.vocabulary) for _ in range(rng.randrange(1, 61)))
        made.append(Asked(shared + prompt, rng.randrange(1, 31)))
    return [*made, made[0]]


def together(engine, asked, most=3):
    """Every answer's tokens up to its limit or an end token, and how many stood side by side."""
    found = defaultdict(list)

    def take(index, token):
        found[index].append(token)
        return token not in engine.end_tokens and len(found[index]) < asked[index].limit

    most = side_by_side.SideBySide(engine, asked, take).run(most)
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
@pytest.mark.parametrize("kind", FAMILIES)
def test_answers_are_those_of_each_prompt_alone(engines, kind, shared):
    """Rows come and go, three at a time; what all begin with is read once and copied."""
    engine = engines(kind)
    asked = questions(engine, shared)
    assert together(engine, asked) == (alone(engine, asked), 3)


def test_a_batch_that_does_not_fit_is_halved(engines, monkeypatch):
    """A context of more than two sequences is refused; no answer is lost."""
    engine, asked = engines("llama"), questions(engines("llama"))
    wanted, make = alone(engine, asked), engine.make

    def little(shape):
        if shape.sequences > 2:
            raise DoesNotFit("generate")
        return make(shape)

    engine.release()
    monkeypatch.setattr(engine, "make", little)
    assert together(engine, asked, most=8) == (wanted, 2)


def test_a_prompt_longer_than_the_context_is_refused(engines):
    """Among short ones too: whoever asks cuts it first."""
    engine = engines("llama")
    longest = engine.context_length
    with pytest.raises(Unsupported, match=f"{longest + 1} tokens are more than this model's context of {longest}"):
        together(engine, [Asked((5,), 2), Asked((5,) * (longest + 1), 2)])


def test_a_request_for_plain_scoring_generates_one_at_a_time(engines):
    """And so does a model whose layers carry a state."""
    engine = engines("qwen2")
    assert engine.generates_together > 1
    for name, value in (("plain_scoring", True), ("state_bytes", 8)):
        vars(engine).pop("generates_together")
        before = getattr(engine, name)
        setattr(engine, name, value)
        assert engine.generates_together == 1
        setattr(engine, name, before)


def test_memory_that_is_short_makes_the_batch_smaller(engines):
    """Keys and values of two sequences are what may be taken; no answer is lost."""
    engine = engines("llama")
    asked, each = questions(engine), engine.cache_bytes_per_token * CONTEXT_STEP
    found = defaultdict(list)

    def take(index, token):
        found[index].append(token)
        return token not in engine.end_tokens and len(found[index]) < asked[index].limit

    assert side_by_side.SideBySide(engine, asked, take, left=2 * each + 1).run(8) == 2
    assert [found[index] for index in range(len(asked))] == alone(engine, asked)
