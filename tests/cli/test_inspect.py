# SPDX-License-Identifier: Apache-2.0
"""`bench inspect`: what a model's files hold and what can take it, before anything is loaded."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import hub
import pytest
from builders import called

from bench.engines.weights.remote_headers import FIRST_BYTES
from bench.paths import ROOT
from bench.units import human_bytes

tiny = pytest.importorskip("tiny")
pytest.importorskip("huggingface_hub")
pytest.importorskip("gguf", reason="writes GGUF files with the package gguf")
import gguf_files  # noqa: E402 - needs what was asked for above


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


def inspected(url: str, target: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`bench inspect hf://TARGET` of the Hub at `url`, in a process of its own: its library asks once where that is."""
    call = [sys.executable, "-m", "bench", "inspect", f"hf://{target}", "--results", str(folder), "--format", "json"]
    env = {"HF_ENDPOINT": url, "HF_HOME": str(folder / "hf"), "PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)}
    return subprocess.run(call, env=env, capture_output=True, text=True, check=False, cwd=ROOT)


def looked(shelf: hub.Hub, target: str, folder: Path) -> list[dict[str, Any]]:
    """What it found."""
    with hub.serving(shelf):
        done = inspected(shelf.url, target, folder)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def refused(shelf: hub.Hub, target: str, folder: Path) -> str:
    """The one line that it ended with."""
    with hub.serving(shelf):
        done = inspected(shelf.url, target, folder)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def test_a_repository_is_read_by_range_requests(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Config and header, through the Hub's own library; a name that is none is one line."""
    there = looked(hub.Hub(folders={"tests/tiny": folder}), "tests/tiny", tmp_path)
    (here, *_) = json.loads(called(capsys, "inspect", folder, "--results", tmp_path, "--format", "json")[1])
    assert (there[0]["model"], there[0]["file_bytes"]) == ("tests-tiny", here["file_bytes"])
    reasons = {row["backend"]: row["left_out"] for row in there if row["precision"] == "all"}
    assert reasons["llamacpp"] == "it reads a GGUF file, and this is a folder in Hub layout"
    code, _, error = called(capsys, "inspect", "hf://nothing")
    remedy = "hf://ORG/NAME, hf://ORG/NAME@REVISION or hf://ORG/NAME/FILE.gguf"
    assert (code, error) == (2, f"bench: no repository hf://nothing; {remedy}\n")


def test_the_one_gguf_of_a_repository_is_read_by_its_header_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the same file is read here; of 20 MB of weights not one byte is asked for."""
    path = gguf_files.write(tmp_path / "shelf" / "tiny-f32.gguf", gguf_files.shapes(width=1024, inner=2048))
    shelf = hub.Hub(folders={"tests/tiny-GGUF": path.parent}, revisions=("main", "v1"))
    there = looked(shelf, "tests/tiny-GGUF@v1", tmp_path)
    here = json.loads(called(capsys, "inspect", path, "--results", tmp_path, "--format", "json")[1])
    keys = ("parameters", "label", "file_bytes", "bits_per_weight", "types", "head_type", "read_bytes_per_token")
    assert [there[0][key] for key in keys] == [here[0][key] for key in keys]
    assert {row["backend"]: row["left_out"] for row in there if row["precision"] == "all"} == dict.fromkeys(
        ("onnxruntime", "openvino", "transformers"), "it reads a folder in Hub layout, and this is a GGUF file"
    )
    needs = [
        [row["predicted_needed_512_bytes"] for row in rows if row["backend"] == "llamacpp"] for rows in (here, there)
    ]
    assert needs[0] == needs[1] and len(needs[0]) > 1
    assert shelf.sent == [("/tests/tiny-GGUF/resolve/v1/tiny-f32.gguf", 0, FIRST_BYTES - 1)]
    assert path.stat().st_size > 20e6


def test_a_header_that_is_longer_is_asked_for_as_far_as_it_goes(tmp_path: Path) -> None:
    """A vocabulary of 4 MB: a second part, from where the first one ended."""
    words = [f"{number:0100}" for number in range(40_000)]
    path = gguf_files.write(tmp_path / "shelf" / "wordy.gguf", tokenizer__ggml__words=words)
    shelf = hub.Hub(folders={"tests/wordy": path.parent})
    (row, *_) = looked(shelf, "tests/wordy/wordy.gguf", tmp_path)
    assert row["bits_per_weight"] == 32.0
    assert [(start, last) for _, start, last in shelf.sent] == [
        (0, FIRST_BYTES - 1), (FIRST_BYTES, min(4 * FIRST_BYTES, path.stat().st_size) - 1),
    ]  # fmt: skip


def test_the_parts_of_a_split_model_are_one_model(tmp_path: Path) -> None:
    """Whichever is named; alone in a repository they are what it holds."""
    folder, tensors = tmp_path / "shelf" / "q8", gguf_files.shapes()
    for number in (0, 1):
        own = {name: shape for name, shape in tensors.items() if ("blk.1." in name) == bool(number)}
        gguf_files.write(folder / f"m-0000{number + 1}-of-00002.gguf", own, split__count=2, split__no=number)
    shelf = hub.Hub(folders={"tests/split": folder.parent})
    for target in ("tests/split", "tests/split/q8/m-00002-of-00002.gguf"):
        (row, *_) = looked(shelf, target, tmp_path)
        assert row["file_bytes"] == 4 * sum(math.prod(shape) for shape in tensors.values())


def test_what_no_look_can_be_taken_at_is_one_line(tmp_path: Path) -> None:
    """Several files are listed with the command for one; what is missing, damaged, no model or not sent in parts."""
    folder = tmp_path / "shelf"
    gguf_files.write(folder / "a-f32.gguf")
    gguf_files.write(folder / "b" / "projector.gguf", {"v.patch.weight": (8, 8)}, "clip")
    (folder / "cut.gguf").write_bytes((folder / "a-f32.gguf").read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("nothing")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "config.json").write_text("[]")
    folders = {"tests/three": folder, "tests/none": tmp_path / "empty", "tests/list": tmp_path / "list"}
    shelf = hub.Hub(folders=folders, refusing={"tests/shut": "disabled"})
    size = human_bytes((folder / "a-f32.gguf").stat().st_size)
    projector = human_bytes((folder / "b" / "projector.gguf").stat().st_size)
    elsewhere = "name another repository, or inspect what lies here"
    said = {
        "tests/three": f"tests/three holds 3 GGUF files: a-f32.gguf ({size}), b/projector.gguf ({projector}), "
        f"cut.gguf ({size}); name the one that is meant: bench inspect hf://tests/three/a-f32.gguf",
        "tests/three/c.gguf": "tests/three holds no c.gguf; what it holds: bench inspect hf://tests/three",
        "tests/three/b/projector.gguf": "b/projector.gguf is a projector; name the model's own file",
        "tests/none": "tests/none holds neither a config.json with safetensors nor a .gguf file; "
        "name a repository that does",
        "tests/none/m-00001-of-00002.gguf": "tests/none holds no m-00001-of-00002.gguf or not all of its 2 parts; "
        "what it holds: bench inspect hf://tests/none",
        "tests/list": "tests/list: its config.json or a header is no JSON object; name a repository that is whole",
        "tests/gone/m.gguf": "the Hub has no tests/gone: gone, renamed, or private (`hf auth login`); " + elsewhere,
        "tests/shut/m.gguf": f"the Hub has disabled tests/shut; {elsewhere}",
    }
    for target, line in said.items():
        assert refused(shelf, target, tmp_path) == f"bench: {line}\n"
    assert "cut.gguf: truncated: its header promises" in refused(shelf, "tests/three/cut.gguf", tmp_path)
    shelf.ranges = False
    whole = "bench: the server of a-f32.gguf sends no part of a file; download it and inspect the file\n"
    assert refused(shelf, "tests/three/a-f32.gguf", tmp_path) == whole
    with hub.serving(shelf):
        url = shelf.url
    away = "try again later, or inspect a folder or a file of this machine"
    for target in ("tests/three", "tests/three/a-f32.gguf"):
        done = inspected(url, target, tmp_path)
        line = f"bench: the Hub cannot be asked for tests/three (ConnectError); {away}\n"
        assert (done.returncode, done.stderr) == (2, line)


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


@pytest.mark.parametrize("target", ["nothere.gguf", "./nothere", "/no/folder"])
def test_a_place_where_nothing_lies_is_no_entry(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No name that is near it is offered."""
    code, _, error = called(capsys, "inspect", target)
    remedy = "bench inspect ENTRY, FOLDER, FILE.gguf or hf://ORG/NAME"
    assert (code, error) == (2, f"bench: no folder or file {target}; {remedy}\n")


def test_nothing_to_inspect_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With what can be."""
    code, _, error = called(capsys, "inspect")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("bench: nothing to inspect; bench inspect ENTRY, FOLDER")
