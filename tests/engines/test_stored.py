# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that bitsandbytes stored are measured as they stand, in their own scheme and in no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("bitsandbytes")

import tiny  # noqa: E402
from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: E402

from bench.catalog.model import Model  # noqa: E402
from bench.cli import app, guarded  # noqa: E402
from bench.engines.contract import LoadRequest, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND  # noqa: E402
from bench.engines.weights.locate import locate  # noqa: E402
from bench.engines.weights.stored import stored_scheme  # noqa: E402
from bench.instruments import machine  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.records.record import NO_WIDER_WEIGHTS  # noqa: E402
from bench.records.store import Store  # noqa: E402
from bench.records.surroundings import Roof  # noqa: E402

NF4: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
HOW: dict[str, dict[str, Any]] = {
    "nf4": NF4,
    "nested": NF4 | {"bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
    "fp4": {"load_in_4bit": True},
}
SCHEMES = {"nf4": "bnb-nf4", "nested": "bnb-nf4", "int8": "bnb-int8", "fp4": "bnb-fp4"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 16-bit checkpoint that all of them are made from."""
    return tiny.save(tiny.model("llama").to(torch.bfloat16), tmp_path_factory.mktemp("plain") / "tiny")


@pytest.fixture(scope="module")
def stored(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoints as their makers save them, by the name in HOW, each made once."""
    root = tmp_path_factory.mktemp("stored")

    def made(how: str) -> Path:
        if not (root / how).is_dir():
            config = BitsAndBytesConfig(**HOW[how])
            model = AutoModelForCausalLM.from_pretrained(
                plain, quantization_config=config, device_map="cpu", dtype=torch.bfloat16
            )
            tiny.save(model, root / how)
        return root / how

    return made


def request(folder: Path, scheme: str) -> LoadRequest:
    """Local weights on the CPU."""
    model = Model(name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny")
    found = BACKEND.scheme(scheme)
    assert found is not None
    return LoadRequest(model=model, weights=Weights.LOCAL, scheme=found, device="cpu", path=str(folder))


@pytest.mark.parametrize(
    ("config", "scheme"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bnb-nf4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-fp4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
        ({"load_in_8bit": True, "load_in_4bit": False}, "bnb-int8"),  # before quant_method was written
        ({"load_in_8bit": False, "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bnb-nf4"),
        ({"quant_method": "gptq", "bits": 4}, "gptq-int4"),
        ({"quant_method": "fp8"}, "fp8"),
        (None, None),
    ],
)
def test_a_configuration_says_how_its_weights_are_stored(tmp_path: Path, config: Any, scheme: str | None) -> None:
    """By bitsandbytes' own keys; four bits without a type are FP4, its default."""
    told = {"quantization_config": config} if config else {}
    for written in (told, {"text_config": told}):
        (tmp_path / "config.json").write_text(json.dumps(written))
        assert stored_scheme(tmp_path) == scheme


@pytest.mark.parametrize("how", ["nf4", "int8"])
def test_stored_weights_are_those_that_loading_would_make(plain: Path, stored: Callable[[str], Path], how: str) -> None:
    """The same census and the same scores as the scheme made of the 16-bit checkpoint, in the same compute type."""
    scheme = SCHEMES[how]
    here, there = BACKEND.load(request(plain, scheme)), BACKEND.load(request(stored(how), scheme))
    assert there.census() == here.census()
    adapted = BACKEND.adapt(request(plain, scheme).scheme, machine.describe("cpu"))
    assert there.census().contradiction(adapted) is None
    tokens = here.encode("The lazy dog jumps over")
    assert np.array_equal(there.log_probs(tokens), here.log_probs(tokens))
    assert there.provenance.is_stored_in(scheme) and not here.provenance.is_stored_in(scheme)
    assert "stored_otherwise" not in {caveat.kind for caveat in there.caveats}
    with there.dequantized() as twin:
        assert twin is not None
        assert np.isfinite(twin.log_probs(tokens)).all()


def test_what_the_maker_chose_otherwise_is_said(plain: Path, stored: Callable[[str], Path]) -> None:
    """Scales quantized once more take fewer bytes than the scheme's method has, and the census counts them."""
    here, nested = BACKEND.load(request(plain, "bnb-nf4")), BACKEND.load(request(stored("nested"), "bnb-nf4"))
    assert nested.census().linear_quantized == here.census().linear_quantized
    assert nested.census().bytes_by_storage["nf4"] == here.census().bytes_by_storage["nf4"]
    (caveat,) = [caveat for caveat in nested.caveats if caveat.kind == "stored_otherwise"]
    assert caveat.text == "stored as bnb-nf4 by its maker: scales quantized once more"
    tokens = here.encode("The lazy dog jumps over")
    with nested.dequantized() as twin:
        assert twin is not None
        assert abs(twin.log_probs(tokens) - nested.log_probs(tokens)).mean() < 0.1


@pytest.mark.parametrize("how", ["nf4", "int8", "fp4"])
def test_stored_weights_are_no_other_scheme(stored: Callable[[str], Path], how: str) -> None:
    """Neither wider nor quantized again; the line names the scheme to ask for, where there is one."""
    own = SCHEMES[how]
    remedy = "no scheme here is stored so" if how == "fp4" else f"ask for --scheme {own}"
    for other in {"fp32", "bf16", "bnb-int8", "bnb-nf4", "gptq-int4"} - {own}:
        with pytest.raises(Unsupported, match=f"its weights are stored as {own}: {remedy}"):
            locate(request(stored(how), other))


def test_a_checkpoint_stored_in_4_bits_has_its_row_and_nothing_to_compare_with(
    stored: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the real runner: memory is measured, a distance has its reason, and nothing has failed."""
    monkeypatch.setattr("bench.run.measure.measure_roof", lambda *_: Roof(engine="none"))
    where = ["--weights", f"local={stored('nf4')}", "--device", "cpu", "--results", str(tmp_path / "results")]
    with pytest.raises(SystemExit) as done:
        guarded(
            lambda: app(["run", "--precision", "int4", "--suite", "memory,divergence", "--profile", "smoke", *where])
        )
    assert done.value.code == 0
    found = {(r.cell.scheme, r.cell.suite): r for r in Store(tmp_path / "results").records()}
    assert {key: record.outcome.reason for key, record in found.items()} == {
        ("bf16", "divergence"): "its weights are stored as bnb-nf4: ask for --scheme bnb-nf4",
        ("bnb-nf4", "memory"): "",
        ("bnb-nf4", "divergence"): NO_WIDER_WEIGHTS,
    }
    assert f": {NO_WIDER_WEIGHTS}\n" in capsys.readouterr().out


def seeing(folder: Path, **options: Any) -> Path:
    """A tiny Qwen3.5 that reads pictures too, saved whole as its makers do; quantized where `options` say so."""
    import transformers

    sizes = {
        "vocab_size": tiny.VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "head_dim": 16, "pad_token_id": 0, "eos_token_id": 1,
        "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 32, "linear_key_head_dim": 4,
        "linear_num_value_heads": 32, "linear_value_head_dim": 4, "max_position_embeddings": 256,
    }  # fmt: skip
    eyes = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 64}
    config = transformers.Qwen3_5Config(text_config=sizes, vision_config=eyes, tie_word_embeddings=False)
    torch.manual_seed(0)
    made = transformers.Qwen3_5ForConditionalGeneration(config).eval().to(torch.bfloat16)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    tiny.save(made, folder)
    if options:
        again = transformers.Qwen3_5ForConditionalGeneration.from_pretrained(
            folder, quantization_config=BitsAndBytesConfig(**options), device_map="cpu", dtype=torch.bfloat16
        )
        tiny.save(again, folder)
    return folder


@pytest.mark.parametrize("how", ["nf4", "int8"])
def test_a_stored_checkpoint_that_reads_pictures_too_is_loaded_as_it_is_stored(tmp_path: Path, how: str) -> None:
    """How it is quantized stands beside the text's part of its configuration, from which the class is made."""
    stored = seeing(tmp_path / how, **HOW[how])
    assert stored_scheme(stored) == SCHEMES[how]
    engine = BACKEND.load(request(stored, SCHEMES[how]))
    assert type(engine.model).__name__ == "Qwen3_5ForCausalLM"
    here = BACKEND.load(request(seeing(tmp_path / "plain"), SCHEMES[how]))
    assert engine.census().bytes_by_storage == here.census().bytes_by_storage
    tokens = here.encode("The lazy dog jumps over")
    assert np.array_equal(engine.log_probs(tokens), here.log_probs(tokens))
