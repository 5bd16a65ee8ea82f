# SPDX-License-Identifier: Apache-2.0
"""Which of transformers' classes reads a model for its objective, and why some can be measured by none."""

from __future__ import annotations

import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.catalog.model import Objective
from bench.engines.contract import LoadRequest, Unsupported

LOADERS = {
    Objective.CAUSAL: AutoModelForCausalLM,
    Objective.SEQ2SEQ: AutoModelForSeq2SeqLM,
    Objective.MASKED: AutoModelForMaskedLM,
}
ELSE = {"pictures as well as text": AutoModelForImageTextToText, "sound": AutoModelForSpeechSeq2Seq}
"""What models read that have no class for text alone."""
TEXT = "input_ids"
"""What classes call the tokens of a text where these are what they read first."""


def model_class(config: PreTrainedConfig, request: LoadRequest) -> type[PreTrainedModel]:
    """The model class for a configuration and the model's objective. Raises Unsupported.

    Many masked families also have a causal class, which reads both sides of a token unless it `is_decoder`.
    """
    objective, kind = request.model.objective, config.model_type
    loader: type[PreTrainedModel] = LOADERS[objective]
    if request.model.remote_code and kind not in transformers.CONFIG_MAPPING:
        return loader
    found, masked = _class(loader, config), _class(AutoModelForMaskedLM, config)
    undecided = objective is Objective.CAUSAL and not getattr(config, "is_decoder", False)
    if undecided and masked is not None and masked is not found:
        raise Unsupported(
            f"{kind} is a masked model: say `objective: masked` in its catalogue entry, or "
            f"{masked.__name__} under `architectures` in its config.json"
        )
    if found is None:
        raise Unsupported(_why_none(config, objective))
    if found.main_input_name != TEXT:
        raise Unsupported(f"{kind} reads {found.main_input_name}, not the tokens of a text: it cannot be measured here")
    return found


def own_config(config: PreTrainedConfig, found: type[PreTrainedModel]) -> PreTrainedConfig:
    """The part of a configuration that the class is made from: of some that read pictures too, the text's alone.

    How a checkpoint is quantized stands beside its parts, and holds for each of them.
    """
    parts, made_from = getattr(config, "sub_configs", {}), getattr(found, "config_class", None)  # none of own code
    is_text = made_from is not None and made_from is not type(config) and made_from == parts.get("text_config")
    if not is_text:
        return config
    text, stored = config.get_text_config(), getattr(config, "quantization_config", None)
    if stored is not None and getattr(text, "quantization_config", None) is None:
        text.quantization_config = stored
    return text


def _class(loader: type[PreTrainedModel], config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    try:
        found: type[PreTrainedModel] = loader._model_mapping[type(config)]  # noqa: SLF001 - imports its module
    except KeyError:
        return None
    return found


def _why_none(config: PreTrainedConfig, objective: Objective) -> str:
    """What transformers has instead of a class of that objective."""
    kind = config.model_type
    for reads, loader in ELSE.items():
        if _class(loader, config):
            return f"{kind} reads {reads}, and only models of text alone are measured here"
    others = [str(other) for other, loader in LOADERS.items() if other is not objective and _class(loader, config)]
    instead = f", only {' and '.join(others)} ones" if others else ""
    return f"transformers {transformers.__version__} has no {objective} model {kind!r}{instead}"


def check_answers(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse an encoder-decoder whose answers begin with more than the decoder's start token.

    That is T5's way, and Pegasus' and Marian's: their texts have an end at most. BART begins each text with a token,
    M2M-100, NLLB and mBART name its language, and a decoder that is not given these answers something else.
    """
    framed = list(tokenizer("a")["input_ids"])
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    starts = range(len(framed) - len(bare) + 1)
    start = next((at for at in starts if framed[at : at + len(bare)] == bare), len(framed))
    forced = getattr(config, "forced_bos_token_id", None)
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id}
    wanted = framed[:start] + [token for token in framed[start + len(bare) :] if token not in ends]
    wanted += [] if forced is None else [int(forced)]
    if wanted:
        raise Unsupported(
            f"{config.model_type}: its answers begin with {tokenizer.decode(wanted[:1])!r} after the decoder's start "
            "token, and only encoder-decoder models that begin with the text at once, as T5 does, are measured here"
        )
