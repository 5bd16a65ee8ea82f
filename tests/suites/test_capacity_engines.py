# SPDX-License-Identifier: Apache-2.0
"""The capacity suite on real engines: tiny models that generate, keep no cache, translate or fill blanks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import make_cell, make_model

from bench.catalog.model import Objective
from bench.engines.contract import Backend, Engine, LoadRequest, Unsupported
from bench.judge.figures import figures
from bench.records.cell import Weights
from bench.records.record import Measurement
from bench.suite import Loading, SuiteRun
from suites import capacity

GIB = 2**30


def measured(backend: Backend, engine: Engine, tmp_path: Path, **settings: Any) -> dict[str, Measurement]:
    """The suite's answers over an engine, at the smoke profile unless said otherwise."""
    tools = backend.instruments("cpu")
    reading = tools.memory.read()
    cell = make_cell("capacity", settings={**capacity.PROFILES["smoke"], "memory_limit_bytes": 4 * GIB, **settings})
    run = SuiteRun(
        cell=cell, engine=engine, instruments=tools, cache=tmp_path,
        loading=Loading(seconds=0.0, baseline=reading, peak=reading, ready=reading, loaded=reading),
    )  # fmt: skip
    return {m.name + str(m.labels.get("of", "")): m for m in capacity.measure(run)}


@pytest.fixture(scope="session")
def torch_engine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Backend, Engine]]:
    """A tiny float32 model of a family."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import tiny

    from bench.engines.transformers import BACKEND

    objectives = {"t5": Objective.SEQ2SEQ, "bert": Objective.MASKED}

    def load(kind: str) -> tuple[Backend, Engine]:
        folder = tiny.checkpoint(tmp_path_factory.mktemp("capacity"), kind)
        scheme = BACKEND.scheme("fp32")
        assert scheme is not None
        model = make_model(objective=objectives.get(kind, Objective.CAUSAL), repo=None)
        engine = BACKEND.load(
            LoadRequest(model=model, weights=Weights.LOCAL, scheme=scheme, device="cpu", path=str(folder))
        )
        return BACKEND, engine  # type: ignore[return-value]

    return load


@pytest.mark.parametrize(("kind", "context"), [("llama", 256), ("gpt2", 256), ("openai-gpt", 256), ("mistral", 256)])
def test_a_tiny_model_runs_to_the_end_of_its_context(
    torch_engine: Callable[[str], tuple[Backend, Engine]], tmp_path: Path, kind: str, context: int
) -> None:
    """With learned and with rotary positions, with a cache, without one, with one that slides."""
    found = measured(*torch_engine(kind), tmp_path, trial_tokens=1000)
    answer, batch = found["max_context_tokens"], found["max_batch"]
    assert (answer.values, answer.labels["bound"]) == ((context,), "context")
    assert (batch.values, batch.labels["bound"]) == ((7,), "tokens")
    peaks = found["trial_bytesmax_context_tokens"].values
    assert all(50e6 < peak < 4 * GIB for peak in peaks)
    assert answer.labels["peak_bytes"] == peaks[-1]


def test_a_translator_s_context_is_what_both_halves_hold(
    torch_engine: Callable[[str], tuple[Backend, Engine]], tmp_path: Path
) -> None:
    """T5 declares no context: the profile's ceiling is met; the encoder reads it and the decoder answers."""
    found = measured(*torch_engine("t5"), tmp_path, trial_tokens=600, objective="seq2seq")
    assert (found["max_context_tokens"].values, found["max_context_tokens"].labels["bound"]) == ((600,), "tokens")
    assert found["max_batch"].values == (4,)


def test_a_filler_of_blanks_reads_its_context_and_has_no_batch(
    torch_engine: Callable[[str], tuple[Backend, Engine]], tmp_path: Path
) -> None:
    """256 positions, two of them its start and end tokens."""
    found = measured(*torch_engine("bert"), tmp_path, objective="masked")
    assert (found["max_context_tokens"].values, found["max_context_tokens"].labels["bound"]) == ((254,), "context")
    assert "max_batch" not in found


def test_an_absolute_peak_counts_the_libraries(
    torch_engine: Callable[[str], tuple[Backend, Engine]], tmp_path: Path
) -> None:
    """A budget that the model alone would fit many times, and the process does not."""
    from bench.engines.contract import DoesNotFit

    backend, engine = torch_engine("llama")
    assert engine.census().total_bytes < 2**20
    with pytest.raises(DoesNotFit, match="with the model loaded and nothing read yet"):
        measured(backend, engine, tmp_path, memory_limit_bytes=60 * 2**20)


@pytest.fixture(scope="session")
def llama_engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backend, Engine]:
    """A tiny random GGUF in llama.cpp."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed here: nox -s bench-llamacpp has it")
    pytest.importorskip("gguf")
    from tiny_gguf import config, load

    from bench.engines.llamacpp import BACKEND, random_weights

    path = tmp_path_factory.mktemp("gguf") / "llama.gguf"
    random_weights.write(path, config("llama"), "gguf-f32")
    return BACKEND, load(path)


def test_llama_cpp_gets_a_context_of_its_own_for_each_trial(
    llama_engine: tuple[Backend, Engine], tmp_path: Path
) -> None:
    """1024 positions are its own; the cells it reserved for one trial are given back before the next."""
    found = measured(*llama_engine, tmp_path, trial_tokens=1100)
    assert (found["max_context_tokens"].values, found["max_context_tokens"].labels["bound"]) == ((1024,), "context")
    assert (found["max_batch"].values, found["max_batch"].labels["bound"]) == ((8,), "tokens")
    assert llama_engine[1].spare is None  # type: ignore[attr-defined]


def test_llama_cpp_says_how_many_sequences_it_takes(llama_engine: tuple[Backend, Engine], tmp_path: Path) -> None:
    """256 by its build: one line instead of a crash, and the search ends exactly there."""
    _, engine = llama_engine
    with pytest.raises(Unsupported, match="takes at most 256 sequences at once"):
        engine.prefill([[1, 2]] * 257)
    found = measured(*llama_engine, tmp_path, batch_prompts=[8], decode_tokens=1, trial_tokens=10_000)
    batch = found["max_batch"]
    assert (batch.values, batch.labels["bound"]) == ((256,), "sequences")


def test_answers_become_figures() -> None:
    """By the names that tables use."""
    from builders import make_record, sample

    record = make_record(
        make_cell("capacity"), measurements=(sample("max_batch", 3, prompt_tokens=64, budget_bytes=5, bound="memory"),)
    )
    assert {name: value.value for name, value in figures(record).items()} == {"max_batch:64": 3, "budget_bytes": 5}
