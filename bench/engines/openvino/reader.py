# SPDX-License-Identifier: Apache-2.0
"""One request to a compiled model: it reads tokens behind those it holds, and gives logits where they are wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.engines.contract import DoesNotFit
from bench.engines.exported.logits import Floats
from bench.engines.exported.reading import SEQUENCE, UNSEEN, mask
from bench.engines.openvino.graph import MASK, ROWS
from bench.instruments.memory import ProcessMemory

NO_MEMORY = re.compile(r"bad.?alloc|allocate|not enough memory", re.IGNORECASE)


@contextmanager
def fits(phase: str) -> Iterator[None]:
    """Turn OpenVINO's ways of running out of memory into DoesNotFit."""
    try:
        yield
    except MemoryError as error:
        raise DoesNotFit(phase) from error
    except RuntimeError as error:
        if not NO_MEMORY.search(str(error)):
            raise
        raise DoesNotFit(phase, None, ProcessMemory().capacity_bytes()) from error


class Reader:
    """What one infer request carries, and passes over tokens behind that."""

    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()
        self.inputs = {name for port in compiled.inputs for name in port.names}
        self.held = 0
        """Positions of each sequence that are carried."""

    def read(
        self, texts: Sequence[Sequence[int]], rows: ArrayLike, *, depths: Sequence[int] | None = None,
        seen: NDArray[np.bool_] | None = None,
    ) -> Floats:  # fmt: skip
        """Logits of `rows` (indices into all tokens read, text after text), shape (len(rows), vocabulary).

        A graph without that input gives all, shape (texts, tokens, vocabulary).

        They are overwritten by the next pass. Of one text, `depths` may say where each token stands, and `seen`
        (tokens, tokens) which of the others it sees; what is carried all see.
        """
        tokens = np.array(texts, np.int64)
        batch, count = tokens.shape
        inputs: dict[str, Any] = {
            "input_ids": tokens, "beam_idx": np.arange(batch, dtype=np.int32)
        }  # fmt: skip
        if ROWS in self.inputs:
            inputs[ROWS] = np.asarray(rows, np.int64)
        if "attention_mask" in self.inputs:
            inputs["attention_mask"] = np.ones((batch, self.held + count), np.int64)
        if "position_ids" in self.inputs:
            here = np.arange(self.held, self.held + count) if depths is None else np.array(depths, np.int64)
            inputs["position_ids"] = np.tile(here, (batch, 1))
        if MASK in self.inputs:
            inputs[MASK] = mask(count, self.held, seen)
        self.request.infer(inputs, share_inputs=True)
        self.held += count
        logits: Floats = self.request.get_output_tensor(0).data
        return logits

    def step(
        self, tokens: Sequence[int], sources: Sequence[int], depths: Sequence[int], seen: NDArray[np.bool_]
    ) -> Floats:
        """Logits (rows, vocabulary) behind one more token of each row, overwritten by the next pass.

        Row i goes on from row `sources[i]` of what is carried, stands at `depths[i]` and sees the columns `seen[i]`,
        its own last one among them: shape (rows, held + 1).
        """
        count = len(tokens)
        inputs: dict[str, Any] = {
            "input_ids": np.array(tokens, np.int64)[:, None], "beam_idx": np.array(sources, np.int32),
            "position_ids": np.array(depths, np.int64)[:, None], ROWS: np.arange(count),
            "attention_mask": np.ones((count, self.held + 1), np.int64),
            MASK: np.where(seen, np.float32(0), np.float32(UNSEEN))[:, None, None],
        }  # fmt: skip
        given = {name: value for name, value in inputs.items() if name in self.inputs}
        self.request.infer(given, share_inputs=True)
        self.held += 1
        logits: Floats = self.request.get_output_tensor(0).data
        return logits

    def clear(self) -> None:
        """Carry nothing."""
        self.request.reset_state()
        self.held = 0

    def carried(self) -> list[NDArray[Any]]:
        """A copy of what is carried, for `carry`."""
        return [np.array(state.state.data) for state in self.request.query_state()]

    def carry(self, states: Sequence[NDArray[Any]], held: int) -> None:
        """Carry the first `held` positions of a copy again."""
        import openvino as ov

        for state, value in zip(self.request.query_state(), states, strict=True):
            state.state = ov.Tensor(np.ascontiguousarray(value.take(range(held), SEQUENCE)))
        self.held = held
