# SPDX-License-Identifier: Apache-2.0
"""A model of true size from its architecture alone: a checkpoint whose tensors are made as they are asked for.

transformers loads it as it loads any file, one tensor at a time, so storage types, quantized layers, what is left out
and what is tied are those of real weights. Two things make that quick enough for billions of weights: values are one
block of normal random numbers (standard deviation 0.02) repeated, and bitsandbytes quantizes one matrix of each shape
and copies the result, which is what it would compute again, for equal shapes are given equal values.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import torch
from transformers.pytorch_utils import Conv1D

from bench.records.record import Caveat

if TYPE_CHECKING:
    from bitsandbytes.nn import Int8Params, Params4bit
    from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

    Quantized: TypeAlias = Params4bit | Int8Params
    Quantize: TypeAlias = Callable[[Quantized, torch.device], Quantized]

STD = 0.02
"""As most of these models are initialised; no value is so small that arithmetic slows down."""
BLOCK = 1_000_003
"""Values that repeat: a prime, so that rows of a matrix differ."""
QUANTIZE = "_quantize"
"""The method in which both of bitsandbytes' parameter classes quantize; they have no public one."""
CAVEAT = Caveat(
    kind="random_weights",
    text="values are random: no outlier features, which LLM.int8() would compute apart, and no meaningful text",
    advice="read memory and speed from this row, nothing of quality; int8 may be slower on real weights",
)


class Noise:
    """One tensor of the checkpoint, made when it is sliced, as safetensors' own lazy slices are."""

    def __init__(self, shape: Sequence[int], label: str, block: torch.Tensor) -> None:
        self.shape, self.block = torch.Size(shape), block
        self.offset = zlib.crc32(label.encode()) % len(block)

    def __getitem__(self, _: object) -> torch.Tensor:
        tensor = torch.empty(self.shape, dtype=self.block.dtype)
        flat, first = tensor.view(-1), len(self.block) - self.offset
        flat[:first] = self.block[self.offset : self.offset + len(flat)]
        for start in range(first, len(flat), len(self.block)):
            piece = flat[start : start + len(self.block)]
            piece[:] = self.block[: len(piece)]
        return tensor


class Ones(Noise):
    """The scale of a norm."""

    def __getitem__(self, _: object) -> torch.Tensor:
        return torch.ones(self.shape, dtype=self.block.dtype)


class Shared(Noise):
    """A matrix that will be quantized: equal shapes share one tensor, which nothing keeps.

    Conv1D stores its transpose; it is given a view whose transpose, which is what gets quantized, is contiguous.
    """

    def __init__(self, shape: Sequence[int], block: torch.Tensor, *, transposed: bool) -> None:
        self.transposed = transposed
        shape = tuple(reversed(shape)) if transposed else tuple(shape)
        super().__init__(shape, str(shape), block)
        self.made: dict[torch.Size, torch.Tensor] = {}

    def __getitem__(self, key: object) -> torch.Tensor:
        if self.shape not in self.made:
            self.made[self.shape] = super().__getitem__(key)
        tensor = self.made[self.shape]
        return tensor.T if self.transposed else tensor


def build(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, options: Mapping[str, object]
) -> PreTrainedModel:
    """The model of that configuration in that scheme, with random values."""
    with torch.device("meta"):
        empty = model_class(copy.deepcopy(config))
    block = (torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * STD).to(options["dtype"])
    quantized = _quantized(empty, options.get("quantization_config"))
    tied = set(empty.all_tied_weights_keys) - _untied(empty, config)
    made: dict[torch.Size, torch.Tensor] = {}
    checkpoint: dict[str, Noise] = {}
    for name, parameter in empty.named_parameters(remove_duplicate=False):
        if name in quantized:
            shared = Shared(parameter.shape, block, transposed=quantized[name])
            shared.made = made
            checkpoint[name] = shared
        elif name not in tied:
            kind = Ones if parameter.dim() == 1 and name.endswith("weight") else Noise
            checkpoint[name] = kind(parameter.shape, name, block)
    del empty
    with quantizing_once():
        return model_class.from_pretrained(None, config=config, state_dict=checkpoint, **options)


def _untied(empty: PreTrainedModel, config: PreTrainedConfig) -> set[str]:
    """The head of a T5 whose configuration asked for its own: transformers 5 ties it unless the file holds both."""
    if getattr(config, "scale_decoder_outputs", True):
        return set()
    head = empty.get_output_embeddings()
    return {f"{name}.weight" for name, module in empty.named_modules() if module is head}


def _quantized(empty: PreTrainedModel, config: BitsAndBytesConfig | None) -> dict[str, bool]:
    """Names of the weights that a quantization configuration will quantize, and whether each is a Conv1D's."""
    if config is None:
        return {}
    from transformers.quantizers import AutoHfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    left = AutoHfQuantizer.from_config(config).get_modules_to_not_convert(
        empty, config.llm_int8_skip_modules, getattr(empty, "_keep_in_fp32_modules", None)
    )
    return {
        f"{name}.weight": isinstance(module, Conv1D)
        for name, module in empty.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and should_convert_module(name, left)
    }


@contextmanager
def quantizing_once() -> Iterator[None]:
    """Bitsandbytes quantizes each tensor that it is handed once; handed again, it gets a copy of the result."""
    import bitsandbytes as bnb

    originals = {kind: getattr(kind, QUANTIZE) for kind in (bnb.nn.Params4bit, bnb.nn.Int8Params)}
    for kind, original in originals.items():
        setattr(kind, QUANTIZE, _once(original))
    try:
        yield
    finally:
        for kind, original in originals.items():
            setattr(kind, QUANTIZE, original)


def _once(original: Quantize) -> Quantize:
    first: dict[tuple[int, torch.Size, str], Quantized] = {}

    def quantize(weight: Quantized, device: torch.device) -> Quantized:
        key = (weight.data.data_ptr(), weight.data.shape, str(device))
        done = first.get(key)
        if done is None:
            first[key] = original(weight, device)
            return first[key]
        weight.data = done.data.clone()
        if hasattr(done, "SCB"):
            weight.CB, weight.SCB = weight.data, done.SCB.clone()
        else:
            weight.quant_state, weight.bnb_quantized = copy.deepcopy(done.quant_state), True
            if weight.module is not None:
                weight.module.quant_state = weight.quant_state
        return weight

    return quantize


class IdTokenizer:
    """Bytes as token ids for a model without a tokenizer; text comes back as the ids' numbers, for it means nothing."""

    def __init__(self, vocabulary: int) -> None:
        self.eos_token_id = self.bos_token_id = vocabulary - 1
        self.cls_token_id, self.sep_token_id, self.mask_token_id = vocabulary - 2, vocabulary - 3, vocabulary - 4
        self.bytes = min(256, vocabulary - 4)

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        """One token for each byte."""
        return {"input_ids": [byte % self.bytes for byte in text.encode()]}

    def decode(self, tokens: Sequence[int]) -> str:
        """The numbers of the ids, apart."""
        return " ".join(map(str, tokens))
