# SPDX-License-Identifier: Apache-2.0
"""What every PyTorch engine shares: devices and their counters, running out of memory, tokens and the census."""

from __future__ import annotations

import copy
import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Self

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bench.engines.abilities import SMALLER, worth_dequantizing
from bench.engines.contract import DoesNotFit, LoadRequest, Row, Unsupported
from bench.engines.transformers import census
from bench.engines.transformers.eight_bit import in_few_passes
from bench.engines.transformers.loading import Loaded
from bench.engines.transformers.onednn import through_onednn
from bench.engines.transformers.sixteen_bit import in_float32
from bench.engines.transformers.token_rows import check_tokens, rows_of
from bench.engines.weights.stored import COMPRESSED
from bench.instruments import Instruments
from bench.instruments.clock import DeviceClock, HostClock
from bench.instruments.machine import spread
from bench.instruments.memory import CudaMemory, MpsMemory, ProcessMemory, host_free_bytes
from bench.instruments.several_cards import SeveralCards, synchronize_all
from bench.records.census import Census
from bench.records.record import Caveat

SCORE_TOKENS = {"cpu": 1024, "cuda": 16384, "mps": 4096}
"""Tokens of one scoring batch, padding included: fixed by the device, so that precisions share their batches."""
DEFAULT_CONTEXT = 2048
"""Positions of a model that declares none (BLOOM: ALiBi, T5: relative biases)."""
GRID_LIMIT = 0.9
MIXED = re.compile(r"same dtype|expected scalar type|not implemented for '(BFloat16|Half)'")
"""What torch says of operators that are given two types, or one that they lack."""
PACKED = 32
"""Rows that bitsandbytes packs together there (0.50.2, functional.py, `_convert_weight_packed_for_cpu`)."""
LONGEST, NAMED = 150, 3
"""Letters of that which are quoted, and parameters that are named."""


def open_instruments(device: str) -> Instruments:
    """Clock and memory counter of a device kind. Raises Unsupported if this torch cannot use it."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise Unsupported(f"an NVIDIA GPU is there, but torch {torch.__version__} cannot use it; pass --device cpu")
        import pynvml

        if (cards := spread()) > 1:
            clock = DeviceClock(synchronize_all(torch.cuda, cards), "cuda synchronize")
            return Instruments(clock, SeveralCards([CudaMemory(torch.cuda, pynvml, card) for card in range(cards)]))
        return Instruments(DeviceClock(torch.cuda.synchronize, "cuda synchronize"), CudaMemory(torch.cuda, pynvml))
    if device == "mps":
        return Instruments(DeviceClock(torch.mps.synchronize, "mps synchronize"), MpsMemory(torch.mps))
    return Instruments(HostClock(), ProcessMemory())


@contextmanager
def fits(phase: str) -> Iterator[None]:
    """Turn every library's way of running out of memory into DoesNotFit."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DoesNotFit(f"{phase}, on the GPU", _gib(str(error)), _gpu_left()) from error
    except MemoryError as error:
        raise DoesNotFit(phase) from error
    except RuntimeError as error:
        wanted = re.search(r"tried to allocate (\d+) bytes", str(error))
        if not wanted:
            raise
        raise DoesNotFit(phase, int(wanted[1]), ProcessMemory().capacity_bytes()) from error


@contextmanager
def computes(model: PreTrainedModel) -> Iterator[None]:
    """Say which class cannot compute in the type or scheme it was loaded in, and why: that is for libraries to mend.

    Some classes declare parameters as float32, and loading leaves these so beside all the others (transformers 5.23.0:
    DeBERTa's query and value biases, XLNet's projections).
    """
    try:
        yield
    except AssertionError as error:
        narrow = _not_packed(model)
        if not narrow or "divisible by block_n" not in str(error):
            raise
        raise Unsupported(f"bitsandbytes packs 4-bit matrices by {PACKED} rows on this CPU: {narrow}") from error
    except RuntimeError as error:
        said = " ".join(str(error).split())
        if not MIXED.search(said):
            raise
        kind = model.get_input_embeddings().weight.dtype
        others = dict.fromkeys(
            name.rpartition(".")[2]
            for name, parameter in model.named_parameters()
            if parameter.is_floating_point() and parameter.dtype is not kind
        )
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        why = f"its parameters {', '.join(list(others)[:NAMED])}{more} stay float32" if others else said
        name = f"transformers {transformers.__version__}'s {type(model).__name__}"
        raise Unsupported(f"{name} does not compute in {str(kind).removeprefix('torch.')}: {why[:LONGEST]}") from error


def _not_packed(model: PreTrainedModel) -> str:
    """The first 4-bit layer whose rows bitsandbytes cannot pack on CPUs with AVX-512 BF16, empty if there is none."""
    four = ((name, m.out_features) for name, m in model.named_modules() if type(m).__name__ == "Linear4bit")
    return next((f"{name} has {rows}" for name, rows in four if rows % PACKED), "")


def _gpu_left() -> int | None:
    """What the allocator could still take: what is free on the card, or of its own share where that is limited.

    Of several cards the fullest one's.
    """
    if not torch.cuda.is_available():
        return None
    return min(map(_card_left, range(spread())))


def _card_left(card: int) -> int:
    free, total = torch.cuda.mem_get_info(card)
    share = torch.cuda.get_per_process_memory_fraction(card) * total - torch.cuda.memory_reserved(card)
    return min(int(free), max(0, int(share)))


def left_bytes(device: str) -> int:
    """Memory of the device kind that nobody holds, or the rest of this process's share or container."""
    return (_gpu_left() or 0) if device == "cuda" else host_free_bytes()


def _gib(message: str) -> int | None:
    found = re.search(r"allocate ([\d.]+) (KiB|MiB|GiB)", message)
    return int(float(found[1]) * 1024 ** {"KiB": 1, "MiB": 2, "GiB": 3}[found[2]]) if found else None


class TorchEngine:
    """A loaded transformers model; its subclasses say how an objective reads, generates and scores."""

    def __init__(self, request: LoadRequest, loaded: Loaded) -> None:
        self.device, self.scheme = request.device, request.scheme
        self.model, self.tokenizer, self.provenance = loaded.model, loaded.tokenizer, loaded.provenance
        self.plain_scoring, self.kv = request.plain_scoring, request.kv
        self.small_batches = request.small_batches
        usual = SCORE_TOKENS[self.device] // (SMALLER if self.small_batches else 1)
        self.batch_tokens = 1 if self.scheme.whole_pass else usual
        """Tokens of one scoring batch, padding included; with room for one, every sequence is a batch of its own."""
        config = self.model.config.get_text_config()
        self.vocabulary = int(config.vocab_size)
        self.rows = rows_of(self.model)
        self.context_length = positions(self.model) or DEFAULT_CONTEXT
        ends = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        listed = ends if isinstance(ends, list) else [ends]
        self.end_tokens = frozenset(t for t in [*listed, self.tokenizer.eos_token_id] if t is not None)
        starts = [getattr(of, f"{end}_token_id", None) for of in (self.tokenizer, config) for end in ("bos", "eos")]
        self.prefix_token = int(next((start for start in starts if start is not None), 0))
        self.threads = torch.get_num_threads() if self.device == "cpu" else None
        with computes(self.model):
            self.warm()
        self.caveats: tuple[Caveat, ...] = (*self._grid_caveat(), *loaded.caveats)

    def warm(self) -> None:
        """One short forward pass: bitsandbytes repacks its weights there."""
        raise NotImplementedError

    def _grid_caveat(self) -> tuple[Caveat, ...]:
        share = None if self.provenance.stored_as in COMPRESSED else self.census().grid_share
        if share is None or share < GRID_LIMIT:
            return ()
        stored = f" (the source stores {self.provenance.stored_as})" if self.provenance.stored_as else ""
        return (
            Caveat(
                kind="low_bit_grid",
                text=f"{share:.0%} of sampled blocks hold at most 16 values: these weights were 4-bit before{stored}",
                advice="its 16-bit row is a dequantized model; read what 4-bit costs from full-precision weights",
            ),
        )

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of the text; no warning about its length, callers cut. Raises UserError for one without a row."""
        tokens: list[int] = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        check_tokens(tokens, self.tokenizer, self.rows)
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones shown."""
        return str(self.tokenizer.decode(list(tokens)))

    def tensor(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Token ids of equally long rows on the model's device."""
        return torch.tensor([list(row) for row in rows], dtype=torch.long, device=self.model.device)

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's own, None if it has none."""
        template: str | None = self.tokenizer.chat_template
        return template

    def chat(self, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
        """A conversation as the tokenizer's template writes it."""
        options = {"add_generation_prompt": answer, "continue_final_message": not answer}
        return str(self.tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, **options))

    def padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows filled up on the right, and the mask that tells tokens from filling."""
        return padded(rows, self.prefix_token, self.model.device)

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """What calls that score run in: no gradients, memory that is told, and products that take less time.

        Plain scoring multiplies as the libraries do by themselves.
        """
        with ExitStack() as held:
            held.enter_context(torch.inference_mode())
            held.enter_context(fits("score"))
            for products in () if self.plain_scoring else (through_onednn, in_float32, in_few_passes):
                held.enter_context(products(self.model))
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What calls that give whole distributions run in: products are the library's own where a CPU has them.

        Where it has none they are summed in another order, and rounded the same: else one window of bfloat16 takes
        longer there than all other rows together.
        """
        with torch.inference_mode(), fits("score"), nullcontext() if self.plain_scoring else in_float32(self.model):
            yield

    def census(self) -> Census:
        """Count the parameters."""
        return census.count(self.model)

    @contextmanager
    def dequantized(self) -> Iterator[Self | None]:
        """Itself with a model of float32 weights, where they were quantized while it loaded on a CPU and both fit."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        if (
            not self.scheme.name.startswith(("bnb-", "torchao-"))
            or self.device != "cpu"
            or not worth_dequantizing(count, ProcessMemory().capacity_bytes())
        ):
            yield None
        else:
            from bench.engines.transformers.dequantized import widened

            twin = copy.copy(self)
            with fits("score"):
                twin.model = widened(self.model)
            yield twin
            del twin.model
            gc.collect()

    def close(self) -> None:
        """Free the model and give cached device memory back."""
        del self.model
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


def positions(model: PreTrainedModel) -> int | None:
    """Positions that a sequence may have, None without a limit.

    RoBERTa and its kin number them from behind the padding's own: of the 514 rows they declare, 512 can be used.
    """
    declared = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    usable = [
        module.num_embeddings - module.padding_idx - 1
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return min([int(declared), *usable]) if declared and declared > 0 else None  # XLNet declares -1


def padded(rows: Sequence[Sequence[int]], fill: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows filled up on the right with the token `fill`, and the mask that tells tokens from filling."""
    longest = max(map(len, rows))
    tokens = [[*row, *[fill] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(tokens, dtype=torch.long, device=device), torch.tensor(mask, device=device)


def next_tokens(logits: torch.Tensor, suppress: torch.Tensor) -> torch.Tensor:
    """The most probable token of each row of logits, shape (rows, 1); those in `suppress` are never it."""
    if len(suppress):
        logits = logits.index_fill(-1, suppress, float("-inf"))
    return logits.argmax(-1, keepdim=True)


def row_batches(rows: Sequence[Row], tokens: int) -> list[list[int]]:
    """Indices of rows in scoring batches of similar length."""
    return batches([len(row.context) + len(row.continuation) for row in rows], tokens)


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices in batches, longest rows first, each at most `tokens` padded tokens (or one row)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    made: list[list[int]] = []
    for index in order:
        if made and lengths[made[-1][0]] * (len(made[-1]) + 1) <= tokens:
            made[-1].append(index)
        else:
            made.append([index])
    return made


def distributions(logits: torch.Tensor, vocabulary: int) -> NDArray[np.float32]:
    """Float32 log-softmax of rows of logits as a NumPy array, padding of the vocabulary left out."""
    found: NDArray[np.float32] = torch.log_softmax(logits.float(), -1).cpu().numpy()[..., :vocabulary]
    return found
