# SPDX-License-Identifier: Apache-2.0
"""PyTorch models through Hugging Face transformers, quantized by bitsandbytes while they load."""

from __future__ import annotations

from typing import Literal

from bench.catalog.architecture import slides
from bench.catalog.config import Config, UnknownArchitecture, settings
from bench.catalog.model import Model, Objective
from bench.engines.abilities import ROWS
from bench.engines.contract import Backend, Engine, LoadRequest
from bench.engines.transformers.kv_settings import GROUP, kept_in
from bench.engines.weights.gptq import LIBRARIES, REMEDY, STORED
from bench.engines.weights.stored import COMPRESSED, TORCHAO
from bench.instruments import Instruments
from bench.instruments.distributions import is_installed
from bench.records.cell import KV, Cell, Precision, Scheme
from bench.records.kernel import Kernel
from bench.records.record import Provenance
from bench.records.surroundings import Machine

NF4 = "bitsandbytes NF4, blocks of 64 with a float32 scale; embeddings and head stay 16-bit"
GPTQ = "GPTQ by optimum, symmetric, groups of 128 (64 where 128 does not divide), calibrated on this project's text"
GROUPED: dict[str, int] = {"group": 128, "group_else": 64, "column_bytes": 4}
UNPACKED = "compressed-tensors, {} as their maker stored them, unpacked to 16 bits for good at the first pass"
PACKED = {TORCHAO: ("torchao",), **dict.fromkeys(COMPRESSED, ("compressed_tensors",))}
PACKED_REMEDY = 'pip install -e ".[transformers,packed]", or `nox -s bench-packed`'
NO_INT4 = "torchao 0.18 packs no int4 weights for a CPU, and for a GPU with libraries alone that nothing here pins"
X: Literal["input"] = "input"
Y: Literal["output"] = "output"
W: Literal["weight"] = "weight"
APART: Literal["outliers"] = "outliers"
QUANTIZING = ((X, 2), (X, 4), (X, 4), (X, 1))
"""LLM.int8() on a CPU: the input in float16, scaled and rounded in float32, in int8 (bitsandbytes 0.50.2,
backends/default/ops.py, int8_vectorwise_quant)."""
TAKING_APART = ((X, 1), (APART, 1), (APART, 4), (APART, 4), (APART, 2))
"""Columns of outliers copied, dequantized in float32 in two steps, cast (int8_mixed_scaled_mm)."""
SCALING = ((X, 1), (Y, 4), (Y, 4), (Y, 4), (Y, 2), (APART, 2))
"""The product in int32, the same in float32, the product of the scales and what they give, four blocks of 4 bytes less
the output that is yet to come (int8_mm_dequant)."""
WIDENED = ((X, 1), (X, 4), (W, 4), (Y, 4), (Y, 4), (APART, 2))
"""Without AVX-512, where torch has no fast product of int8: both sides in float32 (int8_linear_matmul)."""
INT8_ON_CPU = {True: (QUANTIZING, TAKING_APART, SCALING), False: (QUANTIZING, TAKING_APART, WIDENED, SCALING)}
"""`Kernel.moments` with and without AVX-512."""
NF4_ON_CPU = {True: (((X, 4), (X, 2), (Y, 4)),), False: (((X, 4), (W, 4), (Y, 4)),)}
"""`Kernel.moments` with and without AVX-512 BF16 at float32 compute: the fused kernel takes bfloat16, so the input is
cast twice; without it the whole weight is dequantized (nn/modules.py, Linear4bit.forward, backends/cpu/ops.py)."""
UNPACKING = (((W, 4), (W, 2)), ((W, 2), (W, 2), (W, 2), (W, 2)))
"""gptqmodel's TorchLinear: the weight shifted out of its words in int32 and the same in int16; then in int16 or float16
the weight, its zero points, their difference, and either the scales or the product (7.7.0,
nn_modules/qlinear/torch.py, _right_shift_unpack and _dequantize_weight_cached_248)."""
SCHEMES = (
    Scheme(name="fp32", precision=Precision.FP32, bits=32, other_bytes=4, method="float32"),
    Scheme(name="bf16", precision=Precision.FP16, bits=16, kept_bytes=2, method="bfloat16"),
    Scheme(name="fp16", precision=Precision.FP16, bits=16, method="float16"),
    Scheme(
        name="native16",
        precision=Precision.FP16,
        bits=16,
        method="the checkpoint's own 16-bit type, float16 where it has none",
    ),
    Scheme(
        name="bnb-int8",
        precision=Precision.INT8,
        bits=8,
        row_bytes=4,
        kernel=Kernel(moments=(((X, 2), (X, 1), (Y, 4), (APART, 2)),)),
        whole_pass=True,  # outlier columns are those of any row: int8_vectorwise_quant, backends/default/ops.py
        method="bitsandbytes LLM.int8(), outlier threshold 6.0; embeddings and head stay 16-bit",
    ),
    Scheme(
        name="bnb-nf4",
        precision=Precision.INT4,
        bits=4,
        group=64,
        group_bytes=4,
        layer_bytes=64,
        kernel=Kernel(moments=(((W, 2),),)),
        method=NF4,
    ),
    Scheme(
        name=TORCHAO,
        precision=Precision.INT8,
        bits=8,
        row_bytes=5,
        weight_only=True,
        kernel=Kernel(moments=(((W, 2),),)),
        method="torchao int8 weight-only, a float32 scale for each row; embeddings and head stay 16-bit",
    ),
    Scheme(name="ct-w4a16", precision=Precision.INT4, bits=16, method=UNPACKED.format("4-bit weights")),
    Scheme(name="ct-w8a16", precision=Precision.INT8, bits=16, method=UNPACKED.format("8-bit weights")),
    Scheme(
        name="ct-w8a8",
        precision=Precision.INT8,
        bits=16,
        method=UNPACKED.format("8-bit weights and activations") + "; activations are rounded in 16-bit arithmetic",
    ),
    Scheme(name="gptq-int8", precision=Precision.INT8, bits=8, group_bytes=3, method=GPTQ, **GROUPED),
    Scheme(name="gptq-int4", precision=Precision.INT4, bits=4, group_bytes=2.5, method=GPTQ, **GROUPED),
    Scheme(
        name="awq-int4",
        precision=Precision.INT4,
        bits=4,
        group=128,
        group_bytes=2.5,
        method="AWQ as its maker stored it, usually groups of 128 with a 16-bit scale",
    ),
)


RUN_WITH = {
    "fp32": ("", "dtype='float32'"),
    "bf16": ("", "dtype='bfloat16'"),
    "fp16": ("", "dtype='float16'"),
    "native16": ("", "dtype='auto'"),
    "bnb-int8": ("BitsAndBytesConfig as Q, ", "\nmodel_kwargs={'quantization_config': Q(load_in_8bit=True)}"),
    "bnb-nf4": (
        "BitsAndBytesConfig as Q, ",
        "\nmodel_kwargs={'quantization_config': Q(load_in_4bit=True, bnb_4bit_quant_type='nf4')}",
    ),
}
"""What `command` imports beside the pipeline, and what it hands to it."""


def adapt(scheme: Scheme, machine: Machine) -> Scheme:
    """The scheme as bitsandbytes or a gptqmodel kernel stores it on a CPU.

    What is not quantized is bfloat16, T5's `wo` too. For NF4, the first forward pass casts biases to the compute type,
    float32 here, and scales to bfloat16 on CPUs with AVX-512 BF16.
    """
    if machine.kind != "cpu" or not scheme.quantizes:
        return scheme
    if scheme.name.startswith("gptq"):
        return _gptq_on_cpu(scheme, machine)
    changes: dict[str, object] = {"kept_bytes": 2}
    if scheme.name == "bnb-int8":
        changes["kernel"] = Kernel(moments=INT8_ON_CPU["avx512f" in machine.cpu_flags])
    elif scheme.name == "bnb-nf4":
        fused = "avx512_bf16" in machine.cpu_flags
        changes |= {"group_bytes": 2 if fused else 4, "bias_bytes": 4, "kernel": Kernel(moments=NF4_ON_CPU[fused])}
    return scheme.model_copy(update=changes)


def _gptq_on_cpu(scheme: Scheme, machine: Machine) -> Scheme:
    """GPTQ as the kernels that gptqmodel 7.7 chooses hold it after the first forward pass.

    Four bits are packed anew, with an index of the inputs beside the file's: TorchCpuAvx512Linear (AVX-512 BF16) has
    float32 scales and a byte for each zero point, TorchAtenLinear 16-bit scales and zero points, and a table of both.
    Of the file only the index is used, which keeps it mapped. Eight bits are used as they lie in the file, beside them
    a cache of unpacked zero points and 64-bit indices (TorchLinear); torch.compile traces how they are unpacked.
    """
    if scheme.bits == 4:
        group_bytes = 5 if "avx512_bf16" in machine.cpu_flags else 8
        held = {"group_bytes": group_bytes, "column_bytes": 8, "layer_bytes": 32}
        return scheme.model_copy(update=held | {"kernel": Kernel(mapped=True, file_group_bytes=scheme.group_bytes)})
    held = {"group_bytes": 5, "column_bytes": 12, "layer_bytes": 16}
    return scheme.model_copy(update=held | {"kernel": Kernel(mapped=True, moments=UNPACKING, traced=True)})


def refuses_kv(model: Model, kv: str) -> str | None:
    """Why transformers' quantized cache cannot hold this model's keys and values, None if it can."""
    if model.objective is not Objective.CAUSAL:
        return f"transformers quantizes no cache of {model.objective} models"
    if "/" in kv:
        return f"transformers' quantized cache has one precision for keys and values, not {kv}"
    if not is_installed("hqq"):
        return 'a quantized cache needs hqq: pip install -e ".[transformers,kv]"'
    return None if model.architecture is None else _refuses_layers(model.architecture, kv)


def _refuses_layers(architecture: Config, kv: str) -> str | None:
    """The same of its layers; QuantizedCache takes those of full attention alone."""
    try:
        width, windowed = settings(architecture)["head_dim"], slides(architecture)
    except UnknownArchitecture:
        return None
    if windowed:
        return "transformers' quantized cache has no layers of sliding attention, and this model has"
    return f"its heads of {width} values are no multiple of {GROUP}, the group of {kv}" if width % GROUP else None


def load(request: LoadRequest) -> Engine:
    """Load with transformers."""
    import torch

    from bench.engines.transformers import loading
    from bench.engines.transformers.causal import CausalEngine
    from bench.engines.transformers.engine import fits
    from bench.engines.transformers.masked import MaskedEngine
    from bench.engines.transformers.seq2seq import Seq2SeqEngine
    from bench.engines.weights.locate import locate

    loading.quiet()
    if request.threads:
        torch.set_num_threads(request.threads)
    located = locate(request)
    with fits("load"):
        loaded = loading.load(located, request)
    if request.model.objective is Objective.SEQ2SEQ:
        return Seq2SeqEngine(request, loaded)
    return (
        MaskedEngine(request, loaded) if request.model.objective is Objective.MASKED else CausalEngine(request, loaded)
    )


def prepare(request: LoadRequest) -> None:
    """Download, convert or merge the weights and import everything loading will need."""
    from bench.engines.transformers import loading
    from bench.engines.weights.locate import locate

    loading.warm_imports(locate(request), request)


def command(model: Model, provenance: Provenance, cell: Cell) -> str | None:
    """Text generation from the repository: GPTQ is quantized by the harness and lies nowhere, nor do merged weights."""
    if not model.repo or model.objective is not Objective.CAUSAL or model.adapters or cell.scheme not in RUN_WITH:
        return None
    needed, keywords = RUN_WITH[cell.scheme]
    kv = cell.settings.get(KV)
    cache = f",\ncache_implementation='quantized',\ncache_config={kept_in(str(kv))}" if kv else ""
    call = f"p('text-generation', '{model.repo}', {keywords})('Hello'{cache})"
    return f'python -c "from transformers import {needed}pipeline as p\nprint({call})"'


def instruments(device: str) -> Instruments:
    """Clock and memory counter of a device kind."""
    from bench.engines.transformers.engine import open_instruments

    return open_instruments(device)


BACKEND = Backend(
    name="transformers",
    summary="PyTorch models through Hugging Face transformers, quantized by bitsandbytes",
    schemes=SCHEMES,
    defaults={
        "cpu": {Precision.FP32: "fp32", Precision.FP16: "bf16", Precision.INT8: "bnb-int8", Precision.INT4: "bnb-nf4"},
        "cuda": {
            Precision.FP32: "fp32",
            Precision.FP16: "native16",
            Precision.INT8: "bnb-int8",
            Precision.INT4: "bnb-nf4",
        },
        "mps": {Precision.FP32: "fp32", Precision.FP16: "native16"},
    },
    requires=("torch", "transformers", "bitsandbytes", "accelerate", "lm_eval", "gguf"),
    versions=(
        "torchao",
        "compressed_tensors",
        "hqq",
        "peft",
        "optimum",
        "gptqmodel",
        "tokenizers",
        "safetensors",
        "numpy",
        "datasets",
    ),
    install='pip install -e ".[transformers]"',
    scheme_requires={**dict.fromkeys(STORED, LIBRARIES), **PACKED},
    scheme_install=dict.fromkeys(STORED, REMEDY) | dict.fromkeys(PACKED, PACKED_REMEDY),
    lacks={"torchao-int4": NO_INT4},
    load=load,
    prepare=prepare,
    adapt=adapt,
    refuses_kv=refuses_kv,
    instruments=instruments,
    anchor=True,
    spreads=True,
    builds_random=True,
    command=command,
    answers=ROWS,
)
