# SPDX-License-Identifier: Apache-2.0
"""Tasks of every output type, a caller's own files, chat templates, and every way in which a task cannot be had."""

import json
import math
import os
import textwrap
from types import SimpleNamespace

import pytest

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")
pytest.importorskip("lm_eval")

import numpy as np  # noqa: E402
import yaml  # noqa: E402
from builders import make_cell, make_model  # noqa: E402

from bench.engines import fake  # noqa: E402
from bench.engines.contract import LoadRequest, NotFinite, Unsupported  # noqa: E402
from bench.errors import UserError  # noqa: E402
from bench.plan.overrides import Overrides, text  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.records.scored import loop_share  # noqa: E402
from bench.scoring.lm import chosen_items, evaluate  # noqa: E402
from bench.scoring.task_files import task_files  # noqa: E402
from suites import quality  # noqa: E402

ITEMS = [
    {"q": "one", "a": "eins", "choices": ["eins", "zwei"], "gold": 0, "subject": "a"},
    {"q": "two", "a": "zwei", "choices": ["drei", "zwei"], "gold": 1, "subject": "a"},
    {"q": "x " * 150 + "x", "a": "drei", "choices": ["drei", "vier"], "gold": 0, "subject": "b"},
]
KINDS = {
    "own_choice": {
        "output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "own_likelihood": {
        "output_type": "loglikelihood", "doc_to_target": " {{a}}",
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
        ],
    },
    "own_rolling": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{q}}",
        "metric_list": [{"metric": "word_perplexity"}],
    },
    "own_answer": {
        "output_type": "generate_until", "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 20},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a caller's own tasks, one of each output type, their data beside them."""
    import datasets

    tmp_path, before = tmp_path_factory.mktemp("tasks"), datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    shared = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "items.jsonl"}}, "test_split": "test"}
    for name, kind in {**KINDS, "own_answer_3": KINDS["own_answer"]}.items():
        config = {"task": name, **shared, "doc_to_text": "{{q}}", **kind, "metadata": {"version": 1}}
        (tmp_path / "own" / f"{name}.yaml").write_text(yaml.safe_dump(config))
    yield tmp_path / "own"
    datasets.config.HF_DATASETS_CACHE = before


def load(kind=fake.FakeEngine, **changes):
    """A fake at 16 bits."""
    asked = {"weights": Weights.RANDOM, "scheme": fake.BACKEND.scheme("fake-fp16"), "device": "cpu"}
    engine = kind(LoadRequest(model=make_model(), **asked))
    for name, value in changes.items():
        setattr(engine, name, value)
    return engine


def ask(folder, name, engine=None, **options):
    """One of the caller's tasks, all items."""
    names, files, _ = task_files([name], str(folder))
    settings = {"tasks": names, "items": 100, "max_length": 2048, "files": files} | options
    (found,) = evaluate(engine or load(), **settings)
    return found


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("own_choice", {"acc"}),
        ("own_likelihood", {"acc", "perplexity"}),
        ("own_rolling", {"word_perplexity"}),
        ("own_answer", {"exact_match"}),
    ],
)
def test_every_output_type_is_answered(folder, name, metrics):
    """A caller's own task of each type gives every item's value of every metric, its hashes and its subjects."""
    found = ask(folder, name)
    assert set(found.metrics) == metrics
    assert {len(values) for values in found.metrics.values()} == {3}
    order = chosen_items(name, 3, 3)
    assert len(found.hashes) == 30
    assert [found.clusters[order.index(item)] for item in (0, 1)] == [found.clusters[order.index(0)]] * 2
    assert sorted({*found.clusters}) == [0, 1]
    assert set(found.weights) == ({"word_perplexity"} if name == "own_rolling" else set())
    assert (found.answers is not None) == (name == "own_answer")


def test_a_rolling_text_has_the_closed_form(folder):
    """The sum over all its bytes, from the fake's own distribution."""
    engine = load()
    asked = [ITEMS[item] for item in chosen_items("own_rolling", 3, 3)]
    expected = [sum(float(engine.unigram[byte]) for byte in item["q"].encode()) for item in asked]
    assert ask(folder, "own_rolling", engine).metrics["word_perplexity"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["own_rolling", "own_likelihood"])
def test_a_perplexity_that_overflows_is_no_error(folder, name):
    """lm-eval's exp of a loss beyond 709 nats for each word has no number; the items' own losses do, and are kept."""
    engine = load()
    engine.unigram = np.full_like(engine.unigram, -1000.0)
    metric, texts = {
        "own_rolling": ("word_perplexity", [item["q"] for item in ITEMS]),
        "own_likelihood": ("perplexity", [f" {item['a']}" for item in ITEMS]),
    }[name]
    expected = [-1000.0 * len(texts[item]) for item in chosen_items(name, 3, 3)]
    assert ask(folder, name, engine).metrics[metric] == expected


def test_generated_answers_leave_what_they_are_like(folder):
    """The fake says NUL until the limit: twenty tokens, cut, going round in circles."""
    answers = ask(folder, "own_answer").answers
    assert [(a.tokens, a.cut, a.empty) for a in answers] == [(20, True, False)] * 3
    assert answers[0].loop == pytest.approx(16 / 17)


def test_a_part_of_the_items_keeps_its_answers_and_its_names(folder):
    """lm-eval counts requests, not documents: with one item of three its answer is found and its number is its own."""
    assert chosen_items("own_answer_3", 3, 1) == chosen_items("own_likelihood", 3, 1) == [2]
    found = ask(folder, "own_answer_3", items=1)
    assert found.answers is not None and len(found.answers) == 1
    assert found.hashes == ask(folder, "own_answer_3").hashes[:10]
    engine = load(unigram=np.full(257, np.nan, dtype=np.float32))
    with pytest.raises(NotFinite, match="task own_likelihood, item 2, and 1 of 1"):
        ask(folder, "own_likelihood", engine, items=1)


@pytest.mark.parametrize(
    ("tokens", "share"),
    [([1, 2, 3, 4] * 8, 1 - 4 / 29), (list(range(32)), 0.0), ([7] * 40, 1 - 1 / 37), ([7] * 15, 0.0)],
)
def test_a_loop_is_the_share_of_n_grams_seen_before(tokens, share):
    """Nothing in new words, nearly all in a circle, nothing where there is no room to loop."""
    assert loop_share(tokens) == pytest.approx(share)


def test_items_longer_than_the_context_are_cut_and_counted(folder):
    """As lm-eval does, from the left; the record's warning has the count."""
    assert ask(folder, "own_choice").truncated == 0
    assert ask(folder, "own_choice", max_length=64).truncated == 1
    assert ask(folder, "own_answer", max_length=64).truncated == 1
    names, files, _ = task_files(["own_choice"], str(folder))
    cell = make_cell("quality", settings={"tasks": names, "items": 9, "max_length": 64})
    run = SimpleNamespace(
        cell=cell, engine=load(), settings=cell.settings, caveats=[], phase=lambda *_: None,
        task_files=files, journal=None, reference_items={}, spent=lambda: False,
    )  # fmt: skip
    acc, choices = quality.measure(run)
    assert len(choices.values) == sum(len(item["choices"]) for item in ITEMS)
    assert acc.labels["truncated"] == 1
    assert [c.text for c in run.caveats] == ["1 of 3 items of own_choice are longer than the context and were cut"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["own_choice", "own_rolling"])
def test_logits_that_are_not_finite_name_the_item_and_the_precision(folder, name, value):
    """The cell fails: no score is made of NaN."""
    engine = load()
    engine.unigram = engine.unigram.copy()
    engine.unigram[ord("x")] = value
    names, files, _ = task_files([name], str(folder))
    cell = make_cell("quality", "int8", settings={"tasks": names, "items": 9, "max_length": 2048})
    engine.unigram[ord("v")] = value  # "vier", a choice of the third item
    run = SimpleNamespace(
        cell=cell, engine=engine, settings=cell.settings, caveats=[], phase=lambda *_: None,
        task_files=files, journal=None, reference_items={}, spent=lambda: False,
    )  # fmt: skip
    with pytest.raises(NotFinite, match=rf"logits: task {name}, item 2, and 1 of \d requests, at int8 \(fake-int8\)"):
        quality.measure(run)


class Chatty(fake.FakeEngine):
    """A fake with a chat template."""

    chat_template = "<user>{{text}}<model>"

    def chat(self, messages, *, answer):
        """The template by hand."""
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + ("<model>" if answer else "")

    def prefill(self, prompts, *, suppress=()):
        """Remember the prompt."""
        self.prompt = bytes(prompts[0]).decode()
        return super().prefill(prompts, suppress=suppress)


def test_the_chat_template_is_off_unless_asked_for(folder):
    """On, items are asked in it, which is recorded and makes other prompts of the same documents."""
    plain, engine = ask(folder, "own_answer", load(Chatty)), load(Chatty)
    framed = ask(folder, "own_answer", engine, chat=True)
    assert engine.prompt == f"<user>{ITEMS[2]['q']}<model>"
    assert (plain.chat, len(framed.chat)) == (None, 12)
    assert framed.labels()["chat_template"] == framed.chat
    assert (plain.documents == framed.documents, plain.digest == framed.digest) == (True, False)


@pytest.mark.parametrize(
    ("engine", "words"),
    [(fake.FakeEngine, "this engine applies no chat template"), (Chatty, "tokenizer has no chat template")],
)
def test_without_a_chat_template_the_cell_is_unsupported(folder, engine, words):
    """One line, before anything is scored."""
    found = load(engine, **({"chat_template": None} if engine is Chatty else {}))
    with pytest.raises(Unsupported, match=words):
        ask(folder, "own_choice", found, chat=True)


def test_a_task_of_the_hub_without_a_network_says_so(folder):
    """Which task, and what to do; nothing is scored, so no record answers a part of what was asked."""
    with pytest.raises(UserError) as caught:
        evaluate(load(), tasks=["bench_facts_en", "arc_easy"], items=1, max_length=64)
    assert str(caught.value).startswith("task arc_easy needs the Hugging Face Hub: ")
    assert str(caught.value).endswith("connect to the network, or leave it out: --task bench_facts_en")


def test_data_that_is_not_there_names_the_task(folder, tmp_path):
    """The file lies with the caller."""
    (tmp_path / "own_choice.yaml").write_text((folder / "own_choice.yaml").read_text())
    with pytest.raises(UserError, match="the data of task own_choice cannot be read"):
        ask(tmp_path, "own_choice")


def test_a_name_nearly_right_is_guessed():
    """A typing error costs one look."""
    with pytest.raises(Unsupported, match=r"no task 'bench_fact_en' \(did you mean bench_facts_en\?\)"):
        evaluate(load(), tasks=["bench_fact_en"], items=1, max_length=64)


def test_task_files_are_found_by_folder_by_file_and_by_name(folder):
    """A folder alone means all its tasks; names choose from it; a file is named by its path."""
    names, files, sha256 = task_files([], str(folder))
    assert sorted(names) == sorted(files) == sorted([*KINDS, "own_answer_3"])
    assert sha256 is not None and len(sha256) == 12
    path = str(folder / "own_choice.yaml")
    assert task_files([path, "piqa"], "")[:2] == (["own_choice", "piqa"], {"own_choice": path})
    assert task_files(["own_answer"], str(folder))[1] == {"own_answer": str(folder / "own_answer.yaml")}
    assert task_files(["piqa"], "") == (["piqa"], {}, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("task: a\nmetric_list:\n  - {metric: acc\n", r"broken.yaml, line \d: .*; mend the task file"),
        ("task: a\n\tb: 1\n", r"broken.yaml, line 2: .*; mend the task file"),
        ("group: g\n", "names no task; a task file is YAML with `task: NAME`"),
    ],
)
def test_a_task_file_that_does_not_parse_names_file_and_line(tmp_path, content, words):
    """A mistake of the caller: one line."""
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        task_files([str(path)], "")


GROUPED = {
    "part.yaml": """\
        dataset_path: json
        dataset_kwargs: {data_files: {test: items.jsonl}}
        test_split: test
        output_type: multiple_choice
        process_docs: !function code.turned
        doc_to_text: "{{q}}"
        doc_to_choice: choices
        doc_to_target: gold
        metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
        metadata: {version: 1}
        """,
    "one.yaml": "task: grouped_one\ninclude: part.yaml\n",
    "two.yaml": "task: grouped_two\ninclude: part.yaml\ndoc_to_text: !function code.asked\n",
    "inner.yaml": "group: inner\ntask: [grouped_two]\n",
    "all.yaml": "group: all_of_mine\ntask: [grouped_one, inner]\naggregate_metric_list: [{metric: acc}]\n",
    "code.py": "turned = lambda docs: docs.select([0, 1])\nasked = lambda doc: 'asked ' + doc['q']\n",
}


@pytest.fixture
def grouped(folder, tmp_path):
    """A folder with a shared part, a Python file, two tasks, and a group with another inside."""
    for name, content in GROUPED.items():
        (tmp_path / name).write_text(textwrap.dedent(content))
    (tmp_path / "items.jsonl").write_text((folder / "items.jsonl").read_text())
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["all_of_mine"], ["all.yaml"]])
def test_a_group_stands_for_its_members(grouped, arguments):
    """By folder, by name and by file, those of an inner group too, each once; what they include and name is used."""
    by_file = arguments == ["all.yaml"]
    asked = [str(grouped / "all.yaml")] if by_file else arguments
    names, files, _ = task_files(asked, "" if by_file else str(grouped))
    assert names == ["grouped_one", "grouped_two"]
    engine = load()
    one, two = evaluate(engine, tasks=names, items=9, max_length=2048, files=files)
    assert (one.task, two.task) == ("grouped_one", "grouped_two")
    assert len(one.metrics["acc"]) == len(two.metrics["acc"]) == 2  # `turned` leaves two items
    assert one.documents == two.documents and one.digest != two.digest  # `asked` asks otherwise


@pytest.mark.parametrize("changed", ["one.yaml", "part.yaml", "code.py"])
def test_the_hash_of_own_tasks_is_over_all_that_they_consist_of(grouped, changed):
    """What a file includes, and the functions it names, are part of the question; files it does not use are not."""
    before = task_files(["grouped_one"], str(grouped))[2]
    with (grouped / "two.yaml").open("a") as file:
        file.write("# more\n")
    assert task_files(["grouped_one"], str(grouped))[2] == before
    with (grouped / changed).open("a") as file:
        file.write("# more\n")
    assert task_files(["grouped_one"], str(grouped))[2] != before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("group: g\ntask: [{task: piqa, num_fewshot: 5}]\n", r"g.yaml: group g configures members of its own"),
        ("group: g\nnum_fewshot: 5\ntask: [piqa]\n", r"g.yaml: group g changes its members \(num_fewshot\)"),
        ("group: g\ntask: [h, g]\n", r"g.yaml: group g contains itself"),
        ("task: t\ninclude: nowhere.yaml\n", r"g.yaml includes nowhere.yaml, which is not there"),
    ],
)
def test_a_group_that_cannot_be_asked_is_one_line(tmp_path, content, words):
    """Before anything is planned, with the file's name."""
    (tmp_path / "g.yaml").write_text(content)
    with pytest.raises(UserError, match=words):
        task_files([], str(tmp_path))


def test_a_group_may_name_tasks_of_others(tmp_path):
    """Members that are no file of the caller's are looked for as any name is."""
    (tmp_path / "g.yaml").write_text("group: g\ntask: [bench_facts_en, piqa]\n")
    assert task_files([], str(tmp_path)) == (["bench_facts_en", "piqa"], {}, None)


def test_functions_named_by_a_task_file_are_not_run_by_looking(tmp_path):
    """`!function` is read as a tag."""
    (tmp_path / "t.yaml").write_text("task: t\nprocess_docs: !function nowhere.nothing\n")
    assert task_files([], str(tmp_path))[0] == ["t"]


@pytest.mark.parametrize(
    ("arguments", "folder", "words"),
    [(["no.yaml"], "", "no task file no.yaml"), ([], "/nowhere", "no folder /nowhere"), ([], ".", "no task in ")],
)
def test_what_is_not_there_is_one_line(tmp_path, monkeypatch, arguments, folder, words):
    """Before anything is planned."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        task_files(arguments, folder)


def test_a_text_has_a_name_and_a_hash_and_its_path_stays_here(tmp_path, monkeypatch):
    """Settings hold what another machine can compare; WikiText-2 not yet fetched has neither hash nor path."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    (tmp_path / "my.txt").write_text("abc")
    name, path, sha256 = text(str(tmp_path / "my.txt"), fetch=False)
    assert (name, path, sha256) == ("my.txt", str(tmp_path / "my.txt"), "ba7816bf8f01")
    asked = Overrides(text=name, text_path=path, text_sha256=sha256, max_length=512, chat_template=True)
    assert asked.settings({"text": "probe"}) == {"text": "my.txt", "text_sha256": "ba7816bf8f01"}
    assert asked.settings({"tasks": [], "max_length": 2048}) == {"max_length": 512, "chat_template": True}
    assert asked.settings({"prompt_tokens": 1}) == {}
    assert asked.files == {"text": path}
    assert text("wikitext2", fetch=False) == ("wikitext2", None, None)
    (tmp_path / "bad.txt").write_bytes(b"a\xff")
    with pytest.raises(UserError, match=r"bad\.txt is not UTF-8: byte 1"):
        text(str(tmp_path / "bad.txt"), fetch=False)
    with pytest.raises(UserError, match="no text file nothing"):
        text("nothing", fetch=False)
