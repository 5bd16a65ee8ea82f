# SPDX-License-Identifier: Apache-2.0
"""Passes of one session over tokens behind those that are carried, and logits where they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnxruntime import OrtValue

from bench.engines.contract import Unsupported
from bench.engines.exported.logits import Floats
from bench.engines.exported.reading import UNSEEN, mask
from bench.engines.onnxruntime.graph import LOGITS, MASK, ROWS

PAST, PRESENT = "past_key_values.", "present."


@dataclass(frozen=True)
class State:
    """Keys or values of one layer: what goes in, and what comes out."""

    past: str
    present: str
    heads: int
    width: int


def states(session: Any) -> tuple[State, ...]:
    """Those of a session. Raises Unsupported where it carries anything else: of a recurrent layer."""
    outputs = {output.name for output in session.get_outputs()}
    others = {"input_ids", "attention_mask", "position_ids", ROWS, MASK}
    found = []
    for asked in session.get_inputs():
        if asked.name in others:
            continue
        present = asked.name.replace(PAST, PRESENT)
        shape = asked.shape
        if len(shape) != 4 or not isinstance(shape[1], int) or not isinstance(shape[3], int) or present not in outputs:
            raise Unsupported("the exported model carries other states than keys and values")
        found.append(State(asked.name, present, shape[1], shape[3]))
    if not found:
        raise Unsupported("the exported model carries no keys and values")
    return tuple(found)


class Reader:
    """What one sequence of passes carries."""

    def __init__(self, session: Any) -> None:
        self.session, self.states = session, states(session)
        self.inputs = {asked.name for asked in session.get_inputs()}
        self.asked = [LOGITS, *(state.present for state in self.states)]
        self.held = 0
        self.values: list[OrtValue] = []
        """Keys and values as the last pass left them: the library makes new ones, so these are never overwritten."""

    def read(
        self, texts: Sequence[Sequence[int]], rows: ArrayLike, *, depths: Sequence[int] | None = None,
        seen: NDArray[np.bool_] | None = None,
    ) -> Floats:  # fmt: skip
        """Logits of `rows` (indices into all tokens read, text after text), shape (len(rows), vocabulary).

        Of one text, `depths` may say where each token stands, and `seen` (tokens, tokens) which of the others it sees;
        what is carried all see.
        """
        tokens = np.array(texts, np.int64)
        batch, count = tokens.shape
        wanted = np.asarray(rows, np.int64)
        here = np.arange(self.held, self.held + count) if depths is None else np.array(depths, np.int64)
        logits = self._pass(tokens, wanted, np.tile(here, (batch, 1)), mask(count, self.held, seen))
        return logits if ROWS in self.inputs else logits.reshape(-1, logits.shape[-1])[wanted]

    def step(
        self, tokens: Sequence[int], sources: Sequence[int], depths: Sequence[int], seen: NDArray[np.bool_]
    ) -> Floats:
        """Logits (rows, vocabulary) behind one more token of each row.

        Row i goes on from row `sources[i]` of what is carried, stands at `depths[i]` and sees the columns `seen[i]`,
        its own last one among them: shape (rows, held + 1). Only where the graph takes rows and a mask.
        """
        if list(sources) != list(range(self.values[0].shape()[0])):
            kept = list(sources)
            self.values = [OrtValue.ortvalue_from_numpy(value.numpy()[kept]) for value in self.values]
        added = np.where(seen, np.float32(0), np.float32(UNSEEN))[:, None, None]
        column = np.array(tokens, np.int64)[:, None]
        return self._pass(column, np.arange(len(tokens)), np.array(depths, np.int64)[:, None], added)

    def _pass(
        self, tokens: NDArray[np.int64], rows: NDArray[np.int64], depths: NDArray[np.int64], added: Floats
    ) -> Floats:
        """One pass over tokens (sequences, count), and what it leaves is carried."""
        batch, count = tokens.shape
        given: dict[str, NDArray[Any]] = {
            "input_ids": tokens, "attention_mask": np.ones((batch, self.held + count), np.int64),
            "position_ids": depths, ROWS: rows, MASK: added,
        }  # fmt: skip
        feeds = {name: OrtValue.ortvalue_from_numpy(value) for name, value in given.items() if name in self.inputs}
        feeds |= zip((state.past for state in self.states), self.values or self._empty(batch), strict=True)
        made = self.session.run_with_ort_values(self.asked, feeds)
        self.values = made[1:]
        self.held += count
        logits: Floats = made[0].numpy()
        return logits

    def _empty(self, batch: int) -> list[OrtValue]:
        shapes = ((batch, state.heads, 0, state.width) for state in self.states)
        return [OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)) for shape in shapes]

    def clear(self) -> None:
        """Carry nothing."""
        self.values, self.held = [], 0

    def carried(self) -> list[Floats]:
        """A copy of what is carried, for `carry`: (sequences, heads, positions, width)."""
        return [value.numpy() for value in self.values]

    def carry(self, states: Sequence[Floats], held: int) -> None:
        """Carry the first `held` positions of a copy again, which nobody may change meanwhile."""
        self.values = [OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value[:, :, :held])) for value in states]
        self.held = held
