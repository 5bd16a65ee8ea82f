# SPDX-License-Identifier: Apache-2.0
"""Metrics of a whole task: lm-eval's own figures and errors, and items wherever items have values."""

import json
import os

import pytest

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")
pytest.importorskip("lm_eval")

import yaml  # noqa: E402
from builders import make_cell, make_model  # noqa: E402

from bench.engines import fake  # noqa: E402
from bench.engines.contract import LoadRequest, Reply  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.records.record import Provenance, Unit  # noqa: E402
from bench.scoring import aggregates as module  # noqa: E402
from bench.scoring.lm import EngineLM, opened  # noqa: E402
from bench.scoring.task_files import task_files  # noqa: E402
from bench.suite import TextRun  # noqa: E402
from suites import metrics  # noqa: E402
from suites.served import quality as served  # noqa: E402

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ITEMS = [
    {"q": f"{word} is", "a": f"the cat {word} sits on", "choices": [word, WORDS[i - 1]], "gold": i % 3 == 0}
    for i, word in enumerate(WORDS)
]
ITEMS = [{**item, "gold": int(item["gold"])} for item in ITEMS]
GENERATED = {
    "output_type": "generate_until", "doc_to_target": "{{a}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 31},
    "metric_list": [
        {"metric": name, "aggregation": name, "higher_is_better": name != "ter"} for name in ("bleu", "chrf", "ter")
    ],
}  # fmt: skip
CHOSEN = {
    "output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold",
    "metric_list": [
        {"metric": "f1", "aggregation": "f1", "higher_is_better": True},
        {"metric": "mcc", "aggregation": "matthews_corrcoef", "higher_is_better": True},
        {"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False},
        {"metric": "likelihood", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "median", "higher_is_better": True},
    ],
}  # fmt: skip
ROLLING = {
    "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{a}}",
    "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
}  # fmt: skip


TAKE_FIRST = {"function": "take_first"}


class Speaking(fake.FakeEngine):
    """A fake that answers every question with the same words."""

    def prefill(self, prompts, *, suppress=()):
        """Say them."""
        made = super().prefill(prompts, suppress=suppress)
        said = iter(b"the cat sits on the cat sits on")
        made.step = lambda: [next(said)]
        return made


def engine():
    """At 16 bits."""
    asked = {"weights": Weights.RANDOM, "scheme": fake.BACKEND.scheme("fake-fp16"), "device": "cpu"}
    return Speaking(LoadRequest(model=make_model(), **asked))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tasks whose metrics have no value of an item, and some that do."""
    import datasets

    tmp_path, before = tmp_path_factory.mktemp("aggregates"), datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    (tmp_path / "own").mkdir()
    data = tmp_path / "own" / "items.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    shared = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    for name, kind in {"generated": GENERATED, "chosen": CHOSEN, "rolling": ROLLING}.items():
        config = {"task": f"own_{name}", **shared, "doc_to_text": "{{q}}", **kind, "metadata": {"version": 1}}
        (tmp_path / "own" / f"own_{name}.yaml").write_text(yaml.safe_dump(config))
    yield tmp_path / "own"
    datasets.config.HF_DATASETS_CACHE = before


def answered(folder, name):
    """All items of one of them."""
    names, files, _ = task_files([name], str(folder))
    evaluation = opened(engine(), tasks=names, items=100, max_length=2048, files=files)
    evaluation.advance(name, 100)
    return evaluation


def lm_evals(folder, name):
    """The same task by lm-eval's own evaluator over the same engine."""
    from lm_eval import simple_evaluate

    lm = EngineLM(engine(), 2048, lambda finished, total: None)
    config = yaml.safe_load((folder / f"{name}.yaml").read_text())
    return simple_evaluate(lm, tasks=[config], bootstrap_iters=1000, log_samples=False)["results"][name]


def test_figures_of_generated_texts_are_lm_evals_with_its_errors(folder, monkeypatch):
    """BLEU, chrF and TER crash nothing: each is one figure of all answers, to the last digit of the error."""
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    found, failed = answered(folder, "own_generated").aggregates("own_generated")
    theirs = lm_evals(folder, "own_generated")
    assert failed == [] and [one.metric for one in found] == ["bleu", "chrf", "ter"]
    assert max(one.error for one in found) > 0
    for one in found:
        assert one.value == pytest.approx(theirs[f"{one.metric},none"], rel=1e-12) and one.value > 0
        assert one.error == pytest.approx(theirs[f"{one.metric}_stderr,none"], rel=1e-12)
        assert (one.items, one.filter, one.kind.lower_is_better) == (12, None, one.metric == "ter")


def test_figures_of_choices_are_lm_evals_and_what_has_items_keeps_them(folder, monkeypatch):
    """f1 and mcc pair label and answer: no value of an item and no weight. Of Brier's score and a median items stay."""
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    evaluation, theirs = answered(folder, "own_chosen"), None
    result, (found, failed) = evaluation.result("own_chosen"), evaluation.aggregates("own_chosen")
    config = yaml.safe_load((folder / "own_chosen.yaml").read_text())
    config["metric_list"] = [metric for metric in config["metric_list"] if metric["metric"] != "likelihood"]
    (folder / "other").mkdir(exist_ok=True)
    (folder / "other" / "own_chosen.yaml").write_text(yaml.safe_dump(config))
    theirs = lm_evals(folder / "other", "own_chosen")
    values = {one.metric: (one.value, one.error) for one in found}
    assert set(values) == {"f1", "mcc", "acc_norm"}
    for name, (value, error) in values.items():
        assert value == pytest.approx(theirs[f"{name},none"], rel=1e-12)
        assert error == pytest.approx(theirs[f"{name}_stderr,none"], rel=1e-12)
    assert 0 < values["f1"][0] < 1 and values["f1"][1] > 0
    assert set(result.metrics) == {"brier_score", "acc_norm"} and result.weights == {}
    assert sum(result.metrics["brier_score"]) / 12 == pytest.approx(theirs["brier_score,none"], rel=1e-12)
    (reason,) = failed
    assert reason.kind == "metric_not_computed"
    assert reason.text.startswith("likelihood of own_chosen has no value: TypeError")


def test_each_perplexity_has_its_own_weights(folder):
    """Words for words, bytes for bytes, whatever stands beside it; nothing is left to aggregate."""
    evaluation = answered(folder, "own_rolling")
    result = evaluation.result("own_rolling")
    texts = [ITEMS[item]["a"] for item in evaluation.order["own_rolling"]]
    assert result.weights["word_perplexity"] == [float(len(text.split())) for text in texts]
    assert result.weights["byte_perplexity"] == result.weights["bits_per_byte"] == [float(len(t)) for t in texts]
    assert evaluation.aggregates("own_rolling") == ([], [])


def test_records_hold_a_figure_of_the_whole_task_with_its_error_and_items_in_the_tasks_order(folder):
    """The label says of how many items; an error that lm-eval has none of is absent."""
    evaluation = answered(folder, "own_chosen")
    kept = metrics.every(evaluation.result("own_chosen"), evaluation.aggregates("own_chosen")[0])
    assert [m.name for m in kept] == ["f1", "mcc", "brier_score", "acc_norm", "acc_norm"]
    f1, _, brier, norm, median = kept
    assert (f1.unit, len(f1.values), f1.labels["of_items"], f1.labels["aggregation"]) == (Unit.SCORE, 1, 12, "f1")
    assert f1.labels["standard_error"] > 0 and "item_hashes" not in f1.labels
    assert (len(brier.values), brier.labels["aggregation"], brier.labels["lower_is_better"]) == (
        12,
        "brier_score",
        True,
    )
    assert (len(norm.values), len(median.values), median.labels["of_items"]) == (12, 1, 12)


@pytest.mark.parametrize(
    ("function", "value", "error"),
    [
        (lambda items: 1 / 0, "ZeroDivisionError: division by zero", None),
        (lambda items: float("nan"), "lm-eval's own gives nan", None),
        (len, 3.0, None),
    ],
)
def test_a_tasks_own_function_may_raise_or_give_no_number(function, value, error):
    """One line of the record, not the end of the cell; an error only where lm-eval has one."""
    found = module._aggregate("m", function, [1, 2, 3], module.MetricKind(aggregation="own"))
    assert found == (value if isinstance(value, str) else (value, error))


class Server:
    """A served model that answers every question alike."""

    threads = None
    provenance = Provenance(source="server")
    caveats, spent_usd = (), 0.0

    def reply(self, prompt, *, max_tokens, stops=()):
        """The same words."""
        return Reply(text="the cat sits on it", arrivals_s=(0.1,), input_tokens=4, output_tokens=5, cost_usd=None)

    def close(self):
        """Nothing to close."""


def test_a_served_models_answers_are_scored_by_every_filter_and_as_a_whole(folder, tmp_path):
    """Each answer filter by itself, and BLEU over all answers, as of a model that is loaded here."""
    config = yaml.safe_load((folder / "own_generated.yaml").read_text()) | {
        "task": "own_served",
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True},
            {"metric": "bleu", "aggregation": "bleu", "higher_is_better": True},
        ],
        "filter_list": [
            {"name": "none-there", "filter": [{"function": "regex", "regex_pattern": "(never)"}, TAKE_FIRST]},
            {"name": "whole", "filter": [TAKE_FIRST]},
        ],
    }
    path = tmp_path / "own_served.yaml"
    path.write_text(yaml.safe_dump(config))
    _, files, sha256 = task_files([str(path)], "")
    cell = make_cell("quality", settings={"tasks": ["own_served"], "items": 100, "tasks_sha256": sha256})
    run = TextRun(cell=cell, engine=Server(), files={"task:own_served": files["own_served"]})
    found = [m for m in served.measure(run) if m.counter == "lm-eval"]
    assert [(m.name, m.labels["filter"], len(m.values)) for m in found] == [
        ("exact_match", "none-there", 12),
        ("exact_match", "whole", 12),
        ("bleu", "none-there", 1),
        ("bleu", "whole", 1),
    ]
    assert found[2].values == (0.0,) and found[3].values[0] > 5
    assert found[3].labels["of_items"] == 12 and found[3].labels["standard_error"] > 0
