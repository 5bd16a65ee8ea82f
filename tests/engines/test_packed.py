# SPDX-License-Identifier: Apache-2.0
"""torchao's int8 weights, and checkpoints of compressed-tensors: counted unwrapped, and after a pass."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_llama  # noqa: E402
from builders import called, make_model  # noqa: E402

from bench.engines.contract import LoadRequest, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND, PACKED_REMEDY, census  # noqa: E402
from bench.engines.weights.locate import locate  # noqa: E402
from bench.engines.weights.stored import COMPRESSED, stored_scheme  # noqa: E402
from bench.plan import predict  # noqa: E402
from bench.plan.looks import compute_type  # noqa: E402
from bench.records.cell import Weights  # noqa: E402

needs_torchao = pytest.mark.skipif(not importlib.util.find_spec("torchao"), reason="needs torchao: tests-packed")
needs_compressed = pytest.mark.skipif(
    not importlib.util.find_spec("compressed_tensors"), reason="needs compressed-tensors: tests-packed"
)
TEXT = "The quick brown fox jumps over the lazy dog"
LINEAR, ROWS = 1_179_648, 4_096
"""Weights of the tiny llama's linear layers, the head apart, and their outputs."""
WAYS: dict[str, dict[str, Any]] = {
    "ct-w4a16": {"bits": 4, "group": 32},
    "ct-w8a16": {"bits": 8},
    "ct-w8a8": {"bits": 8, "activations": True},
}


def request(path: Path, scheme: str, **changes: Any) -> LoadRequest:
    found = BACKEND.scheme(scheme)
    assert found is not None
    asked = {"model": make_model(), "weights": Weights.LOCAL, "scheme": found, "device": "cpu", "path": str(path)}
    return LoadRequest(**asked | {"threads": 1} | changes)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tiny_llama.write_checkpoint(tmp_path / "plain")


@pytest.fixture
def compressed(plain: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny llama as llm-compressor would write it, rounded to the nearest in each row or group."""

    def make(bits: int, group: int | None = None, *, activations: bool = False) -> Path:
        from compressed_tensors.compressors import ModelCompressor
        from compressed_tensors.quantization import (
            QuantizationArgs,
            QuantizationConfig,
            QuantizationScheme,
            QuantizationStatus,
            apply_quantization_config,
        )
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.bfloat16)
        weights = QuantizationArgs(num_bits=bits, strategy="group" if group else "channel", group_size=group)
        inputs = QuantizationArgs(num_bits=8, strategy="token", dynamic=True) if activations else None
        scheme = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs)
        apply_quantization_config(model, QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"]))
        for module in model.modules():
            if hasattr(module, "quantization_scheme"):
                rows = module.weight.data.float().reshape(len(module.weight), -1, group or module.weight.shape[1])
                scale = rows.abs().amax(-1) / (2 ** (bits - 1) - 1)
                module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
                module.quantization_status = QuantizationStatus.FROZEN
        folder = tmp_path / f"w{bits}-{activations}"
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        model.save_pretrained(folder)
        compressor.update_config(str(folder))
        for file in plain.glob("token*"):
            shutil.copy(file, folder)
        return folder

    return make


@needs_torchao
def test_torchao_s_weights_are_counted_unwrapped_and_stay_packed(plain: Path) -> None:
    """Integers, a float32 scale and a zero point for each row; the kernel is the tensor's; as predicted."""
    asked = request(plain, "torchao-int8")
    BACKEND.prepare(asked)
    engine = BACKEND.load(asked)  # has done a pass
    found = engine.census()
    assert found.bytes_by_storage["int8"] == LINEAR
    assert found.bytes_by_storage["int8 metadata"] == 5 * ROWS
    assert (found.linear_weights, found.linear_quantized, found.left_out) == (LINEAR, LINEAR, ("lm_head",))
    assert found.kernels == {"Linear (Int8Tensor)": 14, "Linear": 1}
    assert (found.compute, found.contradiction(asked.scheme)) == ("bf16", None)
    assert found.total_bytes == predict.weights_bytes(tiny_llama.config(), asked.scheme)
    assert compute_type(asked.scheme, "cpu") == "bf16"


@needs_torchao
def test_torchao_s_weights_taken_back_are_closer_to_the_model_than_its_own_arithmetic(plain: Path) -> None:
    """The format's part of the distance, without bfloat16's."""
    engine = BACKEND.load(request(plain, "torchao-int8"))
    tokens = engine.encode(TEXT)
    exact = tiny_llama.log_probs(tokens)
    with engine.dequantized() as own:
        assert own is not None
        format_s = np.abs(own.log_probs(tokens) - exact).mean()
        assert {p.dtype for p in own.model.parameters()} == {torch.float32}
    assert 1e-5 < format_s < np.abs(engine.log_probs(tokens) - exact).mean()


def test_int4_of_torchao_is_refused_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, before anything is loaded."""
    code, out, err = called(capsys, "run", "--scheme", "torchao-int4", "--results", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("bench: no scheme 'torchao-int4': torchao 0.18 packs no int4 weights for a CPU, and for")
    assert err.count("\n") == 1


def test_without_its_library_a_scheme_names_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them."""
    monkeypatch.setattr(
        "bench.engines.contract.is_installed", lambda name: name not in {"torchao", "compressed_tensors"}
    )
    for scheme in ("torchao-int8", *COMPRESSED):
        assert BACKEND.missing(scheme)
        assert BACKEND.scheme_install[scheme] == PACKED_REMEDY


@needs_compressed
@pytest.mark.parametrize("scheme", COMPRESSED)
def test_a_compressed_checkpoint_is_proven_packed_and_counted_unpacked(
    compressed: Callable[..., Path], scheme: str
) -> None:
    """After the first pass its weights are 16-bit values, and the row says so with the bits that the file has."""
    folder = compressed(**WAYS[scheme])
    assert stored_scheme(folder) == scheme
    asked = request(folder, scheme)
    BACKEND.prepare(asked)
    engine = BACKEND.load(asked)
    (caveat,) = engine.caveats
    metadata = {"ct-w4a16": 16 / 32, "ct-w8a16": 16 * ROWS / LINEAR, "ct-w8a8": 16 * ROWS / LINEAR}[scheme]
    words = 0 if scheme == "ct-w8a8" else 14 * 2 * 64 / LINEAR  # the packed weight's shape, two 64-bit integers
    bits = (8 if "w8" in scheme else 4) + metadata + words
    assert caveat.text.startswith(f"{bits:.2f} bits a linear weight in the file, unpacked to 16 for good")
    found = engine.census()
    assert (found.linear_quantized, found.linear_weights) == (0, LINEAR)
    assert (found.linear_bits, found.compute) == (16.0, "bf16")
    assert found.contradiction(asked.scheme) is None
    if scheme == "ct-w4a16":
        assert found.grid_share == 1.0
    tokens = engine.encode(TEXT)
    far = np.abs(engine.log_probs(tokens) - tiny_llama.log_probs(tokens)).mean()
    assert 1e-3 < far < (1.2 if scheme == "ct-w4a16" else 0.2)


@needs_compressed
def test_weights_that_are_not_packed_contradict_their_configuration(
    compressed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that says 4 bits and holds 8 is refused with both figures."""
    folder = compressed(bits=8)
    config = json.loads((folder / "config.json").read_text())
    monkeypatch.setattr("bench.engines.weights.gptq.stored_scheme", lambda path: "ct-w4a16")
    assert config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] == 8
    with pytest.raises(Unsupported, match=r"ct-w4a16 asks for 4 bits a linear weight, its file has 8\.\d\d"):
        BACKEND.load(request(folder, "ct-w4a16"))


def test_a_compressed_checkpoint_is_no_other_scheme(plain: Path) -> None:
    """Its configuration alone tells."""
    config = json.loads((plain / "config.json").read_text())
    group = {"weights": {"num_bits": 4, "type": "int"}, "input_activations": None}
    told = {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed"}
    (plain / "config.json").write_text(
        json.dumps(config | {"quantization_config": told | {"config_groups": {"group_0": group}}})
    )
    for other in ("bf16", "bnb-nf4", "gptq-int4", "torchao-int8", "ct-w8a16"):
        with pytest.raises(Unsupported, match="its weights are stored as ct-w4a16: ask for --scheme ct-w4a16"):
            locate(request(plain, other))


W4, W8, TOKEN = {"num_bits": 4}, {"num_bits": 8}, {"num_bits": 8, "dynamic": True, "strategy": "token"}
PACKED_CONFIG = {"quantization_status": "compressed", "format": "pack-quantized"}


@pytest.mark.parametrize(
    ("groups", "changes", "told"),
    [
        ([{"weights": W4}], {}, "ct-w4a16"),
        ([{"weights": W8, "input_activations": TOKEN}], {"format": "int-quantized"}, "ct-w8a8"),
        ([{"weights": W4 | {"symmetric": False}}], {}, "ct-w4a16 with zero points"),
        ([{"weights": W4}, {"weights": W8}], {}, "compressed-tensors of several schemes"),
        ([], {}, "compressed-tensors"),
        ([{"weights": W8 | {"type": "float"}}], {"format": "float-quantized"}, "ct-w8a16 float as float-quantized"),
        ([{"weights": W4}], {"quantization_status": "frozen", "format": "dense"}, "ct-w4a16 as dense"),
        ([{"weights": W4}], {"kv_cache_scheme": {"num_bits": 8}}, "ct-w4a16 with quantized keys and values"),
        (
            [{"weights": W8, "input_activations": TOKEN | {"strategy": "tensor"}}], {},
            "ct-w8a8 activations rounded by the whole pass",
        ),
    ],
)  # fmt: skip
def test_how_a_compressed_checkpoint_is_stored_is_told_from_its_groups(
    groups: list[dict[str, Any]], changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    """What no scheme here means has a name that no scheme has."""
    named = {f"group_{index}": group for index, group in enumerate(groups)}
    config = {"quant_method": "compressed-tensors", "config_groups": named, **PACKED_CONFIG, **changes}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    assert stored_scheme(tmp_path) == told


class Wrapped(torch.Tensor):
    """A subclass around integers and scales, the scales themselves wrapped."""

    @staticmethod
    def __new__(cls, values: Any, scales: Any) -> Any:  # noqa: D102 - as any tensor's
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=torch.bfloat16)

    def __init__(self, values: Any, scales: Any) -> None:
        self.values, self.scales = values, scales

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["values", "scales"], None

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(function)


def test_a_subclass_in_a_subclass_is_counted_to_its_plain_tensors() -> None:
    """Values first, everything below is metadata."""
    scales = Wrapped(torch.zeros(4, 1, dtype=torch.int8), torch.zeros(1, dtype=torch.float32))
    weight = Wrapped(torch.zeros(4, 8, dtype=torch.int8), scales)
    parts = list(census._parts(torch.nn.Module(), "weight", weight))
    assert [(label, part.numel() * part.element_size()) for label, part in parts] == [
        ("int8", 32), ("int8 metadata", 4), ("int8 metadata", 4),
    ]  # fmt: skip
