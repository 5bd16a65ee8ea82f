# SPDX-License-Identifier: Apache-2.0
"""GPTQ and AWQ: packed layers are counted to the byte, calibration never sees what is scored, stored schemes hold."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402
from builders import make_machine  # noqa: E402
from torch import nn  # noqa: E402

from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select  # noqa: E402
from bench.catalog.model import Model  # noqa: E402
from bench.cli import app, guarded  # noqa: E402
from bench.engines.contract import LoadRequest, Row, Unsupported  # noqa: E402
from bench.engines.transformers import (  # noqa: E402
    BACKEND,
    census,
    packed_layers,
)
from bench.engines.weights import files, gptq, gptq_make  # noqa: E402
from bench.errors import UserError  # noqa: E402
from bench.instruments import distributions, machine  # noqa: E402
from bench.plan import predict  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.records.kernel import Kernel  # noqa: E402
from bench.records.record import NO_WIDER_WEIGHTS  # noqa: E402
from bench.records.store import Store  # noqa: E402
from bench.records.surroundings import Roof  # noqa: E402
from suites import divergence, probe  # noqa: E402

HAS_GPTQ = all(importlib.util.find_spec(name) for name in gptq.LIBRARIES)
needs_gptq = pytest.mark.skipif(not HAS_GPTQ, reason="needs optimum and gptqmodel: the environment of `bench-gptq`")


class Gptq(nn.Module):
    """A layer as GPTQ stores it: integers packed along inputs, an index of groups, unpacked zero points cached."""

    def __init__(self, inputs: int, outputs: int, bits: int, group: int, *, named: bool = True) -> None:
        super().__init__()
        if named:
            self.in_features, self.out_features = inputs, outputs
        self.register_buffer("qweight", torch.zeros(inputs * bits // 32, outputs, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(inputs // group, outputs * bits // 32, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(inputs // group, outputs, dtype=torch.float16))
        self.register_buffer("g_idx", torch.zeros(inputs, dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.float16))
        shared = torch.arange(0, 32, bits, dtype=torch.int32)
        self.register_buffer("wf_zero", shared[None, None], persistent=False)
        self.register_buffer("wf_one", shared[None, :, None], persistent=False)


class Awq(nn.Module):
    """A layer as AWQ stores it: integers packed along outputs, no index."""

    def __init__(self, inputs: int, outputs: int, group: int) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.zeros(inputs, outputs // 8, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(inputs // group, outputs // 8, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(inputs // group, outputs, dtype=torch.float16))


class Stack(nn.Module):
    """Layers with an embedding and an output head that stay as they are."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 64, dtype=torch.float16)
        self.layers = nn.ModuleList(layers)
        self.lm_head = nn.Linear(64, 10, bias=False, dtype=torch.float16)

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head


@pytest.mark.parametrize(("bits", "named"), [(4, True), (8, True), (4, False), (8, False)])
def test_a_packed_layer_is_counted_to_the_byte(bits: int, named: bool) -> None:
    """Its weights by their bits, its metadata apart, its bias as what it is; tables that share memory once."""
    inputs, outputs, group = 256, 128, 64
    found = census.count(Stack(Gptq(inputs, outputs, bits, group, named=named)))
    metadata = 4 * outputs * bits // 8 + 4 * outputs * 2 + inputs * 4 + 32 // bits * 4
    assert found.bytes_by_storage == {
        "float16": 2 * 10 * 64 * 2 + outputs * 2,
        f"packed int{bits}": inputs * outputs * bits // 8,
        f"packed int{bits} metadata": metadata,
    }
    assert (found.linear_weights, found.linear_quantized) == (inputs * outputs, inputs * outputs)
    assert found.linear_bits == pytest.approx(bits + 8 * metadata / (inputs * outputs))
    assert found.kernels == {"Gptq": 1, "Linear": 1}
    assert (found.left_out, found.grid_share) == (("lm_head",), None)
    scheme = BACKEND.scheme(f"gptq-int{bits}")
    assert scheme is not None
    assert found.contradiction(scheme) is None


def test_an_awq_layer_is_counted_to_the_byte() -> None:
    """Without an index its inputs are the rows of the packed words."""
    found = census.count(Stack(Awq(256, 128, 128)))
    assert found.linear_weights == found.linear_quantized == 256 * 128
    assert (found.compute, found.embedding_bytes) == (None, 10 * 64 * 2)  # the kernel does not tell
    assert found.bytes_by_storage["packed int4"] == 256 * 128 // 2
    assert found.bytes_by_storage["packed int4 metadata"] == 2 * 128 * 2 + 2 * 128 // 2
    scheme = BACKEND.scheme("awq-int4")
    assert scheme is not None
    assert found.contradiction(scheme) is None


def test_what_a_kernel_adds_is_counted_too() -> None:
    """A plain attribute, such as a cache of unpacked zero points, is memory as well; an empty one is none."""
    layer = Gptq(256, 128, 4, 64)
    before = sum(part.numel() * part.element_size() for _, part in packed_layers.parts(layer))
    layer.cache = torch.zeros(4, 128, dtype=torch.int8)
    layer.nothing = torch.zeros(0)
    assert sum(part.numel() * part.element_size() for _, part in packed_layers.parts(layer)) == before + 4 * 128


def test_a_plain_layer_among_packed_ones_shows() -> None:
    """A quarter of the weights left at 16 bits contradicts the scheme, and the layer is named."""
    plain = nn.Linear(256, 128, bias=False, dtype=torch.float16)
    found = census.count(Stack(*(Gptq(256, 128, 4, 64) for _ in range(3)), plain))
    scheme = BACKEND.scheme("gptq-int4")
    assert scheme is not None
    assert "75.0% are" in (found.contradiction(scheme) or "")
    assert found.left_out == ("layers.3", "lm_head")


def test_a_model_that_128_does_not_divide_has_groups_of_64() -> None:
    """As the quantizing process chooses, so the prediction."""
    scheme = BACKEND.scheme("gptq-int4")
    assert scheme is not None
    assert (predict.grouped(scheme, [256, 1536]).group, predict.grouped(scheme, [576, 1536]).group) == (128, 64)
    assert predict.grouped(scheme, [576]).linear_bytes(10, 576) == 10 * 576 // 2 + 10 * 9 * 2.5 + 576 * 4
    assert gptq_make.group(Stack(nn.Linear(256, 128), nn.Linear(1536, 576))) == 128
    assert gptq_make.group(Stack(nn.Linear(576, 128), nn.Linear(1536, 576))) == 64
    with pytest.raises(files.Refused, match="no group of 128 or 64 weights divides inputs of 100 to 256"):
        gptq_make.group(Stack(nn.Linear(100, 128), nn.Linear(256, 100)))


# What it is calibrated on.


def longest_scored(encode: Callable[[str], list[int]], decode: Callable[[list[int]], str]) -> dict[str, int]:
    """Characters from the beginning of each register to the end of the last window that any profile scores."""
    settings = divergence.PROFILES["full"]
    tokens: dict[str, int] = {}
    for register, window in probe.windows(encode, settings["windows"], settings["window_tokens"]):
        tokens[register] = tokens.get(register, 0) + len(window)
    return {register: len(decode(encode(probe.text(register))[:count])) for register, count in tokens.items()}


def test_no_scored_window_is_calibrated_on() -> None:
    """With five characters a token, more than tokenizers make of these registers."""
    ends = longest_scored(
        lambda text: [text[i : i + 5] for i in range(0, len(text), 5)],  # type: ignore[misc,return-value]
        "".join,  # type: ignore[arg-type]
    )
    for register, start in gptq.TAILS.items():
        assert ends[register] < start < len(probe.text(register)) - 5000
        assert probe.text(register)[start:] in gptq.calibration_text()


def test_calibration_is_spread_over_its_text() -> None:
    """Thirty-two windows of 256 tokens at most, none twice, from every register."""

    def words(text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [hash(word) for word in text.split(" ")]}

    found = gptq_make.examples(words)
    assert len(found) == min(gptq.WINDOWS, len(words(gptq.calibration_text())["input_ids"]) // 256)
    assert {len(example["input_ids"][0]) for example in found} == {256}
    assert len({tuple(example["input_ids"][0]) for example in found}) == len(found)
    with pytest.raises(files.Refused, match="fewer than a window"):
        gptq_make.examples(lambda text, **_: {"input_ids": [1, 2]})


# Stored schemes.


def request(folder: Path, scheme: str, **changes: Any) -> LoadRequest:
    """Local weights on the CPU."""
    model = Model(name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny")
    facts = {"model": model, "weights": Weights.LOCAL, "scheme": BACKEND.scheme(scheme), "device": "cpu"}
    return LoadRequest(**(facts | {"path": str(folder)} | changes))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., files.Located]:
    """A checkpoint of one weight file whose configuration says how it is quantized."""

    def made(**quantization: Any) -> files.Located:
        config = {"model_type": "llama"} | ({"quantization_config": quantization} if quantization else {})
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        return files.Located(tmp_path, files.provenance(tmp_path, "tiny"))

    return made


def installed(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    """Let optimum and gptqmodel be installed, or not."""

    def version(name: str) -> str:
        if there:
            return "7.7.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize(
    ("quantization", "scheme"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-int4"),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "gptq-int8"),
        ({"bits": 4, "group_size": 128}, "gptq-int4"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq-int4"),
        ({"quant_method": "awq", "w_bit": 4}, "awq-int4"),
    ],
)
def test_a_checkpoint_that_is_stored_so_is_loaded_as_it_stands(
    folder: Callable[..., files.Located], quantization: dict[str, Any], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is quantized again, and nothing of ours was its calibration; any other scheme is refused by name."""
    installed(monkeypatch, there=True)
    located = folder(**quantization)
    assert located.folder is not None
    ready = gptq.ready(located, request(located.folder, scheme))
    assert (ready.folder, ready.provenance.files) == (located.folder, located.provenance.files)
    assert ready.provenance.is_stored_in(scheme) and not located.provenance.is_stored_in(scheme)
    assert gptq.caveats(located, request(located.folder, scheme)) == ()
    for other in {"bf16", "bnb-nf4", "gptq-int8", "awq-int4"} - {scheme}:
        with pytest.raises(Unsupported, match=f"its weights are stored as {scheme}: ask for --scheme {scheme}"):
            gptq.ready(located, request(located.folder, other))


def test_everything_that_decides_a_quantized_copy_is_in_its_name(
    folder: Callable[..., files.Located], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, configuration, the tokenizer that reads the calibration text, bits, how a copy was merged, libraries."""
    installed(monkeypatch, there=True)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    names: list[str] = []
    monkeypatch.setattr(gptq, "made_once", lambda target, *_: names.append(target.name))

    def ask(scheme: str = "gptq-int4") -> None:
        gptq.ready(files.Located(at, files.provenance(at, "tiny")), request(at, scheme))

    at = folder().folder
    assert at is not None
    ask()
    ask("gptq-int8")
    (at / "config.json").write_text(json.dumps({"model_type": "llama", "rope_theta": 5.0}))
    ask()
    (at / "tokenizer.json").write_text("{}")
    ask()
    (at / "model.safetensors").write_bytes(b"others!")
    ask()
    for name in ("merged-a", "merged-b"):  # made of the same files in another way
        shutil.copytree(at, tmp_path / "cache" / "weights" / name, ignore=shutil.ignore_patterns("cache"))
        located = files.Located(tmp_path / "cache" / "weights" / name, files.provenance(at, "tiny"))
        gptq.ready(located, request(at, "gptq-int4"))
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "7.7.1")
    ask()
    assert len(set(names)) == len(names) == 8
    ask()
    assert names[-1] == names[-2]


@pytest.mark.parametrize(
    ("quantization", "scheme", "reason"),
    [
        ({"quant_method": "fp8"}, "bf16", "its weights are stored as fp8: no scheme here is stored so"),
        ({}, "awq-int4", "awq-int4 loads checkpoints that are stored so; this one's weights are not quantized"),
    ],
)
def test_a_checkpoint_that_is_stored_otherwise_says_so(
    folder: Callable[..., files.Located], quantization: dict[str, Any], scheme: str, reason: str
) -> None:
    """A finding with its reason, not a failure."""
    located = folder(**quantization)
    assert located.folder is not None
    with pytest.raises(Unsupported) as caught:
        gptq.ready(located, request(located.folder, scheme))
    assert str(caught.value) == reason


def test_random_weights_have_nothing_to_calibrate(tmp_path: Path) -> None:
    """GPTQ of noise would say nothing of anything."""
    with pytest.raises(Unsupported, match="nothing to calibrate"):
        gptq.ready(files.Located(None, None), request(tmp_path, "gptq-int4"))  # type: ignore[arg-type]


def test_without_its_libraries_gptq_names_its_session(
    folder: Callable[..., files.Located], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; nothing is made."""
    installed(monkeypatch, there=False)
    located = folder()
    assert located.folder is not None
    with pytest.raises(UserError) as caught:
        gptq.ready(located, request(located.folder, "gptq-int4"))
    assert str(caught.value) == "gptq-int4 needs optimum; run it in its own environment: `nox -s bench-gptq`"


def test_asked_for_in_the_plain_environment_it_is_one_line_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the session that has it; no worker is started and no record of a failure is kept."""
    installed_here = distributions.is_installed
    monkeypatch.setattr(
        "bench.engines.contract.is_installed", lambda name: name not in gptq.LIBRARIES and installed_here(name)
    )
    for scheme in gptq.STORED:
        call = ["run", "--scheme", f"bf16,{scheme}", "--device", "cpu", "--results", str(tmp_path / "results")]
        assert guarded(lambda call=call: app(call)) == 2  # type: ignore[misc]
        line = f"bench: scheme {scheme} lacks optimum, gptqmodel; {gptq.REMEDY}\n"
        assert capsys.readouterr().err == line
    assert not (tmp_path / "results").exists()


def test_a_checkpoint_is_quantized_once(
    folder: Callable[..., files.Located], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the very weights, bits and libraries; its record keeps the source's provenance and tells the calibration."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    installed(monkeypatch, there=True)
    made: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(gptq, "made_once", lambda target, module, arguments: made.append((module, list(arguments))))
    located = folder()
    assert located.folder is not None
    asked = {name: request(located.folder, name) for name in ("gptq-int4", "gptq-int8")}
    four, eight = (gptq.ready(located, asking) for asking in asked.values())
    assert [(module, arguments[1]) for module, arguments in made] == [("gptq_make", "4"), ("gptq_make", "8")]
    assert four.folder != eight.folder == gptq.ready(located, asked["gptq-int8"]).folder
    assert four.provenance is located.provenance
    (caveat,) = gptq.caveats(four, asked["gptq-int4"])
    assert (caveat.kind, gptq.calibration_sha256() in caveat.text) == ("calibrated", True)
    (located.folder / "model.safetensors").write_bytes(b"others")
    other = files.Located(located.folder, files.provenance(located.folder, "tiny"))
    assert gptq.ready(other, asked["gptq-int4"]).folder != four.folder


# In the environment of `bench-gptq`.


@needs_gptq
def test_gptq_quantizes_loads_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny llama through the real process: cached, proven by its census, and close to its own float32 scores."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    source = tiny.checkpoint(tmp_path, "llama")
    asked = request(source, "gptq-int8")
    BACKEND.prepare(asked)
    (cached,) = (tmp_path / "cache" / "weights").iterdir()
    assert json.loads((cached / "config.json").read_text())["quantization_config"]["group_size"] == 64
    assert not [path for path in cached.parent.iterdir() if ".part" in path.name]
    engine, plain = BACKEND.load(asked), BACKEND.load(request(source, "fp32"))
    assert engine.census().linear_quantized == engine.census().linear_weights == plain.census().linear_weights
    assert [caveat.kind for caveat in engine.caveats] == ["calibrated"]
    row = Row(tuple(engine.encode("The lazy dog")), tuple(engine.encode(" jumps over")))
    (quantized,), (exact,) = engine.score([row]), plain.score([row])
    assert quantized.total == pytest.approx(exact.total, rel=0.1)
    tokens = engine.encode("The lazy dog jumps over")
    difference = abs(engine.log_probs(tokens) - plain.log_probs(tokens)).mean()
    assert difference < 0.03, "of a spread of 0.8 nats"
    assert BACKEND.load(request(cached, "gptq-int8")).census().total_bytes == engine.census().total_bytes
    with pytest.raises(Unsupported, match="stored as gptq-int8"):
        BACKEND.load(request(cached, "bf16"))


@needs_gptq
@pytest.mark.usefixtures("default_folder")
@pytest.mark.skipif("BENCH_TEST_CACHE" not in os.environ, reason="quantizes for minutes: set BENCH_TEST_CACHE")
@pytest.mark.parametrize("scheme", ["gptq-int4", "gptq-int8"])
def test_the_default_model_has_the_predicted_bytes(scheme: str) -> None:
    """Within one per cent of the census, as this machine's kernels hold them."""
    model = select(read_catalog(), [DEFAULT_MODEL])[0]
    chosen = BACKEND.scheme(scheme)
    assert chosen is not None and model.architecture is not None
    asked = LoadRequest(model=model, weights=Weights.PACKAGE, scheme=chosen, device="cpu")
    BACKEND.prepare(asked)
    found = BACKEND.load(asked).census()
    assert found.contradiction(chosen) is None
    stored = BACKEND.adapt(chosen, machine.describe("cpu"))
    assert predict.weights_bytes(model.architecture, stored) == pytest.approx(found.total_bytes, rel=0.01)


def test_kernels_of_the_cpu_decide_what_is_held() -> None:
    """Four bits have float32 scales where AVX-512 BF16 computes them, else 16-bit ones and ATen's table."""
    four, eight = BACKEND.scheme("gptq-int4"), BACKEND.scheme("gptq-int8")
    assert four is not None and eight is not None
    wide, narrow = make_machine(cpu_flags=("avx512_bf16",)), make_machine()
    assert [BACKEND.adapt(four, m).group_bytes for m in (wide, narrow)] == [5, 8]
    assert [BACKEND.adapt(eight, m).group_bytes for m in (wide, narrow)] == [5, 5]
    assert BACKEND.adapt(four, make_machine(kind="cuda")) is four


@pytest.mark.parametrize("name", ["gptq-int4", "gptq-int8"])
def test_only_four_bits_are_packed_anew_and_only_eight_are_traced(name: str) -> None:
    """Either keeps a view of the file, whose metadata are a 16-bit scale and a packed zero point for each group."""
    scheme = BACKEND.scheme(name)
    assert scheme is not None and scheme.kernel == Kernel()
    kernel = BACKEND.adapt(scheme, make_machine()).kernel
    found = (kernel.mapped, kernel.file_group_bytes, kernel.traced, bool(kernel.moments))
    assert found == ((True, 2.5, False, False) if name == "gptq-int4" else (True, None, True, True))


def awq_packed(values: torch.Tensor) -> torch.Tensor:
    """Four-bit integers of shape (rows, columns), eight columns to a word in AWQ's order."""
    words = torch.zeros(values.shape[0], values.shape[1] // 8, dtype=torch.int64)
    for place, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
        words |= values[:, column::8].long() << (4 * place)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def awq_checkpoint(source: Path, base: Path, group: int = 64) -> tuple[Path, Path]:
    """A checkpoint in AWQ's layout, rounded to the nearest of sixteen values in each group of inputs, and its values.

    Folders of both; the second holds them as plain numbers.
    """
    from safetensors.torch import load_file, save_file

    tensors: dict[str, torch.Tensor] = {}
    plain = load_file(source / "model.safetensors")
    for name, weight in list(plain.items()):
        if not name.endswith("proj.weight"):
            tensors[name] = weight.half()
            continue
        grouped = weight.T.reshape(-1, group, weight.shape[0])
        low, high = grouped.amin(1), grouped.amax(1)
        scales = ((high - low) / 15).half()
        zeros = (-low / scales.float()).round().clamp(0, 15)
        rounded = (grouped / scales[:, None].float() + zeros[:, None]).round().clamp(0, 15)
        stem = name.removesuffix("weight")
        tensors[f"{stem}qweight"] = awq_packed(rounded.reshape(weight.T.shape))
        tensors[f"{stem}qzeros"] = awq_packed(zeros)
        tensors[f"{stem}scales"] = scales
        values = (rounded - zeros[:, None]) * scales[:, None].float()
        plain[name] = values.reshape(weight.T.shape).T.contiguous()
    folder, twin = base / "awq", base / "rounded"
    for target, held in ((folder, tensors), (twin, plain)):
        shutil.copytree(source, target)
        save_file(held, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["dtype"] = "float16"
    config["quantization_config"] = {
        "quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder, twin


@needs_gptq
def test_an_awq_checkpoint_loads_and_passes_the_census(tmp_path: Path) -> None:
    """As the Hub has them: packed words of four bits in every layer but the head, and the scores of its values."""
    source = tiny.checkpoint(tmp_path, "llama")
    packed, rounded = awq_checkpoint(source, tmp_path)
    engine, plain = BACKEND.load(request(packed, "awq-int4")), BACKEND.load(request(rounded, "fp32"))
    found = engine.census()
    assert found.linear_quantized == found.linear_weights == plain.census().linear_weights
    assert found.bytes_by_storage["packed int4"] == found.linear_weights // 2
    assert not [kernel for kernel in found.kernels if kernel != "Linear" and "Awq" not in kernel]
    tokens = engine.encode("The lazy dog jumps over")
    difference = abs(engine.log_probs(tokens) - plain.log_probs(tokens)).mean()
    assert difference < 0.03, "bfloat16 against float32"


@needs_gptq
def test_a_checkpoint_published_in_4_bits_is_measured_and_compared_with_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the real runner: memory is measured, distance has its reason, and nothing has failed."""
    monkeypatch.setattr("bench.run.measure.measure_roof", lambda *_: Roof(engine="none"))
    packed, _ = awq_checkpoint(tiny.checkpoint(tmp_path, "llama"), tmp_path)
    where = ["--weights", f"local={packed}", "--device", "cpu", "--results", str(tmp_path / "results")]
    asked = ["run", "--scheme", "awq-int4", "--suite", "memory,divergence", "--profile", "smoke", *where]
    with pytest.raises(SystemExit) as done:
        guarded(lambda: app(asked))
    assert done.value.code == 0
    found = {(r.cell.scheme, r.cell.suite): r for r in Store(tmp_path / "results").records()}
    assert {key: record.outcome.reason for key, record in found.items()} == {
        ("bf16", "divergence"): "its weights are stored as awq-int4: ask for --scheme awq-int4",
        ("awq-int4", "memory"): "",
        ("awq-int4", "divergence"): NO_WIDER_WEIGHTS,
    }
    provenance = found["awq-int4", "memory"].provenance
    assert provenance is not None and provenance.stored_as == "awq-int4"
    assert f": {NO_WIDER_WEIGHTS}\n" in capsys.readouterr().out
