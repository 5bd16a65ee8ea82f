# SPDX-License-Identifier: Apache-2.0
"""Scores of many rows by an encoder-decoder model: each context read once, whatever is scored behind it.

The encoder's pass, the keys and values its output becomes in every decoder layer, and the decoder's first step belong
to a context; its continuations share them. A continuation of one token needs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from bench.engines.contract import Row, Score
from bench.engines.transformers.engine import padded
from bench.engines.transformers.likelihood import scored


def score_by_context(
    model: PreTrainedModel, rows: Sequence[Row], *, start: int, fill: int, tokens: int, done: Callable[[int], None]
) -> list[Score]:
    """Log-probabilities (nats, float32) of every continuation as the decoder's target; call it in inference mode.

    `start` is the token the decoder begins with, `fill` one to pad with, `tokens` how many context tokens a batch may
    hold, those of every row counted; `done` hears how many rows are finished.
    """
    scores: dict[int, Score] = {}
    for batch in _batches(rows, tokens):
        scores |= zip(batch, _score_batch(model, [rows[index] for index in batch], start, fill), strict=True)
        done(len(scores))
    return [scores[index] for index in range(len(rows))]


def _batches(rows: Sequence[Row], tokens: int) -> Iterator[list[int]]:
    """Indices of rows, longest contexts first, those of one context side by side."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: (-len(rows[i].context), rows[i].context)):
        if batch and (len(batch) + 1) * len(rows[batch[0]].context) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _score_batch(model: PreTrainedModel, rows: Sequence[Row], start: int, fill: int) -> list[Score]:
    contexts = {context: place for place, context in enumerate(dict.fromkeys(row.context for row in rows))}
    owners = torch.tensor([contexts[row.context] for row in rows], device=model.device)
    read, mask = padded(list(contexts), fill, model.device)
    encoded = model.get_encoder()(input_ids=read, attention_mask=mask)
    begin = torch.full((len(contexts), 1), start, device=model.device)
    first = model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=begin, use_cache=True)
    logits = [first.logits[owners]]
    targets, _ = padded([row.continuation[:-1] for row in rows], fill, model.device)
    if targets.shape[1]:
        first.past_key_values.batch_select_indices(owners)
        encoded.last_hidden_state = encoded.last_hidden_state[owners]
        rest = model(
            encoder_outputs=encoded, attention_mask=mask[owners], decoder_input_ids=targets,
            past_key_values=first.past_key_values, use_cache=True,
        )  # fmt: skip
        logits.append(rest.logits)
    pairs = zip(torch.cat(logits, dim=1), rows, strict=True)
    return [scored(of_row[: len(row.continuation)], row.continuation) for of_row, row in pairs]
