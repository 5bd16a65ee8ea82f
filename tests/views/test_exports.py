# SPDX-License-Identifier: Apache-2.0
"""Other people's formats, read back by their own libraries: two precisions of one model and task stay two."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from builders import (
    make_cell,
    make_machine,
    make_model,
    make_record,
    make_versions,
    memory_samples,
    quality_samples,
    speed_samples,
)
from builders import sample as one_sample

from bench.judge.rows import Row, newest
from bench.records.cell import Weights
from bench.records.record import Measurement, Provenance, Record
from bench.views.exports import FORMATS, Asked, Exported
from bench.views.exports.identity import KEYS, agreed, component, labels, model_id

EEE = os.environ.get("EVERY_EVAL_EVER_PYTHON")
"""A Python with every-eval-ever, which wants another huggingface_hub: `nox -s tests-exports` makes one."""
RIGHT = {"grammar": [1.0, 1.0, 1.0, 0.0], "facts": [1.0, 0.0, 0.0, 0.0]}
WORSE = {"grammar": [1.0, 1.0, 1.0, 0.0], "facts": [0.0, 0.0, 0.0, 0.0]}
"""As good in grammar, worse in facts."""
REPO = "tests/tiny"


def precision(name: str, scheme: str, bits: float, right: dict[str, list[float]], **changes: Any) -> list[Record]:
    """Memory, speed and answers of one precision, loaded by an engine that is not the fake."""
    where = {"weights": Weights.HUB, "source": REPO, "backend": "transformers", "scheme": scheme} | changes
    source = Provenance(source=REPO, revision="abc", files={"model.safetensors": "1:aa"}, stored_as="bfloat16")
    common = {"provenance": source, "versions": make_versions(bitsandbytes="0.50.2", transformers="5.23.0")}
    memory = [m for m in memory_samples() if m.name != "linear_bits"] + [one_sample("linear_bits", bits)]
    measured: dict[str, list[Measurement]] = {
        "memory": memory, "throughput": list(speed_samples()), "quality": list(quality_samples(right)),
    }  # fmt: skip
    return [make_record(make_cell(suite, name, **where), measurements=m, **common) for suite, m in measured.items()]


BF16 = precision("fp16", "bf16", 16.0, RIGHT)
NF4 = precision("int4", "bnb-nf4", 4.5, WORSE)


def exported(to: str, records: list[Record] | None = None, **known: Any) -> Exported:
    """Two precisions in that format."""
    rows = newest([*BF16, *NF4] if records is None else records)
    return FORMATS[to](Asked(rows=rows, **{"datasets": {"grammar": "org/grammar", "facts": "org/facts"}} | known))


def row(records: list[Record]) -> Row:
    return newest(records)[0]


def test_the_agreed_keys_say_which_precision_it_is() -> None:
    """From the records alone; the census differs with what was counted, and not with the run."""
    wide, narrow = agreed(row(BF16)), agreed(row(NF4))
    assert tuple(wide) == tuple(narrow) == KEYS
    assert [wide[key] for key in KEYS[:4]] == ["bf16", "unknown", "16", "none"]
    assert [narrow[key] for key in KEYS[:4]] == ["bnb-nf4", "unknown", "4.5", "bitsandbytes 0.50.2"]
    assert wide["census_sha256"] != narrow["census_sha256"]
    assert wide["census_sha256"] == agreed(row(precision("fp16", "bf16", 16.0, WORSE)))["census_sha256"]
    assert len(wide["census_sha256"]) == 64
    assert agreed(row(BF16[2:]))["census_sha256"] == agreed(row(BF16[2:]))["bits_per_weight"] == "unknown"


def test_a_checkpoint_that_came_quantized_says_so() -> None:
    """Nothing of ours quantized it."""
    source = Provenance(source=REPO, files={"model.safetensors": "1:aa"}, stored_as="gptq-int4")
    records = [
        record.model_copy(update={"provenance": source}) for record in precision("int4", "gptq-int4", 4.2, RIGHT)
    ]
    assert agreed(row(records))["quantizer"] == "as published"


def test_model_index_comes_back_as_two_rows_a_task() -> None:
    """Through huggingface_hub: each score with its precision, the equal one too."""
    hub = pytest.importorskip("huggingface_hub")
    found = exported("model-index")
    assert list(found.files) == [f"{REPO}/model-index.md"]
    card = hub.ModelCard(found.files[f"{REPO}/model-index.md"].decode())
    assert card.data.model_name == REPO
    told = [
        (r.dataset_name, r.dataset_type, r.metric_args["weight_precision"], r.metric_value, r.metric_config)
        for r in card.data.eval_results
    ]
    assert told == [
        ("grammar", "org/grammar", "bf16", 0.75, "transformers-bf16"),
        ("grammar", "org/grammar", "bnb-nf4", 0.75, "transformers-bnb-nf4"),
        ("facts", "org/facts", "bf16", 0.25, "transformers-bf16"),
        ("facts", "org/facts", "bnb-nf4", 0.0, "transformers-bnb-nf4"),
    ]
    assert all(set(KEYS) <= set(result.metric_args) for result in card.data.eval_results)


def test_two_tasks_of_one_data_set_stay_two_in_model_index() -> None:
    """The library groups by data set and configuration."""
    hub = pytest.importorskip("huggingface_hub")
    found = exported("model-index", BF16, datasets={"grammar": "org/both", "facts": "org/both"})
    card = hub.ModelCard(found.files[f"{REPO}/model-index.md"].decode())
    assert [(r.dataset_name, r.metric_value) for r in card.data.eval_results] == [("grammar", 0.75), ("facts", 0.25)]


def test_eval_results_come_back_from_one_file_a_precision() -> None:
    """Through huggingface_hub's own parser, with the agreed keys in the notes."""
    hub = pytest.importorskip("huggingface_hub")
    yaml = pytest.importorskip("yaml")
    found = exported("eval-results")
    told = {}
    for path, content in found.files.items():
        for entry in hub.parse_eval_result_entries(yaml.safe_load(content)):
            notes = json.loads(entry.notes)
            assert set(KEYS) <= set(notes)
            told[path, entry.dataset_id, entry.task_id] = (notes["weight_precision"], entry.value, entry.date)
    wide, narrow = (f"{REPO}/.eval_results/transformers-{scheme}.yaml" for scheme in ("bf16", "bnb-nf4"))
    when = "2026-01-01T00:00:00Z"
    assert told == {
        (wide, "org/grammar", "grammar"): ("bf16", 0.75, when),
        (wide, "org/facts", "facts"): ("bf16", 0.25, when),
        (narrow, "org/grammar", "grammar"): ("bnb-nf4", 0.75, when),
        (narrow, "org/facts", "facts"): ("bnb-nf4", 0.0, when),
    }


def test_a_task_without_a_data_set_of_the_hub_is_left_out_and_named() -> None:
    """Nobody's repository is guessed."""
    pytest.importorskip("huggingface_hub")
    found = exported("eval-results", datasets={"facts": "org/facts"})
    assert all(b"org/facts" in content and b"grammar" not in content for content in found.files.values())
    assert found.left_out == ("no data set of the Hub is named for grammar: pass --dataset TASK=ORG/NAME",)


def test_every_eval_ever_has_a_datastore_a_precision() -> None:
    """One file a task; figures, intervals and the agreed keys where its reader keeps them."""
    found = exported("every-eval-ever", organisation="Tests")
    told = set()
    for path, content in found.files.items():
        label, data, task, owner, model, _ = path.split("/")
        log = json.loads(content)
        (result,) = log["evaluation_results"]
        details = log["model_info"]["additional_details"]
        assert (data, f"{owner}/{model}", log["schema_version"]) == ("data", log["model_info"]["id"], "0.3.0")
        assert set(KEYS) <= set(details) and all(isinstance(value, str) for value in details.values())
        assert result["score_details"]["uncertainty"]["num_samples"] == 4
        told.add((label, task, details["weight_precision"], result["score_details"]["score"]))
    assert told == {
        ("transformers-bf16", "grammar", "bf16", 0.75), ("transformers-bnb-nf4", "grammar", "bnb-nf4", 0.75),
        ("transformers-bf16", "facts", "bf16", 0.25), ("transformers-bnb-nf4", "facts", "bnb-nf4", 0.0),
    }  # fmt: skip
    assert len(found.files) == 4
    assert exported("every-eval-ever", organisation="Tests").files == found.files


READ_BACK = """
import json, pathlib, sys
from every_eval_ever.eval_types import EvaluationLog
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.json")):
    log = EvaluationLog.model_validate_json(path.read_text())
    result = log.evaluation_results[0]
    print(json.dumps([log.model_info.additional_details["weight_precision"], result.evaluation_name,
                      result.score_details.score]))
"""


@pytest.mark.skipif(not EEE, reason="EVERY_EVAL_EVER_PYTHON names no Python that has it: nox -s tests-exports")
def test_every_eval_ever_s_own_validator_and_reader_take_it(tmp_path: Path) -> None:
    """No error and no warning; read back, two rows a task say which is which."""
    assert EEE
    for path, content in exported("every-eval-ever").files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    files = [str(path) for path in tmp_path.rglob("*.json")]
    checked = subprocess.run(
        [EEE, "-m", "every_eval_ever.validate", "--format", "json", *files], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert [report["warnings"] for report in json.loads(checked.stdout)] == [[]] * 4
    read = subprocess.run([EEE, "-c", READ_BACK, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert sorted(json.loads(line) for line in read.splitlines()) == [
        ["bf16", "facts", 0.25], ["bf16", "grammar", 0.75], ["bnb-nf4", "facts", 0.0], ["bnb-nf4", "grammar", 0.75],
    ]  # fmt: skip


def test_llama_bench_has_a_row_for_reading_and_one_for_generating() -> None:
    """Its own columns and meanings: generating begins where the prompt stands in the cache."""
    found = exported("llama-bench", models={"tiny": make_model(parameters=12345)})
    assert sorted(found.files) == ["cpu-test.csv", "cpu-test.json"]
    of_json = json.loads(found.files["cpu-test.json"])
    of_csv = list(csv.DictReader(io.StringIO(found.files["cpu-test.csv"].decode())))
    assert [(line["model_type"], line["n_prompt"], line["n_gen"], line["n_depth"]) for line in of_json] == [
        ("tiny transformers-bf16", 100, 0, 0), ("tiny transformers-bf16", 0, 2, 100),
        ("tiny transformers-bnb-nf4", 100, 0, 0), ("tiny transformers-bnb-nf4", 0, 2, 100),
    ]  # fmt: skip
    reading, generating = of_json[:2]
    assert (reading["samples_ns"], reading["samples_ts"]) == ([500_000_000, 250_000_000], [200.0, 400.0])
    assert (reading["avg_ns"], reading["avg_ts"]) == (375_000_000, 300.0)
    assert reading["stddev_ts"] == pytest.approx(141.42135623730951)
    assert generating["samples_ts"] == pytest.approx([10.0, 5.0])
    assert (reading["model_size"], reading["model_n_params"], reading["n_threads"]) == (500, 12345, 1)
    for line, other in zip(of_json, of_csv, strict=True):
        assert {name: str(line[name]) for name in other} == other


def test_larger_batches_are_no_test_of_llama_bench() -> None:
    """It has no column for them."""
    records = [
        record.model_copy(update={"measurements": speed_samples(batch=4)})
        if record.cell.suite == "throughput"
        else record
        for record in BF16
    ]
    assert exported("llama-bench", records).files == {}


def test_optimum_benchmark_s_report_holds_reading_and_generating_alone() -> None:
    """With its units: prompts a second, tokens a second; its percentiles lie between neighbours."""
    found = exported("optimum-benchmark")
    assert sorted(found.files) == [
        "tiny/transformers-bf16/benchmark_report.json", "tiny/transformers-bnb-nf4/benchmark_report.json",
    ]  # fmt: skip
    report = json.loads(found.files["tiny/transformers-bf16/benchmark_report.json"])
    assert list(report) == ["prefill", "decode"]
    latency = report["prefill"]["latency"]
    assert (latency["values"], latency["count"], latency["mean"], latency["p50"]) == ([0.5, 0.25], 2, 0.375, 0.375)
    assert (latency["p90"], latency["stdev"]) == (pytest.approx(0.475), 0.125)
    assert report["prefill"]["throughput"] == {"unit": "samples/s", "value": pytest.approx(1 / 0.375)}
    assert report["decode"]["latency"]["values"] == pytest.approx([0.2, 0.4])
    assert report["decode"]["throughput"] == {"unit": "tokens/s", "value": pytest.approx(2 / 0.3)}


def test_optimum_benchmark_s_own_reader_takes_it_and_computes_the_same() -> None:
    """Where it is installed, which needs transformers below 5."""
    report = pytest.importorskip("optimum_benchmark.benchmark.report")
    latency = pytest.importorskip("optimum_benchmark.trackers.latency")
    for content in exported("optimum-benchmark").files.values():
        read = report.BenchmarkReport.from_dict(json.loads(content))
        for target, volume in ((read.prefill, 1), (read.decode, 2)):
            own = latency.Latency.from_values(target.latency.values, "s")
            for name in ("count", "total", "mean", "p50", "p90", "p95", "p99", "stdev", "stdev_"):
                assert getattr(target.latency, name) == pytest.approx(float(getattr(own, name))), name
            told = latency.Throughput.from_latency(own, volume, unit=target.throughput.unit)
            assert target.throughput.value == pytest.approx(told.value)


def test_what_means_nothing_or_contradicts_itself_is_not_told_to_others() -> None:
    """Random weights have no quality; 16 bits found under a 4-bit name are another precision."""
    random = precision("int4", "bnb-nf4", 4.5, RIGHT, weights=Weights.RANDOM, source="random")
    false = precision("int4", "bnb-nf4", 16.0, RIGHT)
    served = precision("int4", "bnb-nf4", 4.5, RIGHT, weights=Weights.REMOTE, source="m at host")
    assert exported("every-eval-ever", random).left_out == (
        "tiny transformers-bnb-nf4: random weights say nothing about quality",
    )
    assert exported("every-eval-ever", false).left_out == (
        "tiny transformers-bnb-nf4: asked for int4, found 16 bits a linear weight",
    )
    assert exported("every-eval-ever", served).left_out == (
        "tiny transformers-bnb-nf4: served: nobody knows its precision",
    )
    for records in (random, false, served):
        assert exported("every-eval-ever", records).files == {}


def test_rows_that_engine_and_scheme_leave_alike_have_names_of_their_own() -> None:
    """By what tells them apart, and by nothing more."""
    other = make_machine(device="cpu-other")
    elsewhere = [
        record.model_copy(update={"cell": record.cell.model_copy(update={"device": "cpu-other"}), "machine": other})
        for record in BF16
    ]
    found = labels(newest([*BF16, *elsewhere, *NF4]))
    assert sorted(found.values()) == [
        "transformers-bf16-cpu-other", "transformers-bf16-cpu-test", "transformers-bnb-nf4",
    ]  # fmt: skip


def test_a_model_is_named_by_its_repository_where_it_has_one() -> None:
    """A folder of one's own is not the entry whose name it shares."""
    package = row(precision("fp16", "bf16", 16.0, RIGHT, weights=Weights.PACKAGE, source="llm-tiny"))
    local = row(precision("fp16", "bf16", 16.0, RIGHT, weights=Weights.LOCAL, source="tiny"))
    odd = row(precision("fp16", "bf16", 16.0, RIGHT, source="../../etc/passwd"))
    models = {"tiny": make_model(repo="org/Tiny")}
    assert [model_id(one, models) for one in (row(BF16), package, local, odd)] == [
        REPO, "org/Tiny", "local/tiny", "local/tiny",
    ]  # fmt: skip
    assert model_id(package, {}) == "local/tiny"


@pytest.mark.parametrize("task", ["../../up", "a/b", ".hidden", "C:\\x", "\x1b[31m", "..", "a\nb: c", "=1+1"])
@pytest.mark.parametrize("to", sorted(FORMATS))
def test_text_of_a_foreign_record_leads_nowhere_and_comes_back_as_it_was(task: str, to: str) -> None:
    """A task's name, in paths and in values: no path leaves the folder, and each library reads the very text."""
    hub = pytest.importorskip("huggingface_hub")
    yaml = pytest.importorskip("yaml")
    found = exported(to, precision("fp16", "bf16", 16.0, {task: [1.0, 0.0]}), datasets={task: "org/x"})
    assert found.files
    for path, content in found.files.items():
        parts = path.split("/")
        assert all(part == component(part) for part in parts if part != ".eval_results")
        text = content.decode()
        if to == "model-index":
            assert hub.ModelCard(text).data.eval_results[0].dataset_name == task
        elif to == "eval-results":
            assert hub.parse_eval_result_entries(yaml.safe_load(text))[0].task_id == task
        elif to == "every-eval-ever":
            assert json.loads(text)["evaluation_results"][0]["evaluation_name"] == task
        else:
            assert task not in text


def test_the_agreed_keys_say_what_keys_and_values_were_kept_in() -> None:
    """As asked, else as the memory suite found it; older records of llama.cpp had float16, others tell nothing."""

    def told(backend: str, kept_in: str | None, **settings: str) -> str:
        labels = {"tokens": 544} | ({"kept_in": kept_in} if kept_in else {})
        cell = make_cell("memory", backend=backend, settings={"prompt_tokens": 512, "decode_tokens": 32, **settings})
        record = make_record(cell, measurements=(one_sample("kv_bytes", 1e6, **labels),))
        return agreed(row([record]))["kv_precision"]

    assert told("llamacpp", None) == "fp16"
    assert told("transformers", None) == "unknown"
    assert told("transformers", "bf16") == "bf16"
    assert told("llamacpp", "int8/int4", kv="int8/int4") == "int8/int4"
