# SPDX-License-Identifier: Apache-2.0
"""Predict the bytes and seconds of a cell from the architecture alone; nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from bench.catalog import architecture, hybrid
from bench.catalog.architecture import Role
from bench.catalog.config import Config, UnknownArchitecture, once
from bench.catalog.gguf_model import header_in
from bench.catalog.model import Model
from bench.engines.abilities import rows_side_by_side
from bench.engines.contract import Footprint
from bench.plan import workspace
from bench.records.cell import Scheme
from bench.records.record import Prediction
from bench.suite import Work


@dataclass(frozen=True)
class Rates:
    """Rough speed of a kind of device, of one machine of it: the last resort where no record and no roof tells."""

    load_bytes_per_s: float
    """Read, quantized and placed: `bench.plan.loading` takes it from records."""
    load_s: float
    """Of a process that has loaded nothing yet: the same."""
    operations_per_s: float
    read_bytes_per_s: float
    step_s: float


RATES = {
    "cpu": Rates(3e8, 6.0, 1.3e11, 8e9, 0.03),
    "cuda": Rates(1e9, 10.0, 2e13, 5e11, 0.02),
    "mps": Rates(1e9, 8.0, 2e12, 1e11, 0.02),
}


SERVED_PREFILL_TOKENS_PER_S, SERVED_DECODE_TOKENS_PER_S = 500, 30
"""Rough speeds of a served model, including the network."""


def grouped(scheme: Scheme, columns: Iterable[int]) -> Scheme:
    """The scheme with the group of a model whose linear layers have so many inputs."""
    if scheme.group is None or scheme.group_else is None or not any(count % scheme.group for count in columns):
        return scheme
    return scheme.model_copy(update={"group": scheme.group_else})


@once
def weights_bytes(config: Config, scheme: Scheme) -> int:
    """Bytes of the census of a model loaded in a scheme.

    Embeddings, norms, biases and the output head are left unquantized, as bitsandbytes leaves them.
    """
    total = 0
    every = architecture.weights(config)
    scheme = grouped(scheme, (weight.columns for weight in every if weight.role is Role.LINEAR))
    linear_biases = {f"{weight.name}.bias" for weight in every if weight.role is Role.LINEAR}
    for weight in every:
        if weight.keep_fp32:
            total += weight.parameters * scheme.kept_bytes
        elif weight.role is Role.LINEAR:
            total += weight.count * scheme.linear_bytes(weight.rows, weight.columns)
        elif weight.name in linear_biases and scheme.bias_bytes is not None:
            total += weight.parameters * scheme.bias_bytes
        else:
            total += weight.parameters * scheme.other_bytes
    return total


def cache_bytes(config: Config, scheme: Scheme, tokens: int, batch: int = 1) -> int:
    """Bytes of what is carried behind `tokens` positions of `batch` sequences: keys and values, and states."""
    if hybrid.is_hybrid(config):
        return hybrid.carried(config).bytes(tokens, batch, scheme.other_bytes)
    return architecture.cache_elements(config, tokens, batch) * scheme.other_bytes


ANSWER_ROOM = 32
"""Positions of room behind each answer that is generated beside others (`transformers/columns.py`, COLUMNS)."""
HALF = 2
"""Bytes of a number in the caches of engines with a footprint of their own."""
CAST_BYTES = {"float32": 4, "float16": 2, "bfloat16": 0}
"""Bytes of a parameter in the mapped file that stay unused once it is cast to bfloat16, by stored type."""


def stored_type(model: Model) -> str:
    """The stored type of what is not quantized, as far as it is known. Weights from a package are float32."""
    config = model.architecture or {}
    told = config.get("dtype") or config.get("torch_dtype") or "float16"
    return "float32" if model.package else str(told).removeprefix("torch.")


@once
def mapped_bytes(config: Config, scheme: Scheme, stored: str = "float16") -> int:
    """Bytes of a checkpoint's mapped file that are resident and in no weight, `stored` the type of what it casts."""
    kernel, every = scheme.kernel, architecture.weights(config)
    if not kernel.mapped:
        return 0
    file = grouped(scheme, (weight.columns for weight in every if weight.role is Role.LINEAR)).model_copy(
        update={"group_bytes": kernel.file_group_bytes or 0, "column_bytes": 0, "layer_bytes": 0}
    )
    packed_anew = kernel.file_group_bytes is not None
    return sum(
        weight.count * file.linear_bytes(weight.rows, weight.columns) * packed_anew
        if weight.role is Role.LINEAR
        else weight.parameters * CAST_BYTES.get(stored, 0)
        for weight in every
    )


def count(settings: Mapping[str, JsonValue], *names: str, otherwise: int = 0) -> int:
    """The first of these settings that is there and not 0, else `otherwise`."""
    return next((value for name in names if isinstance(value := settings.get(name), int) and value), otherwise)


def predict(
    model: Model,
    scheme: Scheme,
    device: str,
    settings: Mapping[str, JsonValue],
    work: Work,
    footprint: Callable[[Config, Scheme, int, int, Mapping[str, object]], Footprint] | None = None,
    *,
    trained: bool = True,
    together: int = 1,
) -> Prediction:
    """What one cell will need, by the backend's own `footprint` where it has one.

    The settings' `batch`, 1 where there is none, counts its sequences; a `footprint` takes them for one of all their
    tokens, which is exact for a cache without windows, and each has states of its own. `trained` tells real weights
    from random ones (see `bench.plan.workspace`). `together` is how many answers the backend generates side by side at
    most: the engine makes its batches by the same rule. Fields stay None where the architecture is unknown, all but
    `kv_bytes` where only what it carries is known.
    """
    if scheme.bits is None:
        return predict_served(work)
    config = model.architecture
    if config is None:
        return Prediction()
    tokens = count(settings, "prompt_tokens", "window_tokens", otherwise=512)
    decode = 0 if settings.get("objective") == "masked" else count(settings, "decode_tokens")
    batch = count(settings, "batch", otherwise=1)
    try:
        most = 1 if scheme.whole_pass else together
        if footprint:
            each = (
                footprint(config, scheme, 2, 0, settings).kv_bytes - footprint(config, scheme, 1, 0, settings).kv_bytes
            )
            beside = _beside(each // HALF, work.answer_positions, 1 if _state_bytes(config) else most)
            needs = footprint(config, scheme, max(batch * tokens, beside[0] * beside[1]), batch * decode, settings)
            needs = _with_states(needs, config, batch)
        else:
            limit = architecture.context_length(config)
            positions = work.answer_positions if limit is None else min(work.answer_positions, limit)
            beside = _beside(architecture.cache_elements(config, 1), positions, most)
            stored = stored_type(model)
            needs = needed(
                config, scheme, device, tokens, decode, batch, trained=trained, stored=stored, beside=beside
            )  # fmt: skip
    except UnknownArchitecture:
        known = hybrid.is_hybrid(config) and footprint is None
        return Prediction(kv_bytes=cache_bytes(config, scheme, tokens + decode, batch) if known else None)
    return Prediction(
        weights_bytes=needs.weights_bytes, kv_bytes=needs.kv_bytes, workspace_bytes=needs.workspace_bytes,
        peak_bytes=needs.peak_bytes, seconds=round(work_seconds(model, needs.weights_bytes, RATES[device], work), 1),
    )  # fmt: skip


def _beside(elements: int, positions: int, most: int) -> tuple[int, int]:
    """How many answers stand side by side, and the positions each takes, room included; nothing where none is made."""
    taken = positions + ANSWER_ROOM
    return (rows_side_by_side(most, taken, elements), taken) if positions else (0, 0)


def _state_bytes(config: Config) -> int:
    """Of one sequence of a GGUF's recurrent layers; where there are any, each answer is generated by itself."""
    header = header_in(config)
    return header.state_bytes if header else 0


def _with_states(needs: Footprint, config: Config, batch: int) -> Footprint:
    """With the states of all sequences but one, which a footprint has."""
    more = (batch - 1) * _state_bytes(config)
    return replace(needs, kv_bytes=needs.kv_bytes + more, peak_bytes=needs.peak_bytes + more)


@once
def needed(
    config: Config,
    scheme: Scheme,
    device: str,
    prompt: int,
    decode: int,
    batch: int = 1,
    *,
    trained: bool = True,
    stored: str = "float16",
    beside: tuple[int, int] = (0, 0),
) -> Footprint:
    """What a transformers model needs for `batch` prompts and generations, its scheme as this device stores it.

    `stored` is the type of what its file does not quantize, `beside` are answers side by side and the positions that
    each takes. A prompt longer than the model's positions allow is cut, as the suites cut it. Raises
    UnknownArchitecture.
    """
    positions = architecture.context_length(config)
    prompt = prompt if positions is None else max(1, min(prompt, positions - decode))
    weights, kv = weights_bytes(config, scheme), cache_bytes(config, scheme, prompt + decode, batch)
    kv = max(kv, cache_bytes(config, scheme, beside[1], beside[0]))
    temporary = workspace.workspace_bytes(config, scheme, prompt, batch, device, decode=decode, trained=trained)
    stays = workspace.runtime_bytes(config, scheme, device) + mapped_bytes(config, scheme, stored)
    peak = weights + kv + temporary + stays
    return Footprint(weights_bytes=weights, kv_bytes=kv, workspace_bytes=temporary, peak_bytes=peak)


def predict_served(work: Work) -> Prediction:
    """Rough seconds of a server's answers, for expected times and time limits. Its memory is not ours to predict."""
    seconds = work.prefill_tokens / SERVED_PREFILL_TOKENS_PER_S + work.decode_tokens / SERVED_DECODE_TOKENS_PER_S
    return Prediction(seconds=round(seconds, 1))


def multiplied(model: Model, weights: int) -> int:
    """Parameters that one token is multiplied with: of a mixture's experts its own alone, where the header tells."""
    header = header_in(model.architecture)
    return header.multiplied if header else model.parameters or weights // 2


def work_seconds(model: Model, weights: int, rates: Rates, work: Work) -> float:
    """Rough seconds for so many tokens: two operations a parameter and token, every byte read once a decoded token."""
    parameters = multiplied(model, weights)
    prefill = work.prefill_tokens * 2 * parameters / rates.operations_per_s
    decode = work.decode_tokens * (rates.step_s + weights / rates.read_bytes_per_s)
    return prefill + decode
