# SPDX-License-Identifier: Apache-2.0
"""`python tests/hoarder.py LIMIT`: the capacity suite over an engine that really takes memory, its answers as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from builders import make_cell, make_model

from bench.engines import fake
from bench.engines.contract import LoadRequest
from bench.instruments import Instruments
from bench.instruments.clock import HostClock
from bench.instruments.memory import ProcessMemory
from bench.records.cell import Weights
from bench.suite import Loading, SuiteRun
from suites import capacity

BYTES_PER_TOKEN = 40_000


class Hoard(fake.FakeGeneration):
    """Holds so many real bytes for every position."""

    def __init__(self, engine: fake.FakeEngine, batch: int, tokens: int, suppress: Collection[int]) -> None:
        super().__init__(engine, batch, tokens, suppress)
        self.held = [bytearray(BYTES_PER_TOKEN * batch * tokens)]

    def step(self) -> list[int]:
        """One position more."""
        self.held.append(bytearray(BYTES_PER_TOKEN * self.batch))
        return super().step()


class Hoarder(fake.FakeEngine):
    """The fake, but what it holds is there."""

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> Hoard:
        """Take it."""
        return Hoard(self, len(prompts), len(prompts[0]), suppress)


def main() -> None:
    """Measure and print."""
    scheme = fake.BACKEND.scheme("fake-fp16")
    assert scheme is not None
    memory = ProcessMemory()
    reading = memory.read()
    settings = {**capacity.PROFILES["smoke"], "memory_limit_bytes": int(sys.argv[1])}
    engine = Hoarder(LoadRequest(model=make_model(), weights=Weights.RANDOM, scheme=scheme, device="cpu"))
    run = SuiteRun(
        cell=make_cell("capacity", settings=settings), engine=engine, instruments=Instruments(HostClock(), memory),
        loading=Loading(seconds=0.0, baseline=reading, peak=reading, ready=reading, loaded=reading), cache=Path(),
    )  # fmt: skip
    found = capacity.measure(run)
    memory.trim()
    json.dump({"base": memory.read().total_bytes, "found": [m.model_dump(mode="json") for m in found]}, sys.stdout)


if __name__ == "__main__":
    main()
