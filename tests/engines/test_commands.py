# SPDX-License-Identifier: Apache-2.0
"""The command that runs what was chosen: code that compiles, and none where there is nothing to run."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest
from builders import make_cell, make_model

from bench.engines import llamacpp, transformers
from bench.engines.llamacpp import locate
from bench.engines.registry import backend
from bench.engines.transformers.kv_settings import kept_in
from bench.records.cell import Cell
from bench.records.record import Provenance

LOADED = Provenance(source="tests/tiny")


def measured(scheme: str, **settings: str) -> Cell:
    """A cell of that scheme whose settings say how it computed."""
    return make_cell(scheme=scheme, settings=settings)


@pytest.mark.parametrize("scheme", sorted(transformers.RUN_WITH))
def test_transformers_has_a_command_for_every_scheme_of_its_own(scheme: str) -> None:
    """A shell hands Python code that compiles; no line is wider than a hundred columns."""
    command = transformers.command(make_model(), LOADED, measured(scheme))
    assert command is not None
    python, option, code = shlex.split(command)
    assert (python, option) == ("python", "-c")
    assert any(isinstance(node, ast.ImportFrom) and node.module == "transformers" for node in ast.walk(ast.parse(code)))
    assert "'tests/tiny'" in code
    assert max(map(len, command.splitlines())) <= 100


@pytest.mark.parametrize("kv", ["int8", "int4"])
def test_transformers_is_told_what_kept_keys_and_values(kv: str) -> None:
    """As keywords of the call, the very ones that the cache was made with."""
    command = transformers.command(make_model(), LOADED, measured("bf16", kv=kv))
    assert command is not None
    printed = ast.parse(shlex.split(command)[2]).body[1]
    calls = [node for node in ast.walk(printed) if isinstance(node, ast.Call)]
    (generating,) = [call for call in calls if [ast.unparse(given) for given in call.args] == ["'Hello'"]]
    told = {word.arg: ast.literal_eval(word.value) for word in generating.keywords}
    assert told == {"cache_implementation": "quantized", "cache_config": kept_in(kv)}


def test_what_lies_in_no_repository_has_none() -> None:
    """GPTQ is quantized by the harness; an adapter is merged by it."""
    assert transformers.command(make_model(), LOADED, measured("gptq-int8")) is None
    assert transformers.command(make_model(repo=None), LOADED, measured("bf16")) is None
    assert transformers.command(make_model(adapters=("tests/lora",)), LOADED, measured("bf16")) is None
    assert backend("fake").command(make_model(), LOADED, measured("fake-int8")) is None


def test_llama_cpp_runs_a_repository_s_file() -> None:
    """By its quantization's name."""
    model = make_model(gguf_repo="tests/gguf", gguf_file="{type}.gguf")
    found = llamacpp.command(model, Provenance(source="tests/gguf/Q8_0.gguf"), measured("gguf-q8_0"))
    assert found == "llama-cli -hf tests/gguf:Q8_0 -p Hello"
    assert llamacpp.command(make_model(), LOADED, measured("gguf-q8_0")) is None


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ({}, ""),
        ({"attention": "plain"}, " -fa off"),
        ({"attention": "flash"}, " -fa on"),
        ({"attention": "plain", "kv": "int8/fp16"}, " -fa off -ctk q8_0 -ctv f16"),
        ({"attention": "flash", "kv": "int4"}, " -fa on -ctk q4_0 -ctv q4_0"),
    ],
)
def test_llama_cpp_is_told_how_it_computed(way: dict[str, str], told: str) -> None:
    """Its programs attend and cache as the contexts that were measured did, the server too."""
    model, loaded = make_model(gguf_repo="tests/gguf", gguf_file="{type}.gguf"), Provenance(source="tests/gguf/f.gguf")
    cell = measured("gguf-q8_0", **way)
    assert llamacpp.command(model, loaded, cell) == f"llama-cli -hf tests/gguf:Q8_0{told} -p Hello"
    served = f"llama-server -hf tests/gguf:Q8_0{told} --host 127.0.0.1 --port 8080"
    assert llamacpp.serve(model, loaded, cell) == served


def test_a_shell_takes_a_made_file_of_any_name_for_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is the user's own."""
    made = tmp_path / "own model.gguf"
    made.write_bytes(b"")
    monkeypatch.setattr(locate, "is_installed", lambda name: True)
    monkeypatch.setattr(locate, "made_name", lambda *about: made.name)
    monkeypatch.setattr(locate.gguf_cache, "folder", lambda: tmp_path)
    found = llamacpp.command(
        make_model(), Provenance(source="x", files={"Own Model.gguf": "1:a"}), measured("gguf-q8_0")
    )
    assert shlex.split(found or "") == ["llama-cli", "-m", str(made), "-p", "Hello"]
