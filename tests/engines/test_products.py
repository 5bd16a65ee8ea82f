# SPDX-License-Identifier: Apache-2.0
"""How layers multiply while rows are scored: the libraries' own values sooner, and all left as it was."""

import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

from bench.catalog.model import Model, Objective  # noqa: E402
from bench.engines.contract import LoadRequest, Row  # noqa: E402
from bench.engines.transformers import BACKEND, eight_bit, onednn, sixteen_bit  # noqa: E402
from bench.records.cell import Weights  # noqa: E402

ONEDNN = "mkldnn::_linear_pointwise"
OBJECTIVES = {"t5": Objective.SEQ2SEQ, "bert": Objective.MASKED}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny checkpoints, made on first use."""
    base, made = tmp_path_factory.mktemp("tiny"), {}
    return lambda kind: made.setdefault(kind, made.get(kind) or tiny.checkpoint(base, kind))


def engine(folder, scheme, kind="llama", **changes):
    """A loaded tiny model."""
    model = Model(
        name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny",
        objective=OBJECTIVES.get(kind, Objective.CAUSAL),
    )  # fmt: skip
    facts = {"model": model, "weights": Weights.LOCAL, "scheme": BACKEND.scheme(scheme), "device": "cpu"}
    return BACKEND.load(LoadRequest(**(facts | {"path": str(folder)} | changes)))


def items():
    """Three questions of 20 tokens with two endings each, and a text of 200 that is scored from its second token on."""
    rng = random.Random(0)
    made = []
    for _ in range(3):
        context = tuple(rng.randrange(2, tiny.VOCABULARY) for _ in range(20))
        made += [Row(context, tuple(rng.randrange(2, tiny.VOCABULARY) for _ in range(6))) for _ in range(2)]
    text = tuple(rng.randrange(2, tiny.VOCABULARY) for _ in range(200))
    return [*made, Row(text[:1], text[1:])]


@pytest.mark.parametrize("kind", ["llama", "opt", "bloom", "t5", "bert"])
def test_float32_rows_are_scored_with_onednns_products_however_they_are_read(folders, kind):
    """Trees, padded rows, encoders: not one product is left to MKL, unless plain scoring asks for the library's own."""
    rows, scores = items(), {}
    for plain in (False, True):
        made = engine(folders(kind), "fp32", kind, plain_scoring=plain)
        with torch.profiler.profile() as seen:
            scores[plain] = made.score(rows)
        counts = {event.key: event.count for event in seen.key_averages()}
        assert (counts.get(ONEDNN, 0) > 0, counts.get("aten::linear", 0) > 0) == (not plain, plain)
        assert not any("forward" in vars(module) for module in made.model.modules())
    for shared, alone in zip(scores[False], scores[True], strict=True):
        assert shared.log_probs == pytest.approx(alone.log_probs, abs=2e-5)
        assert shared.greedy == alone.greedy


class Packed(torch.Tensor):
    """What a quantizer puts in a weight's place: integers in a class of its own that says float32."""


def test_a_weight_of_a_quantizers_own_class_is_multiplied_by_that_class():
    """Tensors of torchao say float32 where the model computes in it, and know their own products alone."""
    plain, packed = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    packed.weight = torch.nn.Parameter(packed.weight.detach().as_subclass(Packed))
    with onednn.through_onednn(torch.nn.Sequential(plain, packed)):
        assert "forward" in vars(plain)
        assert "forward" not in vars(packed)


def outliers(width, rows):
    """Inputs of which three columns hold values beyond the threshold, in some rows alone; one row is empty."""
    torch.manual_seed(0)
    read = torch.randn(rows, width).clamp(-4, 4)
    read[::2, 3], read[-1, 5], read[0, width - 1] = 9.5, -30, 6
    read[rows // 2, 7:] *= 1e-6
    if rows > 3:
        read[2] = 0
    return read


@pytest.mark.parametrize("kind", ["llama", "opt"])
@pytest.mark.parametrize("rows", [1, 2, 3, 40])
@pytest.mark.parametrize("loud", [True, False])
def test_llm_int8_layers_give_the_librarys_bits_in_fewer_passes(folders, kind, rows, loud):
    """With and without a bias, one row and many, with outliers and without; an input is not changed by being read."""
    model = engine(folders(kind), "bnb-int8").model
    layers = [layer for layer in model.modules() if type(layer).__name__ == "Linear8bitLt"]
    for dtype in (torch.bfloat16, torch.float16):
        for layer in layers:
            read = outliers(layer.in_features, rows).to(dtype)[None]
            read = read if loud else read.clamp(-4, 4)
            with torch.inference_mode():
                wanted, before = layer(read), read.clone()
                with eight_bit.in_few_passes(model):
                    assert all("forward" in vars(one) for one in layers)
                    found = layer(read)
            assert torch.equal(read, before)
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)
    assert not any("forward" in vars(layer) for layer in layers)


def test_layers_of_one_input_round_it_once(folders, monkeypatch):
    """Queries, keys and values; gate and up: four inputs in a layer of seven products."""
    made, times = engine(folders("llama"), "bnb-int8"), []
    rounded = eight_bit.rounded
    monkeypatch.setattr(eight_bit, "rounded", lambda *given: times.append(1) or rounded(*given))
    made.score([Row((2, 3, 4), (5,))])
    assert len(times) == 2 * 4


def test_llm_int8_scores_are_the_librarys_own(folders, monkeypatch):
    """To the last bit, as plain scoring gives them, where a CPU has 16-bit products; else within their rounding."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    made = {plain: engine(folders("llama"), "bnb-int8", plain_scoring=plain) for plain in (False, True)}
    plain = made[True].score(items())
    assert made[False].score(items()) == plain
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    for shared, alone in zip(made[False].score(items()), plain, strict=True):
        assert shared.log_probs == pytest.approx(alone.log_probs, abs=0.1)


@pytest.fixture
def old_cpu(monkeypatch):
    """A CPU without 16-bit products, whatever this one has."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def steps_apart(found, wanted):
    """How many of their values differ, and by how many steps of their type at most."""
    size = torch.maximum(found.abs(), wanted.abs()).float()
    step = torch.finfo(wanted.dtype).eps * 2 ** torch.floor(torch.log2(size.clamp(min=1e-20)))
    apart = (found.float() - wanted.float()).abs() / step
    return int((apart > 0).sum()), float(apart.max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
def test_16_bit_layers_are_multiplied_in_float32_and_rounded_once(old_cpu, monkeypatch, dtype, bias):
    """As the library sums them but for the order: one value in a hundred at most is a step of the type apart."""
    monkeypatch.setattr(sixteen_bit, "BLOCK_BYTES", 5 * 4 * 64)  # the last of several blocks is a part of one
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 48, bias=bias)).to(dtype)
    read = torch.randn(2, 30, 64).to(dtype)
    with torch.inference_mode():
        wanted = model(read)
        exact = torch.nn.functional.linear(
            read.double(), model[0].weight.double(), model[0].bias.double() if bias else None
        )
        with sixteen_bit.in_float32(model), torch.profiler.profile() as seen:
            found = model(read)
    assert found.dtype == dtype
    assert found.shape == (2, 30, 48)
    differing, most = steps_apart(found, wanted)
    assert differing <= found.numel() / 100
    assert most <= 1
    assert steps_apart(found, exact.to(dtype))[0] <= found.numel() / 100
    assert sum(event.count for event in seen.key_averages() if event.key == "aten::linear") == 10
    assert "forward" not in vars(model[0])


def test_few_rows_other_types_and_newer_cpus_are_left_to_the_library(monkeypatch):
    """A packed weight's own class, float32, a token at a time, and wherever torch has 16-bit products."""
    half, full, packed = (torch.nn.Linear(4, 4) for _ in range(3))
    half.bfloat16()
    packed.weight = torch.nn.Parameter(packed.weight.detach().bfloat16().as_subclass(Packed))
    layers = torch.nn.Sequential(half, full, packed)
    for capability, taken in (("AVX512", []), ("AVX2", [half]), ("DEFAULT", [half])):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda named=capability: named)
        with sixteen_bit.in_float32(layers):
            assert [layer for layer in layers if "forward" in vars(layer)] == taken
    with sixteen_bit.in_float32(layers), torch.inference_mode(), torch.profiler.profile() as seen:
        half(torch.ones(sixteen_bit.FEW, 4, dtype=torch.bfloat16))
    assert "aten::to" not in {event.key for event in seen.key_averages()}


def test_16_bit_scores_are_plain_scorings_but_for_rounding(old_cpu, folders):
    """Every linear layer of a model, its head too."""
    made = {plain: engine(folders("llama"), "bf16", plain_scoring=plain) for plain in (False, True)}
    for shared, alone in zip(made[False].score(items()), made[True].score(items()), strict=True):
        assert shared.log_probs == pytest.approx(alone.log_probs, abs=0.05)
    assert made[False].score(items()) != made[True].score(items())


def test_outliers_of_llm_int8_are_added_in_float32_where_a_cpu_has_no_16_bit_products(old_cpu):
    """Rounded once, as the library rounds them."""
    torch.manual_seed(0)
    made, left, right = torch.randn(40, 96).bfloat16(), torch.randn(40, 6).bfloat16(), torch.randn(6, 96).bfloat16()
    wanted = (made.double() + left.double() @ right.double()).to(torch.bfloat16)
    differing, most = steps_apart(sixteen_bit.plus(made, left, right), wanted)
    assert differing <= 2
    assert most <= 1
    assert sixteen_bit.plus(made.float(), left.float(), right.float()).dtype is torch.float32


def test_distributions_of_16_bit_rows_are_read_so_too(old_cpu, folders, monkeypatch):
    """Texts beside each other and piece by piece, not token by token; plain scoring leaves them to the library."""
    seen = []
    through = sixteen_bit.in_float32
    monkeypatch.setattr("bench.engines.transformers.engine.in_float32", lambda model: seen.append(1) or through(model))
    text = list(range(2, 42))
    made = {plain: engine(folders("llama"), "bf16", plain_scoring=plain) for plain in (False, True)}
    read = made[False].log_probs(text)
    assert len(seen) == 1
    made[False].log_probs_stepwise(text)
    plain = made[True].log_probs(text)
    assert len(seen) == 1
    assert read == pytest.approx(plain, abs=0.1)
