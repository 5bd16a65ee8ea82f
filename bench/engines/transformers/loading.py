# SPDX-License-Identifier: Apache-2.0
"""Load a transformers model in a scheme, from weights on disk or with random weights from its architecture alone."""

from __future__ import annotations

import importlib
import json
import logging
import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.catalog.config import Config
from bench.catalog.model import Objective
from bench.engines.contract import DoesNotFit, LoadRequest, Unsupported
from bench.engines.transformers import classes, random_weights, unpacked
from bench.engines.transformers.token_rows import check_tokenizer, rows_of
from bench.engines.weights import adapters, gptq
from bench.engines.weights.files import Located
from bench.engines.weights.stored import BITSANDBYTES, COMPRESSED, TORCHAO, how_stored
from bench.errors import UserError
from bench.instruments.machine import spread
from bench.records.record import Caveat, Provenance

FOR_WEIGHTS = 0.9
"""Share of each card's free memory that weights may take where a model is spread over several."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model in evaluation mode with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    """Or an `IdTokenizer` for random weights, which has the few methods that are used."""
    provenance: Provenance
    caveats: tuple[Caveat, ...] = ()


def quiet() -> None:
    """No progress bars and no advice on the worker's output."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def warm_imports(located: Located, request: LoadRequest) -> None:
    """Import what loading would import, so that the memory baseline holds the libraries and nothing else."""
    quiet()
    classes.model_class(read_config(located, request), request)
    importlib.import_module("transformers.integrations.accelerate")
    if request.scheme.name in gptq.STORED:
        for library in gptq.LIBRARIES:
            importlib.import_module(library)
        importlib.import_module("optimum.gptq")
    elif request.scheme.name in COMPRESSED:
        importlib.import_module("compressed_tensors")
    elif request.scheme.name == TORCHAO:
        importlib.import_module("torchao.quantization")
        importlib.import_module("transformers.integrations.torchao")
    elif request.scheme.quantizes:
        importlib.import_module("bitsandbytes")
        importlib.import_module("transformers.integrations.bitsandbytes")
    torch.ones(8, 8) @ torch.ones(8, 8)  # starts the math library's threads and their buffers


def read_config(located: Located, request: LoadRequest) -> PreTrainedConfig:
    """The transformers configuration. Raises Unsupported where this version has no such model."""
    if located.folder is None:
        described = dict(request.model.architecture or {})
        _known(described)
        return AutoConfig.for_model(**described)
    described = json.loads((located.folder / "config.json").read_text(encoding="utf-8"))
    if not runs_own_code(described, request):
        _known(described)
    return AutoConfig.from_pretrained(located.folder, trust_remote_code=runs_own_code(described, request))


def _known(described: Config) -> None:
    kind = described.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise Unsupported(f"transformers {transformers.__version__} knows no architecture {kind!r}")


def runs_own_code(described: Config, request: LoadRequest) -> bool:
    """Whether to run the repository's own code: only if transformers has no such model and everyone agrees.

    Its catalogue entry must allow it and pin the revision, and the user must consent. Raises Unsupported otherwise.
    """
    if "auto_map" not in described or described.get("model_type") in transformers.CONFIG_MAPPING:
        return False
    name = request.model.name
    if not request.model.remote_code:
        raise Unsupported(f"{name} is code of its own repository, which its catalogue entry does not allow to run")
    if request.model.revision is None:
        raise Unsupported(f"{name} is code of its own repository, and its catalogue entry pins no revision of it")
    if not request.trust_remote_code:
        raise Unsupported(f"{name} is code of its own repository at {request.model.revision}: pass --trust-remote-code")
    return True


def _own_type(located: Located, config: PreTrainedConfig) -> str | None:
    """The type in which weights are stored (for a quantized checkpoint: its unquantized rest), None if unknown."""
    stored = located.provenance.stored_as
    quantized = (*gptq.STORED, *BITSANDBYTES, *COMPRESSED)
    return str(config.dtype).removeprefix("torch.") if stored in quantized else stored


def load_options(request: LoadRequest, stored: str | None) -> dict[str, object]:
    """Keyword arguments of `from_pretrained` for a scheme on a device.

    What is not quantized keeps the 16-bit type of the 16-bit row, so that int8 and int4 differ from it in the
    quantized layers alone. NF4 computes in float32 on a CPU: 2.6 times faster there than bfloat16 without AVX-512.
    """
    name, cpu = request.scheme.name, request.device == "cpu"
    sixteen = torch.bfloat16 if cpu or stored == "bfloat16" else torch.float16
    options: dict[str, object] = {"dtype": DTYPES.get(name, sixteen)}
    if name == "bnb-int8":
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)
    elif name == "bnb-nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32 if cpu else sixteen
        )
    elif name == TORCHAO:
        options["quantization_config"] = _torchao()
    if request.device == "cuda" and spread() > 1:
        options |= {"device_map": "auto", "max_memory": {card: _room(card) for card in range(spread())}}
    elif not cpu:
        options["device_map"] = {"": 0 if request.device == "cuda" else request.device}
    return options


def _room(card: int) -> int:
    """Bytes of a card that weights may take: accelerate knows nothing of what is computed."""
    free, _ = torch.cuda.mem_get_info(card)
    return int(FOR_WEIGHTS * free)


def spread_over(model: PreTrainedModel) -> tuple[Caveat, ...]:
    """How a model was spread over several cards, nothing where one has all of it.

    Raises DoesNotFit where accelerate has put a part elsewhere: what it moves for each token measures the bus.
    """
    placed = getattr(model, "hf_device_map", None) or {}
    if spread() == 1 or not placed:
        return ()
    elsewhere = sorted({str(where) for where in placed.values() if not isinstance(where, int)})
    if elsewhere:
        raise DoesNotFit(f"load, over {spread()} cards, for accelerate puts a part on {' and '.join(elsewhere)}")
    counts = Counter(placed.values())
    parts = ", ".join(f"card {card} has {counts[card]}" for card in sorted(counts))
    text = f"one model over {spread()} cards, which compute in turns: of {len(placed)} parts {parts}"
    return (Caveat(kind="spread_over_cards", text=text, advice="compare its speed with rows of the same cards"),)


def _torchao() -> object:
    """Its int8 weights, without the settings of a compiler that nothing here uses."""
    from torchao.quantization import Int8WeightOnlyConfig

    return transformers.TorchAoConfig(Int8WeightOnlyConfig(set_inductor_config=False))


def _tokenizer(folder: Path, *, own_code: bool) -> PreTrainedTokenizerBase:
    """As its files describe it. Raises UserError where its library cannot make one of them."""
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=own_code)
    except MemoryError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        what = f"{folder}: no tokenizer can be made of its tokenizer files ({said})"
        raise UserError(what, "get tokenizer.json and tokenizer_config.json again") from error
    return found


def load(located: Located, request: LoadRequest) -> Loaded:
    """Load, or build from random values. Raises Unsupported, UserError."""
    config = read_config(located, request)
    options = load_options(request, _own_type(located, config))
    model_class = classes.model_class(config, request)
    config = classes.own_config(config, model_class)
    if located.folder is None:
        model = random_weights.build(model_class, config, options)
        return Loaded(
            model=model.eval(),
            tokenizer=random_weights.IdTokenizer(int(config.get_text_config().vocab_size)),
            provenance=located.provenance,
            caveats=(random_weights.CAVEAT, *spread_over(model)),
        )
    if located.provenance.stored_as in BITSANDBYTES:
        _compute_as_asked(config, options)
    own_code = runs_own_code(config.to_dict(), request)
    tokenizer = _tokenizer(located.folder, own_code=own_code)
    if request.model.objective is Objective.SEQ2SEQ:
        classes.check_answers(config, tokenizer)
    try:
        model, found = model_class.from_pretrained(
            located.folder, config=config, output_loading_info=True, trust_remote_code=own_code, **options
        )
    except pickle.UnpicklingError:
        raise Unsupported("its weights are a pickle that holds more than tensors: refused") from None
    except SafetensorError as error:
        raise UserError(f"{located.folder} has a damaged weight file ({error})", "download it again") from None
    check_tokenizer(tokenizer, rows_of(model))
    lacking = sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])])
    if lacking:
        raise UserError(
            f"{located.folder} lacks {len(lacking)} weights of its architecture, {lacking[0]} among them",
            "is it complete, and of this objective?",
        )
    caveats = (*gptq.caveats(located, request), *adapters.caveats(located.provenance), *_as_stored(located))
    caveats = (*spread_over(model), *caveats)
    if located.provenance.stored_as in COMPRESSED:
        caveats = (*caveats, unpacked.proven(model, request.scheme))
    return Loaded(model=model.eval(), tokenizer=tokenizer, provenance=located.provenance, caveats=caveats)


def _compute_as_asked(config: PreTrainedConfig, options: dict[str, object]) -> None:
    """A bitsandbytes checkpoint is loaded as it is stored, but computes in the type that its scheme has here."""
    asked = options.pop("quantization_config")
    assert isinstance(asked, BitsAndBytesConfig)
    part = config if getattr(config, "quantization_config", None) else config.get_text_config()
    part.quantization_config |= {"bnb_4bit_compute_dtype": str(asked.bnb_4bit_compute_dtype).removeprefix("torch.")}


def _as_stored(located: Located) -> tuple[Caveat, ...]:
    """What a bitsandbytes checkpoint's maker chose otherwise than this project does."""
    if located.folder is None or located.provenance.stored_as not in BITSANDBYTES:
        return ()
    how = how_stored(located.folder)
    if not how:
        return ()
    text = f"stored as {located.provenance.stored_as} by its maker: {how}"
    advice = "rows that are quantized here do otherwise: bytes and distance are not those of the scheme's method"
    return (Caveat(kind="stored_otherwise", text=text, advice=advice),)
