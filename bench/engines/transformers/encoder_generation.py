# SPDX-License-Identifier: Apache-2.0
"""Answers of an encoder-decoder model side by side: contexts of any lengths encoded together, decoders in step.

All decoders of a batch begin together, so that they stand at one position and need no mask of their own; rows whose
answers have ended are taken out, and the next batch begins when the last one has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from bench.engines.abilities import Asked, Take
from bench.engines.contract import DoesNotFit, check_context
from bench.engines.transformers.columns import chosen_of, send
from bench.engines.transformers.engine import fits, padded
from bench.engines.transformers.onednn import through_onednn


class EncodedSideBySide:
    """Generates the answers of one call."""

    def __init__(self, model: PreTrainedModel, start: int, fill: int, asked: Sequence[Asked], take: Take) -> None:
        self.model, self.fill, self.asked, self.take = model, fill, asked, take
        self.texts = [[start] for _ in asked]
        """What each decoder has read or will read next."""

    def run(self, most: int, positions: int) -> int:
        """Until every answer has ended; how many stood side by side at most, fewer where memory ran out."""
        order = sorted(range(len(self.asked)), key=lambda i: -len(self.asked[i].tokens))
        waiting = deque(order[at : at + most] for at in range(0, len(order), most))
        while waiting:
            running = waiting.popleft()
            try:
                with torch.inference_mode(), fits("generate"), through_onednn(self.model):
                    self._run(running, positions)
            except DoesNotFit:
                if most == 1:
                    raise
                most = min(most, max(1, (len(running) + 1) // 2))
                groups = [*([running] if running else []), *waiting]
                waiting = deque(group[at : at + most] for group in groups for at in range(0, len(group), most))
        return most

    def _run(self, running: list[int], positions: int) -> None:
        """Decode a batch whose decoders have read equally much; ended answers leave `running`."""
        read, mask = padded([self.asked[index].tokens for index in running], self.fill, self.model.device)
        encoded = self.model.get_encoder()(input_ids=read, attention_mask=mask)
        past, tokens = None, send([self.texts[index] for index in running], self.model.device)
        while running:
            check_context(len(self.texts[running[0]]), positions)
            out = self.model(
                encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=tokens, past_key_values=past,
                use_cache=True,
            )  # fmt: skip
            past = out.past_key_values
            chosen, told = chosen_of(out.logits[:, -1])
            kept = self._going_on(running, told)
            tokens = chosen[:, None]
            if len(kept) < len(running):
                running[:] = [running[place] for place in kept]
                places = send(kept, self.model.device)
                past.batch_select_indices(places)
                tokens, mask = tokens[places], mask[places]
                encoded.last_hidden_state = encoded.last_hidden_state[places]

    def _going_on(self, running: Sequence[int], tokens: Sequence[int]) -> list[int]:
        """Hand over each one's next token, -1 for none; the places of those that go on."""
        kept = []
        for place, token in enumerate(tokens):
            if self.take(running[place], token if token >= 0 else None):
                self.texts[running[place]].append(token)
                kept.append(place)
        return kept
