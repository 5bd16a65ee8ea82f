# SPDX-License-Identifier: Apache-2.0
"""Several cards of one box: virtual ones of the fake engine, real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from builders import called
from drilled import PATIENCE_S, linux

from bench.errors import UserError
from bench.instruments import machine
from bench.paths import ROOT
from bench.records.store import Store
from bench.run import devices
from bench.run.locks import measuring, measuring_on

ASKED = ("run", "--backend", "fake", "--profile", "smoke", "--suite", "memory,divergence", "--precision", "fp16,int8")


WAYS = "cpu, cuda, mps, cuda:1, several side by side as cuda:0,cuda:1, one model over several as cuda:0+cuda:1, or all"


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three virtual ones, and an environment that is as before afterwards."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(machine.VIRTUAL, "3")
    for name in ("CUDA_VISIBLE_DEVICES", machine.UNIT):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    machine.gpu.cache_clear()
    yield
    machine.gpu.cache_clear()


@linux
@pytest.mark.usefixtures("cards")
def test_several_cards_share_the_cells_and_each_row_names_its_very_card(tmp_path: Path) -> None:
    """Every cell once; what is compared with each other is measured on one card."""
    results = tmp_path / "results"
    options = ("--device", "all", "--model", "gpt2*", "--results", str(results))
    done = subprocess.run(
        [sys.executable, "-m", "bench", *ASKED, *options], cwd=ROOT, env={**os.environ}, capture_output=True, text=True,
        check=False, timeout=PATIENCE_S * 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "measuring on cuda:0, cuda:1, cuda:2; `bench status` in another terminal shows how far"
    )
    records = list(Store(results).records())
    assert set(Counter(record.cell.key for record in records).values()) == {1}
    models = {record.cell.model for record in records}
    assert len(models) == 4 and len(records) == 16
    units = {model: {r.machine.unit for r in records if r.cell.model == model} for model in models}
    assert all(len(unit) == 1 for unit in units.values())
    assert set.union(*units.values()) <= {"cuda:0", "cuda:1", "cuda:2"}
    assert len(set.union(*units.values())) > 1
    assert {record.cell.device for record in records} == {"cuda-virtual-gpu"}
    assert [path.name for path in (results / ".runs").iterdir() if path.name not in {".gitignore", "last.json"}] == []


@linux
@pytest.mark.usefixtures("cards")
def test_the_same_call_on_several_cards_measures_only_what_is_unsettled(tmp_path: Path) -> None:
    """Whichever card had answered the rest."""
    results = tmp_path / "results"
    options = ("--device", "cuda:0,cuda:1", "--model", "gpt2,gpt2-medium", "--results", str(results))
    codes = []
    for fault in ("error@log_probs:fake-int8", ""):
        done = subprocess.run(
            [sys.executable, "-m", "bench", *ASKED, *options], cwd=ROOT, env={**os.environ, "BENCH_FAKE_FAULT": fault},
            capture_output=True, check=False, timeout=PATIENCE_S * 2,
        )  # fmt: skip
        codes.append(done.returncode)
    assert codes == [1, 0]
    records = list(Store(results).records())
    endings = Counter(str(record.outcome.ending) for record in records)
    assert endings["ok"] == 8
    assert 2 <= endings["failed"] <= 4, "once, or once more by a card that came when the other was done"
    assert len({record.run for record in records}) == 1


@pytest.mark.usefixtures("cards")
def test_one_card_is_chosen_by_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no other is seen by what computes."""
    results = tmp_path / "results"
    code, _, said = called(capsys, *ASKED, "--device", "cuda:1", "--results", results)
    assert code == 0, said
    assert {record.machine.unit for record in Store(results).records()} == {"cuda:1"}
    assert machine.computing_on("cuda") == {"CUDA_VISIBLE_DEVICES": "GPU-virtual-1"}
    assert machine.lock_name(machine.describe("cuda")) == "cuda-virtual-gpu-gpu-virtual-1"


@pytest.mark.usefixtures("cards")
def test_cards_that_measure_as_one_are_a_device_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the memory of both; the row names all of them, what computes sees them, and nobody else measures on one."""
    results = tmp_path / "results"
    code, _, said = called(capsys, *ASKED, "--device", "cuda:2+cuda:0", "--results", results)
    assert code == 0, said
    (here,) = {record.machine for record in Store(results).records()}
    assert (here.unit, here.device, here.name) == ("cuda:2+cuda:0", "cuda-2x-virtual-gpu", "2x Virtual GPU")
    assert here.gpu_memory_bytes == 2 * machine.VIRTUAL_BYTES
    assert machine.computing_on("cuda") == {"CUDA_VISIBLE_DEVICES": "GPU-virtual-2,GPU-virtual-0"}
    own = ["cuda-virtual-gpu-gpu-virtual-0", "cuda-virtual-gpu-gpu-virtual-2"]
    assert machine.lock_names(here) == own
    with measuring_on(own, wait=False, tell=print), pytest.raises(UserError, match=own[1]), ExitStack() as second:
        second.enter_context(measuring(own[1], wait=False, tell=print))


@linux
@pytest.mark.usefixtures("cards")
def test_a_pair_of_cards_measures_beside_a_third(tmp_path: Path) -> None:
    """They are two devices, so each answers all that is asked."""
    results = tmp_path / "results"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *ASKED, "--device", "cuda:0+cuda:1,cuda:2", "--results", str(results)],
        cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False, timeout=PATIENCE_S * 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = Counter((record.machine.unit, record.cell.device) for record in Store(results).records())
    assert found == {("cuda:0+cuda:1", "cuda-2x-virtual-gpu"): 4, ("cuda:2", "cuda-virtual-gpu"): 4}


@pytest.mark.usefixtures("cards")
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda:7", "this machine has no cuda:7; it has cuda:0, cuda:1, cuda:2"),
        ("cuda:0,cuda:7", "this machine has no cuda:7; it has cuda:0, cuda:1, cuda:2"),
        ("cuda:0+cuda:7", "this machine has no cuda:7; it has cuda:0, cuda:1, cuda:2"),
        ("cuda:0+cuda:1,cuda:1", f"no device 'cuda:0+cuda:1,cuda:1'; {WAYS}"),
        ("cpu,cuda:0", "no devices 'cpu,cuda:0'; the CPU measures alone: what runs beside it would slow it down"),
        ("cuda:0,cuda:0", f"no device 'cuda:0,cuda:0'; {WAYS}"),
        ("gpu", f"no device 'gpu'; {WAYS}"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    device: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what there is."""
    code, _, errors = called(capsys, *ASKED, "--device", device, "--results", tmp_path)
    assert (code, errors) == (2, f"bench: {said}\n")


@pytest.mark.usefixtures("cards")
def test_an_engine_that_counts_one_card_alone_is_refused_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures would leave out what the others hold."""
    asked = ("run", "--backend", "llamacpp", "--device", "cuda:0+cuda:1", "--results", tmp_path)
    code, _, errors = called(capsys, *asked)
    assert (code, errors) == (2, "bench: backend llamacpp measures on one card; name one, as --device cuda:1\n")


def test_without_a_card_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what there is."""
    monkeypatch.setattr(machine, "cards", list)
    monkeypatch.setattr(machine, "device_kind", lambda: "cpu")
    with pytest.raises(Exception, match="this machine has no cuda:7; it has no NVIDIA GPU; --device cpu"):
        devices.named(("cuda:7",))
