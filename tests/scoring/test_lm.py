# SPDX-License-Identifier: Apache-2.0
"""An Engine as an lm-eval model: the fake's closed forms come back, and so do the scores of lm-eval's own model."""

import json
import os
import random
from types import SimpleNamespace

import pytest

# read when the libraries are imported: no test asks the network
for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")
pytest.importorskip("lm_eval")

import numpy as np  # noqa: E402
from builders import make_model  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402

from bench.catalog.model import Objective  # noqa: E402
from bench.engines import fake  # noqa: E402
from bench.engines.contract import LoadRequest, NotFinite, Row, Unsupported  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.scoring import tasks  # noqa: E402
from bench.scoring.journal import Journal  # noqa: E402
from bench.scoring.lm import EngineLM, Frame, chosen_items, evaluate  # noqa: E402
from bench.scoring.tasks import TASKS, offline_tasks  # noqa: E402
from suites.quality import OFFLINE, OWN  # noqa: E402
from suites.served.quality import GENERATED  # noqa: E402

Z = -(37 * np.arange(257) % 251) / 40
LOG_PROBS = Z - np.log(np.exp(Z).sum())
"""The fake's next-byte distribution at 16 bits, from its definition."""


class Spy(fake.FakeEngine):
    """The fake, remembering the rows it is asked to score."""

    def score(self, rows, done=lambda finished: None):
        """Score and remember."""
        self.rows = list(rows)
        return super().score(rows, done)


def load(kind=Spy):
    """A fake at 16 bits."""
    request = LoadRequest(
        model=make_model(), weights=Weights.RANDOM, scheme=fake.BACKEND.scheme("fake-fp16"), device="cpu"
    )
    return kind(request)


def language_model(engine, max_length=2048, done=lambda finished, total: None):
    """The engine as lm-eval sees it."""
    return EngineLM(engine, max_length, done)


def ask(kind, *arguments):
    """One of lm-eval's requests."""
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def total(text):
    """Summed log-probability of a text's bytes."""
    return float(sum(LOG_PROBS[byte] for byte in text.encode()))


# Log-likelihoods.


def test_log_likelihood_is_the_sum_over_the_continuation():
    """Each continuation's bytes are summed, whatever the context; greedy only where every byte is the likeliest."""
    pairs = [("The sky is", " blue"), ("1 + 1 =", " 2"), ("中国的首都是", "北京"), ("x", "\0\0")]
    found = language_model(load()).loglikelihood([ask("loglikelihood", *pair) for pair in pairs])
    assert [value for value, _ in found] == pytest.approx([total(text) for _, text in pairs], rel=1e-6)
    assert [greedy for _, greedy in found] == [False, False, False, True]


def test_an_empty_context_is_the_prefix_token():
    """Nothing before a continuation means the token that begins a text."""
    engine = load()
    ((value, _),) = language_model(engine).loglikelihood([ask("loglikelihood", "", "abc")])
    assert engine.rows[0].context == (fake.END,)
    assert value == pytest.approx(total("abc"), rel=1e-6)


@pytest.mark.parametrize("blanks", [" ", "  ", "\n", " \n\t"])
def test_a_context_of_blanks_alone_is_the_prefix_token_and_every_blank_is_scored(blanks):
    """lm-eval moves blanks to the continuation and documents the empty context that is left as the prefix token."""
    engine = load()
    ((value, _),) = language_model(engine).loglikelihood([ask("loglikelihood", blanks, "blue")])
    assert (engine.rows[0].context, engine.rows[0].continuation) == ((256,), tuple(f"{blanks}blue".encode()))
    assert value == pytest.approx(total(f"{blanks}blue"), rel=1e-6)


def test_spaces_before_the_cut_belong_to_the_continuation():
    """As lm-eval does it: trailing spaces of the context are scored with the continuation."""
    engine = load()
    language_model(engine).loglikelihood([ask("loglikelihood", "a: ", "b")])
    assert (engine.rows[0].context, engine.rows[0].continuation) == (tuple(b"a:"), tuple(b" b"))


def test_long_contexts_are_cut_from_the_left():
    """All but the last token fit into `max_length`; the continuation stays whole and so do the nearest tokens."""
    engine = load()
    ((value, _),) = language_model(engine, 10).loglikelihood([ask("loglikelihood", "abcdefghijklmnop", "WXYZ")])
    assert (engine.rows[0].context, engine.rows[0].continuation) == (tuple(b"jklmnop"), tuple(b"WXYZ"))
    assert value == pytest.approx(total("WXYZ"), rel=1e-6)


def test_a_continuation_longer_than_the_window_keeps_one_token_of_context():
    """What is scored then is what follows the first token that is left."""
    engine = load()
    language_model(engine, 4).loglikelihood([ask("loglikelihood", "context", "0123456789")])
    assert (engine.rows[0].context, engine.rows[0].continuation) == (tuple(b"5"), tuple(b"6789"))


@pytest.mark.parametrize(
    ("objective", "context", "continuation", "cut"),
    [
        ("causal", 7, 4, False),  # the last of eleven tokens is never read
        ("causal", 8, 4, True),
        ("seq2seq", 10, 10, False),  # encoder and decoder have ten tokens each
        ("seq2seq", 11, 1, True),
        ("seq2seq", 1, 11, True),
    ],
)
def test_an_item_counts_as_cut_from_the_first_token_that_is_left_out(objective, context, continuation, cut):
    """With ten tokens of room, not one token earlier and not one later."""
    engine, frame = load(), Frame(Objective(objective))
    made = EngineLM(engine, 10, lambda finished, total: None, frame)
    pair = ("c" * context, "d" * continuation)
    request = Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0, metadata=("some_task", 7, 1))
    made.loglikelihood([request])
    assert made.truncated == ({("some_task", 7)} if cut else set())
    (row,) = engine.rows
    assert (len(row.context) + len(row.continuation) < context + continuation) == cut


def test_a_window_is_never_longer_than_the_model_allows():
    """The engine's own context length bounds what the suite asks for."""
    engine = load()
    engine.context_length = 6
    assert language_model(engine, 2048).max_length == 6
    assert language_model(engine, 4).max_length == 4


def test_progress_counts_requests():
    """The caller hears how many of how many are scored."""
    heard = []
    model = language_model(load(), done=lambda finished, total: heard.append((finished, total)))
    model.loglikelihood([ask("loglikelihood", "a", "b")] * 3)
    assert heard == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("length", [1, 9, 10, 11, 35])
def test_rolling_predicts_every_token_once(length):
    """Windows of ten tokens cover a text of any length without gap or overlap, the first after the prefix token."""
    text = "the quick brown fox jumps over it.."[:length]
    engine = load()
    (value,) = language_model(engine, 10).loglikelihood_rolling([ask("loglikelihood_rolling", text)])
    assert bytes(token for row in engine.rows for token in row.continuation) == text.encode()
    assert engine.rows[0].context[0] == fake.END
    assert len(engine.rows) == -(-length // 10)
    assert max(len(row.context) + len(row.continuation) for row in engine.rows) <= 11
    assert value == pytest.approx(total(text), rel=1e-6)


def test_rolling_keeps_texts_apart():
    """Each text gets the sum of its own windows."""
    texts = ["a" * 25, "b", "c" * 13]
    found = language_model(load(), 10).loglikelihood_rolling([ask("loglikelihood_rolling", text) for text in texts])
    assert found == pytest.approx([total(text) for text in texts], rel=1e-6)


# Generation.


class Scripted(fake.FakeEngine):
    """An engine that answers a fixed text, then its end token."""

    answer = b""
    broken = None
    """The byte whose logits are no numbers."""

    def prefill(self, prompts, *, suppress=()):
        """Begin the answer."""
        self.prompt, self.closed = prompts[0], False
        tokens = iter([*self.answer, *([fake.END] * 1000)])
        made = SimpleNamespace(finite=True)

        def step():
            token = next(tokens)
            made.finite = token != self.broken
            return [token]

        def close():
            self.closed = True

        made.step, made.close = step, close
        return made


def generated(answer, options, context="Q: why?\nA:", max_length=2048):
    """What comes back for a scripted answer, and the engine."""
    engine = load(Scripted)
    engine.answer = answer.encode()
    (text,) = language_model(engine, max_length).generate_until([ask("generate_until", context, options)])
    assert engine.closed
    return text, engine


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        (["\n"], " first line"),
        ("\n", " first line"),
        (["second", "line"], " first "),
        (["Q:"], " first line\nsecond"),
        ([""], " first line\nsecond"),
        ([], " first line\nsecond"),
        (None, " first line\nsecond"),
    ],
)
def test_generation_stops_at_the_first_stop_string_or_the_end_token(until, expected):
    """The stop string itself is left out; without one the end token ends the answer and is left out too."""
    assert generated(" first line\nsecond", {"until": until})[0] == expected


@pytest.mark.parametrize(("name", "limit"), [("max_gen_toks", 5), ("max_new_tokens", 5)])
def test_generation_stops_at_the_limit(name, limit):
    """A task's own limit counts tokens."""
    assert generated("0123456789", {name: limit})[0] == "01234"


def test_generation_has_a_limit_of_its_own():
    """A task that names none gets 256 tokens."""
    assert len(generated("x" * 999, {})[0]) == 256


def test_a_journal_gives_back_the_answer_and_what_is_known_of_it(tmp_path):
    """A cell taken up again has the text, its tokens and that its prompt was cut, and asks the engine for nothing."""

    def ask_again(answer):
        engine = load(Scripted)
        engine.answer = answer
        made = EngineLM(engine, 10, lambda finished, total: None, journal=Journal(tmp_path / "cell"))
        request = ask("generate_until", "abcdefghijklmnop", {"max_gen_toks": 4})
        return made.generate_until([request]), made.answers, made.truncated

    first = ask_again(b"yes")
    assert first[0] == ["yes"] and len(first[1]) == len(first[2]) == 1
    assert ask_again(b"never asked for") == first


def test_an_answer_counts_its_own_tokens_and_not_the_one_that_ends_it():
    """Three bytes and the end token are three tokens, not cut."""
    engine = load(Scripted)
    engine.answer = b"abc"
    made = language_model(engine)
    made.generate_until([ask("generate_until", "Q", {})])
    (answer,) = made.answers.values()
    assert (answer.tokens, answer.cut) == (3, False)


def test_a_journal_tells_the_same_prompt_with_other_options_apart(tmp_path):
    """What ends an answer is part of the question."""
    engine = load(Scripted)
    engine.answer = b"one two"
    made = EngineLM(engine, 2048, lambda finished, total: None, journal=Journal(tmp_path / "cell"))
    requests = [ask("generate_until", "Q", {"until": [stop]}) for stop in (" ", "o")]
    assert made.generate_until(requests) == ["one", ""]


def test_an_answer_of_logits_that_are_not_finite_names_item_and_token_and_is_not_remembered(tmp_path):
    """One step of NaN is enough, whatever text comes of it; the next attempt asks again."""
    engine, journal = load(Scripted), Journal(tmp_path / "cell")
    engine.answer, engine.broken = b"abc", ord("c")
    made = EngineLM(engine, 2048, lambda finished, total: None, journal=journal)
    request = Instance(request_type="generate_until", doc={}, arguments=("Q", {}), idx=0, metadata=("some_task", 7, 1))
    with pytest.raises(NotFinite, match=r"^NaN or infinite logits: task some_task, item 7, token 3 of its answer$"):
        made.generate_until([request])
    assert engine.closed and not list(tmp_path.iterdir())
    engine.broken = None
    assert made.generate_until([request]) == ["abc"]


def test_the_prompt_leaves_room_for_the_answer():
    """A long prompt is cut from the left so that prompt and answer fit together."""
    _, engine = generated("x", {"max_gen_toks": 4}, context="abcdefghijklmnop", max_length=10)
    assert bytes(engine.prompt) == b"klmnop"


def test_sampling_is_refused():
    """A sampled answer would differ from run to run."""
    with pytest.raises(Unsupported, match="only greedy generation is comparable"):
        generated("x", {"do_sample": True, "temperature": 0.7})


def test_sampling_at_temperature_zero_is_greedy():
    """Some tasks say it that way."""
    assert generated("x", {"do_sample": True, "temperature": 0.0})[0] == "x"


# Items and tasks.


@pytest.mark.parametrize("task", OFFLINE)
def test_fewer_items_are_a_part_of_more(task):
    """Ten items are among fifty: a larger profile asks everything that a smaller one asks."""
    ten, fifty = chosen_items(task, 300, 10), chosen_items(task, 300, 50)
    assert (len(ten), len(fifty)) == (10, 50)
    assert fifty[:10] == ten


def test_items_are_the_same_for_everyone():
    """The choice depends on the task's name alone; these are the first ten of 300."""
    expected = list(range(300))
    random.Random("bench_facts_en").shuffle(expected)
    assert chosen_items("bench_facts_en", 300, 10) == expected[:10]
    assert chosen_items("bench_facts_en", 300, 10) != chosen_items("bench_reading_en", 300, 10)


def test_more_items_than_there_are_means_all():
    """A profile that asks for too many gets each item once."""
    assert sorted(chosen_items("t", 7, 100)) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("task", OFFLINE)
def test_an_offline_task_is_large_enough_and_sound(task):
    """At least 200 items; each gold names a choice, choices differ, no item comes twice."""
    documents = [json.loads(line) for line in (TASKS / "data" / f"{task}.jsonl").read_text("utf-8").splitlines()]
    assert len(documents) >= 200
    for document in documents:
        assert 0 <= document["gold"] < len(document["choices"])
        assert len(set(document["choices"])) == len(document["choices"])
        assert all(choice.strip() == choice and choice for choice in document["choices"])
        assert document["context"] == document["context"].rstrip()
    assert len({document["id"] for document in documents}) == len(documents)
    assert len({(document["context"], *sorted(document["choices"])) for document in documents}) == len(documents)


@pytest.mark.parametrize("task", OFFLINE)
def test_chance_is_what_the_choices_make_it(task):
    """The chance a task declares is one over its number of choices, and no place of the gold beats it by much."""
    documents = [json.loads(line) for line in (TASKS / "data" / f"{task}.jsonl").read_text("utf-8").splitlines()]
    (count,) = {len(document["choices"]) for document in documents}
    assert offline_tasks()[task]["metadata"]["chance"] == 1 / count
    places = np.bincount([document["gold"] for document in documents], minlength=count) / len(documents)
    assert max(abs(places - 1 / count)) < 0.1


def test_offline_tasks_are_the_quality_suites():
    """Every task file is measured by default, here or of a served model, and every default has a file."""
    assert sorted(offline_tasks()) == sorted([*OWN, *GENERATED])


def test_offline_tasks_are_read_once_and_whoever_gets_them_may_change_them(monkeypatch):
    """lm-eval takes keys out of the configurations that it is given; the files are not parsed again for the next."""
    before = offline_tasks()
    monkeypatch.setattr(tasks.yaml, "load", lambda *_: pytest.fail("a task file was read again"))
    offline_tasks()["bench_facts_en"]["dataset_kwargs"].clear()
    assert (offline_tasks(), tasks.offline_names()) == (before, list(before))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Twelve items of every offline task, answered by the fake through lm-eval."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    yield {result.task: result for result in evaluate(load(), tasks=OFFLINE, items=12, max_length=2048)}
    datasets.config.HF_DATASETS_CACHE = before


@pytest.mark.parametrize("task", OFFLINE)
def test_an_offline_task_loads_through_lm_eval(results, task):
    """Each gives one 0 or 1 for each item, with version, chance and a digest of what was asked."""
    found = results[task]
    assert len(found.metrics["acc"]) == 12
    assert set(found.metrics["acc"]) <= {0.0, 1.0}
    assert (found.version, found.chance) == (1, offline_tasks()[task]["metadata"]["chance"])
    assert len(found.digest) == 12
    labels = {"task": task, "version": 1, "digest": found.digest, "chance": found.chance}
    more = {"item_hashes": found.hashes, "documents": found.documents, "output_type": "multiple_choice"}
    assert found.labels() == labels | more
    assert len(found.hashes) == 12 * 10


def test_the_digest_tells_other_items_apart(results):
    """Fewer items have another digest; the same items have the same."""
    (fewer,) = evaluate(load(), tasks=["bench_facts_en"], items=5, max_length=2048)
    (again,) = evaluate(load(), tasks=["bench_facts_en"], items=12, max_length=2048)
    assert fewer.digest != results["bench_facts_en"].digest == again.digest
    assert again.metrics == results["bench_facts_en"].metrics


def test_an_unknown_task_is_told_the_own_ones():
    """A name that lm-eval does not know is unsupported, with the tasks that need no network."""
    with pytest.raises(Unsupported) as caught:
        evaluate(load(), tasks=["no_such_task"], items=1, max_length=64)
    assert str(caught.value) == f"lm-eval has no task 'no_such_task'; own tasks: {', '.join(offline_tasks())}"


# Beside lm-eval's own Hugging Face model, on the same weights.

WORDS = ("the", "lazy", "dog", "jumps", "over", "quick", "foxes", "and", "42", "zebras", "while", "it", "Köln", "北京")


def request_pairs(seed, count=30):
    """Contexts of 0 to about 400 tokens and continuations of one to a dozen words, in no order of length."""
    draw = random.Random(seed)
    lengths = [0, 0, 1, 150, 200, *(draw.randrange(1, 60) for _ in range(count - 5))]
    draw.shuffle(lengths)
    return [
        (" ".join(draw.choices(WORDS, k=length)), " " + " ".join(draw.choices(WORDS, k=draw.randrange(1, 13))))
        for length in lengths
    ]


@pytest.fixture(scope="module", params=["plain", "adds a beginning"])
def pair(request, tmp_path_factory):
    """EngineLM and HFLM over one tiny llama; its tokenizer puts a beginning before texts, or does not."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import tiny
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer, processors

    from bench.engines.transformers import BACKEND

    folder = tiny.checkpoint(tmp_path_factory.mktemp("lm"), "llama")
    if request.param != "plain":
        path = str(folder / "tokenizer.json")
        tokenizer = Tokenizer.from_file(path)
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        tokenizer.save(path)
    asked = LoadRequest(
        model=make_model(),
        weights=Weights.LOCAL,
        scheme=BACKEND.scheme("fp32"),
        device="cpu",
        path=str(folder),
        threads=1,
    )
    threads = torch.get_num_threads()
    theirs = HFLM(pretrained=str(folder), backend="causal", dtype="float32", device="cpu", batch_size=8)
    ours = EngineLM(BACKEND.load(asked), 2048, lambda done, total: None)
    begins = request.param != "plain"
    assert (ours.tok_encode("a")[0] == 0) == (theirs.tok_encode("a")[0] == 0) == begins
    yield ours, theirs
    torch.set_num_threads(threads)


def test_log_likelihoods_are_those_of_lm_evals_own_model(pair):
    """Thirty requests of varied lengths, some cut from the left: equal sums within 1e-4, the same greedy flags."""
    ours, theirs = pair
    requests = [ask("loglikelihood", *texts) for texts in request_pairs(0)]
    mine, others = ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in mine] == pytest.approx([value for value, _ in others], abs=1e-4)
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in others]
    assert max(len(ours.tok_encode(context)) for context, _ in request_pairs(0)) > ours.max_length


def test_choices_behind_passages_longer_than_a_pack_are_scored_as_lm_eval_scores_them(pair, monkeypatch):
    """Four answers to each of three passages behind one beginning: each is read once, whatever a pack holds."""
    from bench.engines.transformers import tree_scoring

    ours, theirs = pair
    draw = random.Random(7)
    start, *passages = (" ".join(draw.choices(WORDS, k=words)) for words in (38, 33, 33, 33))
    answers = [" " + " ".join(draw.choices(WORDS, k=words)) for words in (1, 2, 3, 4)]
    requests = [ask("loglikelihood", f"{start} {passage}", text) for passage in passages for text in answers]
    read = []
    seen = ours.engine.model.register_forward_pre_hook(lambda module, given: read.append(given[0].numel()))
    monkeypatch.setattr(tree_scoring, "PACK_TOKENS", {"cpu": 48})
    mine = ours.loglikelihood(requests)
    seen.remove()
    others = theirs.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in mine] == pytest.approx([value for value, _ in others], abs=1e-4)
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in others]
    contexts = [ours.tok_encode(f"{start} {passage}") for passage in passages]
    ends = sum(len(ours.tok_encode(text, add_special_tokens=False)) for text in answers)
    assert len(contexts[0]) > 2 * 48
    assert sum(read) <= sum(map(len, contexts)) - 2 * len(ours.tok_encode(start)) + len(passages) * ends + 6


def test_a_context_of_blanks_alone_is_scored_where_lm_eval_fails(pair):
    """Where its tokenizer puts nothing before a text lm-eval has no context left; with a beginning both are equal."""
    ours, theirs = pair
    requests = [ask("loglikelihood", blanks, "dog") for blanks in (" ", "\n", "  ")]
    mine = [value for value, _ in ours.loglikelihood(requests)]
    if theirs.tok_encode("a")[0] == 0:
        others = theirs.loglikelihood(requests, disable_tqdm=True)
        assert mine == pytest.approx([value for value, _ in others], abs=1e-4)
        return
    with pytest.raises(AssertionError):
        theirs.loglikelihood(requests, disable_tqdm=True)
    for request, value in zip(requests, mine, strict=True):
        tokens = ours.tok_encode("".join(request.args))
        found = ours.engine.log_probs([ours.prefix_token_id, *tokens])
        assert value == pytest.approx(sum(row[token] for row, token in zip(found, tokens, strict=True)), abs=1e-4)


def test_greedy_flags_are_true_for_what_the_model_itself_says(pair):
    """A continuation of one token that the model generates is greedy here and there."""
    ours, theirs = pair
    requests = []
    for word in WORDS:
        tokens = ours.tok_encode(word)
        generation = ours.engine.prefill([tokens])
        said = generation.step()
        generation.close()
        if ours.tok_encode(word + ours.engine.decode(said)) == tokens + said:
            requests.append(ask("loglikelihood", word, ours.engine.decode(said)))
    assert len(requests) >= 3
    assert all(greedy for _, greedy in ours.loglikelihood(requests))
    assert all(greedy for _, greedy in theirs.loglikelihood(requests, disable_tqdm=True))


def test_a_text_that_begins_with_its_beginning_token_does_not_get_another(pair):
    """As in lm-eval's own model, a written beginning token stands for the one a tokenizer would add."""
    ours, theirs = pair
    assert ours.tok_encode("<s>lazy dog") == theirs.tok_encode("<s>lazy dog")


def test_rolling_log_likelihoods_are_those_of_lm_evals_own_model(pair):
    """Whole texts over several windows give the same sums.

    Where the tokenizer puts a beginning before a text, lm-eval 0.4.13 scores that token too, after itself: once it no
    longer does, this test fails, and what records say of it (`bench.scoring.framing`) is to be taken back.
    """
    ours, theirs = pair
    texts = [context for context, _ in request_pairs(1, 12) if context]
    begins = ours.framing.begin == ours.tok_encode("a")[:1]
    if begins:  # windows of a text that is longer than one begin elsewhere, by the token that is not scored
        texts = [text for text in texts if len(ours.tok_encode(text)) < ours.max_length]
    requests = [ask("loglikelihood_rolling", text) for text in texts]
    others = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    mine = ours.loglikelihood_rolling(requests)
    if begins:
        rows = [Row((0,), (*[0] * times, *ours.engine.encode(text))) for times in (0, 1) for text in texts]
        found = [score.total for score in ours.engine.score(rows)]
        assert (mine, others) == (
            pytest.approx(found[: len(texts)], abs=1e-3),
            pytest.approx(found[len(texts) :], abs=1e-3),
        )
        assert len(texts) > 5 and max(other - own for own, other in zip(mine, others, strict=True)) < -1
    else:
        assert mine == pytest.approx(others, abs=1e-3)
    assert [note.kind for note in ours.framing.notes()] == ["begin_not_scored"] * begins


def test_generated_answers_are_those_of_lm_evals_own_model(pair):
    """Greedy answers up to a limit and a stop string are the same text."""
    ours, theirs = pair
    requests = [
        ask("generate_until", context, {"until": [stop], "max_gen_toks": limit, "do_sample": False})
        for (context, _), stop, limit in zip(request_pairs(2, 8), "eatoeato", (1, 5, 20, 40) * 2, strict=True)
        if context
    ]
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


@pytest.fixture(scope="module")
def int8_pair(tmp_path_factory):
    """EngineLM and HFLM at a batch size of one over the very same LLM.int8() layers, of a tiny llama with outliers."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import tiny_llama
    from lm_eval.models.huggingface import HFLM

    from bench.engines.transformers import BACKEND

    folder = tiny_llama.write_checkpoint(tmp_path_factory.mktemp("int8") / "loud", tiny_llama.loud())
    asked = LoadRequest(
        model=make_model(), weights=Weights.LOCAL, scheme=BACKEND.scheme("bnb-int8"), device="cpu", path=str(folder),
        threads=1,
    )  # fmt: skip
    threads = torch.get_num_threads()
    engine = BACKEND.load(asked)
    options = {"backend": "causal", "batch_size": 1, "softmax_dtype": "float32", "max_length": engine.context_length}
    yield engine, HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, **options)
    torch.set_num_threads(threads)


def test_int8_scores_reproduce_at_lm_evals_batch_size_of_one(int8_pair):
    """Thirty requests, none longer than the context: equal sums but for the rounding of the 16-bit head.

    Packed as the other schemes are, the same weights give other sums: outlier columns are then those of the pack.
    """
    engine, theirs = int8_pair
    pairs = [texts for texts in request_pairs(0) if len(engine.encode("".join(texts))) < engine.context_length]
    requests = [ask("loglikelihood", *texts) for texts in pairs]
    others = [value for value, _ in theirs.loglikelihood(requests, disable_tqdm=True)]
    mine = [value for value, _ in EngineLM(engine, 2048, lambda done, total: None).loglikelihood(requests)]
    tokens = np.array([len(engine.encode(continuation)) for _, continuation in pairs])
    assert np.abs(np.subtract(mine, others) / tokens).max() < 5e-3
    packing = engine.scheme
    engine.scheme = packing.model_copy(update={"whole_pass": False})
    packed = [value for value, _ in EngineLM(engine, 2048, lambda done, total: None).loglikelihood(requests)]
    engine.scheme = packing
    assert np.abs(np.subtract(packed, others) / tokens).max() > 5e-2
