# SPDX-License-Identifier: Apache-2.0
"""Files that people write, download or lose half of: catalogues, records, task files, configs and headers."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import make_cell, make_condition, make_record, memory_samples, quality_samples, sample
from calling import LOADING_S, command, inputs
from hypothesis import given
from hypothesis import strategies as st
from odd import changed, files

from bench.records.record import Caveat, Run, Text, Unit
from bench.records.store import Store

NewFolder = Callable[[], Path]
SIZES = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip
FAMILY = {
    "family": "odd",
    "organisation": "Tests",
    "models": [
        {"name": "one", "display": "One", "kind": "open weights", "repo": "nobody/one", "revision": "main",
         "architecture": SIZES, "parameters": 20000, "stored_bytes": 40000, "licence": "mit", "notes": ["a note"],
         "sources": ["a source"], "claims": [
             {"id": "one-peak", "text": "fits", "source": "card", "quantity": "peak memory", "at_most": 1e9,
              "precision": "int4", "tokens": 128}]},
        {"name": "two", "display": "Two", "kind": "api only", "reason": "served", "remote": {
            "protocol": "openai", "model": "m", "url": "https://example.org/v1", "key_variable": "FUZZ_API_KEY",
            "input_usd_per_million": 1.0, "output_usd_per_million": 2.0}},
        {"name": "three", "display": "Three", "kind": "adapter", "repo": "nobody/three", "base_model": "one",
         "template": "alpaca", "adapters": ["nobody/lora"]},
    ],
}  # fmt: skip


@inputs("catalogue")
@given(data=files(FAMILY, yaml.safe_dump(FAMILY, sort_keys=False)), look=st.sampled_from(["list", "one", "plan"]))
def test_a_catalogue(data: bytes, look: str, folder: NewFolder) -> None:
    """Listed, shown and planned from."""
    at = folder()
    (at / "odd.yaml").write_bytes(data)
    where = ("--catalog", at, "--results", at / "results")
    if look == "list":
        command("catalog", *where, "--format", "json")
    elif look == "one":
        command("catalog", "one", *where)
    else:
        command("plan", "--model", "*", "--backend", "fake,api", *where)


def stored(folder: Path) -> list[Path]:
    """A few records that belong together, and the end of their run."""
    store = Store(folder)
    told = {"texts": (Text(name="generated", text="a text", sha256="0" * 64, tokens=2),),
            "warnings": (Caveat(kind="busy_machine", text="load was 3.0", advice="close other programs"),)}  # fmt: skip
    gaps = sample("itl_s", [0.1] * 4, Unit.SECOND, batch=1, prompt_tokens=8, per_repeat=2)
    speed = [
        sample("prefill_s", [0.5, 0.6], Unit.SECOND, batch=1, prompt_tokens=8),
        sample("ttft_s", [0.5, 0.6], Unit.SECOND, batch=1, prompt_tokens=8), gaps,
    ]  # fmt: skip
    paths = []
    for number, precision in enumerate(("fp16", "int4")):
        for suite, measurements in (
            ("memory", memory_samples()), ("quality", quality_samples({"task": [1.0, 0.0]})), ("throughput", speed),
        ):  # fmt: skip
            cell = make_cell(suite, precision)
            paths.append(
                store.write(make_record(cell, id=f"{number:04x}{len(paths):04x}", measurements=measurements, **told))
            )
    state = make_condition()
    ended = "2026-01-01T00:00:00Z"
    paths.append(store.write_run(Run(run="r", device="cpu-test", ended=ended, before=state, after=state)))
    return paths


LOOKS = (
    ("show",), ("show", "--columns", "all"), ("show", "--format", "csv"), ("show", "--format", "json"), ("compare",),
    ("compare", "--details", "--warnings"), ("compare", "--per-byte"), ("compare", "--across", "backend"), ("claims",),
    ("catalog",), ("recommend",), ("recommend", "--memory", "12GB", "--price", "1/h", "--format", "json"),
    ("check",), ("plan", "--backend", "fake", "--missing"), ("show", "--columns", "roof"),
)  # fmt: skip


@inputs("records")
@given(data=st.data(), look=st.sampled_from(LOOKS), which=st.integers(0, 6))
def test_a_record(data: Any, look: tuple[str, ...], which: int, folder: NewFolder) -> None:
    """One odd record among good ones: each command that reads records."""
    at = folder()
    path = stored(at)[which]
    text = path.read_text(encoding="utf-8")
    path.write_bytes(data.draw(files(json.loads(text), text)))
    command(*look, *(("--results", at) if look != ("check",) else (at,)))


TASK = {
    "task": "odd_task", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
    "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "choices",
    "doc_to_target": "gold", "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1},
}  # fmt: skip
GROUP = {"group": "odd_group", "task": ["odd_task"], "metadata": {"version": 1}}


@inputs("tasks")
@given(
    data=files(TASK, yaml.safe_dump(TASK, sort_keys=False)), group=files(GROUP) | st.just(b""),
    name=st.sampled_from(["odd_task", "odd_group", "one.yaml", ""]),
)  # fmt: skip
def test_task_files(data: bytes, group: bytes, name: str, folder: NewFolder) -> None:
    """By folder, by file and by name: planned, and nothing of them is run."""
    at = folder()
    (at / "one.yaml").write_bytes(data)
    (at / "all.yaml").write_bytes(group)
    asked = ("--task", at / name) if name.endswith(".yaml") else ("--task", name) if name else ()
    command("plan", "--backend", "fake", "--suite", "quality", "--task-folder", at, *asked, "--results", at / "results")


@inputs("configs")
@given(data=files(SIZES), tokenizer=files({"model_max_length": 128, "eos_token": "</s>"}) | st.just(b"{}"))
def test_a_config(data: bytes, tokenizer: bytes, folder: NewFolder) -> None:
    """Of a folder in Hub layout."""
    at = folder()
    (at / "config.json").write_bytes(data)
    (at / "tokenizer_config.json").write_bytes(tokenizer)
    command("plan", "--weights", f"local={at}", "--backend", "fake", "--results", at / "results")


def text(value: str) -> bytes:
    """As GGUF writes it."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


U32, TEXT, ARRAY = 4, 8, 9


@st.composite
def ggufs(draw: Any) -> bytes:
    """A header like that of a small model, with odd counts, values and types, perhaps cut short."""
    whole = st.sampled_from([0, 1, 2, 4, 32, 64, 2**31, 2**32 - 1])
    large = st.sampled_from([0, 1, 2, 64, 2**20, 2**40, 2**63, 2**64 - 1])
    fields = {f"llama.{key}": value for key, value in (
        ("block_count", 2), ("embedding_length", 64), ("attention.head_count", 4), ("attention.head_count_kv", 2),
        ("feed_forward_length", 128), ("context_length", 128),
    )} | {"general.alignment": 32, "general.file_type": 1}  # fmt: skip
    for key in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
        fields[key] = draw(whole)
    pairs = [text("general.architecture") + struct.pack("<I", TEXT) + text(draw(st.sampled_from(["llama", "odd", ""])))]
    pairs += [text(key) + struct.pack("<II", U32, value) for key, value in fields.items()]
    if draw(st.booleans()):
        kind, count = draw(st.sampled_from([0, U32, TEXT, ARRAY, 12, 99])), draw(large)
        pairs.append(text("llama.odd") + struct.pack("<IIQ", ARRAY, kind, count))
    shape = [64, 64]
    if draw(st.booleans()):
        shape[draw(st.integers(0, 1))] = draw(large)
    kind = draw(st.sampled_from([0, 1, 2, 8, 12, 30, 36, 99]))
    tensor = text("token_embd.weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, draw(large))
    counts = [1, len(pairs)]
    if draw(st.booleans()):
        counts[draw(st.integers(0, 1))] = draw(large)
    head = b"GGUF" + struct.pack("<IQQ", draw(st.sampled_from([1, 2, 3, 3, 3, 9])), *counts)
    made = bytearray(head + b"".join(pairs) + tensor + bytes(20_000))
    for at in draw(st.lists(st.integers(0, len(head) + 400), max_size=3)):
        made[at] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.sampled_from([len(made), len(made), 3, 30, 200, 500]))])


@inputs("gguf")
@given(data=ggufs(), planned=st.booleans())
def test_a_gguf(data: bytes, planned: bool, folder: NewFolder) -> None:
    """Its header, which is all that a plan and an inspection read."""
    path = folder() / "odd.gguf"
    path.write_bytes(data)
    look = ("plan", "--weights", f"local={path}", "--backend", "fake") if planned else ("inspect", path)
    command(*look, "--results", path.parent / "results")


@st.composite
def headers(draw: Any) -> bytes:
    """A safetensors file of one tensor whose header has odd values, or a length that it does not have."""
    header: dict[str, Any] = {"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    header = draw(changed(header))
    data = json.dumps(header).encode()
    length = draw(st.sampled_from([len(data), len(data), 0, 1, 2**20, 2**63]))
    return struct.pack("<Q", length) + data + bytes(16)


@inputs("headers")
@given(data=headers(), form=st.sampled_from(["table", "json"]))
def test_safetensors_inspected(data: bytes, form: str, folder: NewFolder) -> None:
    """Their headers, read by us and by no library."""
    at = folder()
    (at / "config.json").write_text(json.dumps(SIZES))
    (at / "model.safetensors").write_bytes(data)
    command("inspect", at, "--format", form, "--results", at / "results")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="loads with transformers")
@inputs("safetensors")
@given(data=headers())
def test_safetensors(data: bytes, folder: NewFolder) -> None:
    """Loaded by the engine, in its worker: the record says in a line why it cannot be."""
    at = folder()
    model = at / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(SIZES))
    (model / "model.safetensors").write_bytes(data)
    command(
        "run", "--weights", f"local={model}", "--device", "cpu", "--precision", "fp32", "--suite", "memory",
        "--profile", "smoke", "--quiet", "--results", at / "results", patience_s=LOADING_S,
    )  # fmt: skip
    for record in Store(at / "results").records():
        assert record.outcome.detail == "", record.outcome.detail
