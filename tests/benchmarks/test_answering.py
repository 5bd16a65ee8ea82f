# SPDX-License-Identifier: Apache-2.0
"""Another build answers in a process of its own: its folder's code, any type of request, exact values both ways."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lm_eval")

from benchmarks.answering import Build, commit_of

FILES = {
    "bench/engines/registry.py": """
from types import SimpleNamespace
def backend(name):
    return SimpleNamespace(name=name, scheme=lambda scheme: scheme)
""",
    "benchmarks/default_model.py": """
from types import SimpleNamespace
def load(engines, scheme):
    print("a library says hello")
    return SimpleNamespace(told=f"{engines.name} {scheme}", plain_scoring=False)
""",
    "bench/scoring/lm.py": """
from types import SimpleNamespace
class EngineLM:
    def __init__(self, engine, max_length, done):
        self.engine, self.answers = engine, {}
    def loglikelihood(self, requests):
        print("and is noisy")
        return [(-len(one.args[0]) / 3, one.args[1] == "end") for one in requests]
    def generate_until(self, requests):
        plain = " plainly" * self.engine.plain_scoring
        self.answers = {one.doc_id: SimpleNamespace(tokens=one.args[1]["limit"]) for one in requests}
        return [f"{one.args[0]} by {self.engine.told}{plain}" for one in requests]
""",
}


def request(kind: str, *args: object) -> SimpleNamespace:
    """As much of lm-eval's request as is read."""
    return SimpleNamespace(request_type=kind, args=args)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with code of the same names as ours, and another's answers."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def test_a_build_answers_with_its_own_code_whatever_is_asked(checkout: Path) -> None:
    """Log-likelihoods to the last bit, then texts and their tokens, past what libraries print."""
    build = Build(sys.executable, checkout, ("transformers", "fp32"))
    asked = [request("loglikelihood", "four", "end"), request("loglikelihood", "grüße", "no end")]
    seconds, answers, tokens = build.answer(asked)
    assert (answers, tokens) == ([(-4 / 3, True), (-5 / 3, False)], 0)
    assert 0 <= seconds < 60
    asked = [request("generate_until", text, {"limit": limit}) for text, limit in (("a", 3), ("b", 4))]
    assert build.answer(asked)[1:] == (["a by transformers fp32", "b by transformers fp32"], 7)
    assert build.answer(asked[:1])[1:] == (["a by transformers fp32"], 3)
    build.close()
    assert build.process.returncode == 0


def test_a_build_can_be_asked_plainly(checkout: Path) -> None:
    """As `--plain-scoring` does."""
    build = Build(sys.executable, checkout, ("llamacpp", "gguf-q8_0"), plain=True)
    assert build.answer([request("generate_until", "a", {"limit": 1})])[1] == ["a by llamacpp gguf-q8_0 plainly"]
    build.close()


def test_a_build_that_ends_is_told_with_its_status(checkout: Path) -> None:
    """One that knows no such request, for example."""
    build = Build(sys.executable, checkout, ("transformers", "fp32"))
    with pytest.raises(RuntimeError, match=r"ended with 1"):
        build.answer([request("loglikelihood_rolling", "text")])


def test_the_commit_is_that_of_the_folder_and_a_folder_without_one_says_what_to_do(tmp_path: Path) -> None:
    """Not the commit of the folder that the script stands in."""
    with pytest.raises(SystemExit, match="--before-commit"):
        commit_of(tmp_path)
    named = ["-c", "user.name=a", "-c", "user.email=b"]
    for words in (["init", "-q"], [*named, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)  # noqa: S607 - whichever git is there
    head = (tmp_path / ".git" / "HEAD").read_text("utf-8").split()[1]
    assert (tmp_path / ".git" / head).read_text("utf-8").startswith(commit_of(tmp_path))
