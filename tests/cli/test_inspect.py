# SPDX-License-Identifier: Apache-2.0
"""`bench inspect`: what a model's files hold and what can take it, before anything is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import hub
import pytest
from builders import called

from bench.paths import ROOT

tiny = pytest.importorskip("tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama in Hub layout."""
    made: Path = tiny.checkpoint(tmp_path_factory.mktemp("inspect"), "llama")
    return made


def test_a_folder_is_read_by_its_headers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parameters by the architecture, bytes by the file: 32 bits a weight."""
    code, said, _ = called(capsys, "inspect", folder, "--results", tmp_path, "--format", "json")
    rows = json.loads(said)
    own = next(row for row in rows if row["scheme"] == "fp32")
    assert code == 0
    assert own["file_bytes"] == 4 * own["parameters"]
    assert own["bits_per_weight"] == 32.0
    assert own["types"] == "F32 1.0000"
    assert own["predicted_weights_bytes"] == own["file_bytes"]
    assert own["left_out"] is None


def test_people_read_what_it_holds_and_which_engines_take_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names with what is known of each, then a table."""
    _, said, _ = called(capsys, "inspect", folder, "--results", tmp_path)
    words = " ".join(said.split())
    assert "model tiny-llama (tiny-llama)" in words
    assert "32 bits a weight types F32 100.0% embedding F32" in words
    assert "transformers fp16 bf16" in words


def test_an_entry_without_a_file_is_told_from_its_architecture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is downloaded."""
    _, said, _ = called(capsys, "inspect", "gpt2", "--results", tmp_path)
    assert "entry of the catalogue, no file looked at" in said
    assert "124,439,808" in said


def test_a_repository_is_read_by_range_requests(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Config and header, through the Hub's own library; a name that is none is one line."""
    pytest.importorskip("huggingface_hub")
    shelf = hub.Hub(folders={"tests/tiny": folder})
    with hub.serving(shelf):
        code = (
            "from bench.engines.weights.remote_headers import looked_up; "
            "model, held = looked_up('tests/tiny'); print(held.bytes, len(held.tensors), model.name)"
        )
        env = {"HF_ENDPOINT": shelf.url, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    here = json.loads(called(capsys, "inspect", folder, "--results", tmp_path, "--format", "json")[1])[0]
    assert done.stdout.split()[0] == str(here["file_bytes"])
    assert done.stdout.split()[2] == "tests-tiny"
    code, _, error = called(capsys, "inspect", "hf://nothing")
    assert (code, error) == (2, "bench: no repository hf://nothing; hf://ORG/NAME, or hf://ORG/NAME@REVISION\n")


def test_it_imports_no_framework() -> None:
    """Headers need no torch: a look takes a second."""
    code = (
        "import sys; from bench.cli import app, guarded; "
        "guarded(lambda: app(['inspect', 'gpt2'], standalone_mode=False)); "
        "print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_adapter_is_told_by_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The remedy is one that this command has."""
    (tmp_path / "adapter_config.json").write_text("{}")
    code, _, error = called(capsys, "inspect", tmp_path)
    said = f"bench: {tmp_path} is an adapter, which is measured with its base; inspect the folder of its base\n"
    assert (code, error) == (2, said)


def test_a_damaged_file_of_a_package_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named where the file would have been; the entry is told from its architecture."""
    from bench.engines.weights import locate

    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    monkeypatch.setattr(locate, "package_file", lambda model: (broken, "1"))
    code, said, error = called(capsys, "inspect", "smollm2-135m-instruct", "--results", tmp_path)
    assert (code, error) == (0, "")
    assert "entry of the catalogue; broken.gguf: " in " ".join(said.split())


def test_nothing_to_inspect_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With what can be."""
    code, _, error = called(capsys, "inspect")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("bench: nothing to inspect; bench inspect ENTRY, FOLDER")
