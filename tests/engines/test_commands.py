# SPDX-License-Identifier: Apache-2.0
"""The command that runs what was chosen: code that compiles, and none where there is nothing to run."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest
from builders import make_model

from bench.engines import llamacpp, transformers
from bench.engines.llamacpp import locate
from bench.engines.registry import backend
from bench.records.record import Provenance

LOADED = Provenance(source="tests/tiny")


@pytest.mark.parametrize("scheme", sorted(transformers.RUN_WITH))
def test_transformers_has_a_command_for_every_scheme_of_its_own(scheme: str) -> None:
    """A shell hands Python code that compiles; no line is wider than a hundred columns."""
    command = transformers.command(make_model(), LOADED, scheme)
    assert command is not None
    python, option, code = shlex.split(command)
    assert (python, option) == ("python", "-c")
    assert any(isinstance(node, ast.ImportFrom) and node.module == "transformers" for node in ast.walk(ast.parse(code)))
    assert "'tests/tiny'" in code
    assert max(map(len, command.splitlines())) <= 100


def test_what_lies_in_no_repository_has_none() -> None:
    """GPTQ is quantized by the harness; an adapter is merged by it."""
    assert transformers.command(make_model(), LOADED, "gptq-int8") is None
    assert transformers.command(make_model(repo=None), LOADED, "bf16") is None
    assert transformers.command(make_model(adapters=("tests/lora",)), LOADED, "bf16") is None
    assert backend("fake").command(make_model(), LOADED, "fake-int8") is None


def test_llama_cpp_runs_a_repository_s_file() -> None:
    """By its quantization's name."""
    model = make_model(gguf_repo="tests/gguf", gguf_file="{type}.gguf")
    found = llamacpp.command(model, Provenance(source="tests/gguf/Q8_0.gguf"), "gguf-q8_0")
    assert found == "llama-cli -hf tests/gguf:Q8_0 -p Hello"
    assert llamacpp.command(make_model(), LOADED, "gguf-q8_0") is None


def test_a_shell_takes_a_made_file_of_any_name_for_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is the user's own."""
    made = tmp_path / "own model.gguf"
    made.write_bytes(b"")
    monkeypatch.setattr(locate, "is_installed", lambda name: True)
    monkeypatch.setattr(locate, "made_name", lambda *about: made.name)
    monkeypatch.setattr(locate.gguf_cache, "folder", lambda: tmp_path)
    found = llamacpp.command(make_model(), Provenance(source="x", files={"Own Model.gguf": "1:a"}), "gguf-q8_0")
    assert shlex.split(found or "") == ["llama-cli", "-m", str(made), "-p", "Hello"]
