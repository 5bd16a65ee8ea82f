# SPDX-License-Identifier: Apache-2.0
"""A transformers model as an Engine: CUDA, Apple's MPS or CPU, with the libraries' own calls."""

from __future__ import annotations

import gc
import importlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bench.backends import _census
from bench.backends._weights import Located, locate
from bench.cell import Objective
from bench.engine import Census, DoesNotFit, LoadRequest, Row, Score, Unsupported, check_context
from bench.errors import UserError
from bench.instruments import Instruments
from bench.instruments.clock import DeviceClock, HostClock
from bench.instruments.memory import CudaMemory, MpsMemory, ProcessMemory
from bench.record import Caveat

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCORE_TOKENS = {"cpu": 1024, "cuda": 16384, "mps": 4096}
"""Tokens of one scoring batch, padding included: fixed by the device, so that precisions share their batches."""
DEFAULT_CONTEXT = 2048
"""Positions of a model that declares none (BLOOM: ALiBi)."""
GRID_LIMIT = 0.9


def open_instruments(device: str) -> Instruments:
    """Clock and memory counter of a device kind. Raises Unsupported if this torch cannot use it."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise Unsupported(f"an NVIDIA GPU is there, but torch {torch.__version__} cannot use it; pass --device cpu")
        import pynvml

        return Instruments(DeviceClock(torch.cuda.synchronize, "cuda synchronize"), CudaMemory(torch.cuda, pynvml))
    if device == "mps":
        return Instruments(DeviceClock(torch.mps.synchronize, "mps synchronize"), MpsMemory(torch.mps))
    return Instruments(HostClock(), ProcessMemory())


def warm_imports(located: Located, request: LoadRequest) -> None:
    """Import what loading would import, so that the memory baseline holds the libraries and nothing else."""
    _quiet()
    config = AutoConfig.from_pretrained(located.folder)
    try:
        _ = AutoModelForCausalLM._model_mapping[type(config)]  # noqa: SLF001 - imports the model's own module
    except KeyError:
        raise Unsupported(
            f"transformers {transformers.__version__} has no causal model {config.model_type!r}"
        ) from None
    importlib.import_module("transformers.integrations.accelerate")
    if request.scheme.quantizes:
        importlib.import_module("bitsandbytes")
        importlib.import_module("transformers.integrations.bitsandbytes")
    torch.ones(8, 8) @ torch.ones(8, 8)  # starts the math library's threads and their buffers


def _quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextmanager
def fits(phase: str) -> Iterator[None]:
    """Turn every library's way of running out of memory into DoesNotFit."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        free, _ = torch.cuda.mem_get_info() if torch.cuda.is_available() else (None, None)
        raise DoesNotFit(phase, _gib(str(error)), free) from error
    except MemoryError as error:
        raise DoesNotFit(phase) from error
    except RuntimeError as error:
        wanted = re.search(r"tried to allocate (\d+) bytes", str(error))
        if not wanted:
            raise
        raise DoesNotFit(phase, int(wanted[1]), ProcessMemory().capacity_bytes()) from error


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn a damaged weight file, which is for the user to mend, into one line."""
    try:
        yield
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise
        reason = str(error).split("\n")[0] or "the file ends too early"
        raise UserError(f"the weights of {source} cannot be read: {reason}", "copy or download them again") from error


def _gib(message: str) -> int | None:
    found = re.search(r"allocate ([\d.]+) (KiB|MiB|GiB)", message)
    return int(float(found[1]) * 1024 ** {"KiB": 1, "MiB": 2, "GiB": 3}[found[2]]) if found else None


def load_options(request: LoadRequest, stored: str | None) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` for a scheme on a device.

    What is not quantized keeps the 16-bit type of the 16-bit row, so that int8 and int4 differ from it in the
    quantized layers alone. NF4 computes in float32 on a CPU: 2.6 times faster there than bfloat16 without AVX-512.
    """
    name, cpu = request.scheme.name, request.device == "cpu"
    sixteen = torch.bfloat16 if cpu or stored == "bfloat16" else torch.float16
    options: dict[str, Any] = {"dtype": DTYPES.get(name, sixteen)}
    if name == "bnb-int8":
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)
    elif name == "bnb-nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.float32 if cpu else sixteen,
        )
    if not cpu:
        options["device_map"] = {"": 0 if request.device == "cuda" else request.device}
    return options


class TorchGeneration:
    """Greedy generation over a transformers KV cache."""

    def __init__(self, model: Any, prompts: torch.Tensor, suppress: Collection[int], context_length: int) -> None:
        self.model, self.context_length, self.positions = model, context_length, 0
        self.suppress = torch.tensor(sorted(suppress), dtype=torch.long, device=prompts.device)
        self.tokens: torch.Tensor | None = None
        self._forward(prompts)

    def _forward(self, tokens: torch.Tensor, cache: Any = None) -> None:
        self.positions += tokens.shape[1]
        check_context(self.positions, self.context_length)
        with torch.inference_mode(), fits("generate"):
            out = self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self.cache, self.logits = out.past_key_values, out.logits[:, -1]

    def step(self) -> list[int]:
        """The next token of each sequence."""
        with torch.inference_mode():
            if self.tokens is not None:
                self._forward(self.tokens, self.cache)
            logits = self.logits
            if len(self.suppress):
                logits = logits.index_fill(-1, self.suppress, float("-inf"))
            self.tokens = logits.argmax(-1, keepdim=True)
            tokens: list[int] = self.tokens[:, 0].tolist()
        return tokens

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of every layer."""
        tensors = (t for layer in self.cache.layers for t in (layer.keys, layer.values) if t is not None)
        return sum(t.numel() * t.element_size() for t in tensors)

    @property
    def cache_tokens(self) -> int:
        """Positions held."""
        return int(self.cache.get_seq_length())

    def close(self) -> None:
        """Drop the cache and the logits."""
        del self.cache, self.logits


class TorchEngine:
    """One model loaded by transformers."""

    def __init__(self, request: LoadRequest) -> None:
        if request.model.objective is not Objective.CAUSAL:
            raise Unsupported(f"{request.model.objective} models are not supported yet")
        _quiet()
        if request.threads:
            torch.set_num_threads(request.threads)
        located = locate(request)
        self.device = request.device
        self.provenance = located.provenance
        self.tokenizer = AutoTokenizer.from_pretrained(located.folder)
        with fits("load"), readable(located.provenance.source):
            self.model = AutoModelForCausalLM.from_pretrained(
                located.folder, **load_options(request, located.provenance.stored_as)
            ).eval()
        config = self.model.config.get_text_config()
        self.vocabulary = int(config.vocab_size)
        self.context_length = int(getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT)
        ends = self.model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        self.end_tokens = frozenset(t for t in [*listed, self.tokenizer.eos_token_id] if t is not None)
        start = self.tokenizer.bos_token_id
        self.prefix_token = int(start if start is not None else self.tokenizer.eos_token_id)
        self.threads = torch.get_num_threads() if self.device == "cpu" else None
        self.prefill([[self.prefix_token]]).close()  # bitsandbytes repacks its weights at the first forward pass
        self.caveats = self._caveats()

    def _caveats(self) -> tuple[Caveat, ...]:
        share = self.census().grid_share
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
        """Tokens of the text; no warning about its length, callers cut."""
        tokens: list[int] = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones shown."""
        return str(self.tokenizer.decode(list(tokens)))

    def _tensor(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor([list(row) for row in rows], dtype=torch.long, device=self.model.device)

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> TorchGeneration:
        """Read prompts of equal length."""
        return TorchGeneration(self.model, self._tensor(prompts), suppress, self.context_length)

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Float32 log-softmax of every position but the last."""
        check_context(len(tokens) - 1, self.context_length)
        with torch.inference_mode(), fits("score"):
            logits = self.model(self._tensor([tokens[:-1]]), use_cache=False).logits[0]
            result: NDArray[np.float32] = torch.log_softmax(logits.float(), -1).cpu().numpy()
        return result[:, : self.vocabulary]

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """As `log_probs`, of equally long sequences in one batch; one sequence's float32 values at a time."""
        check_context(len(rows[0]) - 1, self.context_length)
        with torch.inference_mode(), fits("score"):
            logits = self.model(self._tensor([row[:-1] for row in rows]), use_cache=False).logits
        for of_row in logits:
            with torch.inference_mode(), fits("score"):
                result: NDArray[np.float32] = torch.log_softmax(of_row.float(), -1).cpu().numpy()
            yield result[:, : self.vocabulary]

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's own, None if it has none."""
        template: str | None = self.tokenizer.chat_template
        return template

    def chat(self, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
        """A conversation as the tokenizer's template writes it."""
        options = {"add_generation_prompt": answer, "continue_final_message": not answer}
        return str(self.tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, **options))

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Score rows in batches of similar length."""
        scores: list[Score | None] = [None] * len(rows)
        finished = 0
        for batch in batches([len(r.context) + len(r.continuation) for r in rows], SCORE_TOKENS[self.device]):
            for index, score in zip(batch, self._score_batch([rows[i] for i in batch]), strict=True):
                scores[index] = score
            finished += len(batch)
            done(finished)
        return [score for score in scores if score is not None]

    def _score_batch(self, rows: Sequence[Row]) -> list[Score]:
        """One padded forward pass; head and log-softmax only where something is scored."""
        inputs = [(row.context + row.continuation)[:-1] for row in rows]
        length = max(map(len, inputs))
        check_context(length, self.context_length)
        keep = length - min(len(row.context) for row in rows) + 1
        tokens = self._tensor([[*t, *[self.prefix_token] * (length - len(t))] for t in inputs])
        mask = self._tensor([[1] * len(t) + [0] * (length - len(t)) for t in inputs])
        with torch.inference_mode(), fits("score"):
            logits = self.model(tokens, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
            scores = []
            for row, of_row in zip(rows, logits, strict=True):
                first = len(row.context) - 1 - (length - keep)
                scored = of_row[first : first + len(row.continuation)].float()
                wanted = torch.tensor(row.continuation, device=scored.device)
                chosen = scored.gather(-1, wanted[:, None])[:, 0] - scored.logsumexp(-1)
                scores.append(Score(tuple(chosen.tolist()), bool((scored.argmax(-1) == wanted).all())))
        return scores

    def census(self) -> Census:
        """Count the parameters."""
        return _census.count(self.model)

    def close(self) -> None:
        """Free the model and give cached device memory back."""
        del self.model
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


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
