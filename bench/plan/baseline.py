# SPDX-License-Identifier: Apache-2.0
"""Memory of a worker before it loads a model. A memory limit counts it; a predicted or measured peak does not.

On a CPU: Python and the libraries, file-mapped pages included, as medians of this project's own records. On a GPU: the
driver's context with the kernels, what drivers commonly take.
"""

from __future__ import annotations

from bench.records.cell import Scheme
from bench.records.record import Prediction

MIB = 2**20
BASELINE_BYTES = {
    "cpu": {
        "transformers": 480 * MIB,
        "llamacpp": 62 * MIB,
        "onnxruntime": 76 * MIB,
        "openvino": 74 * MIB,
        "fake": 100_000_000,
    },
    "cuda": {"transformers": 450 * MIB, "llamacpp": 450 * MIB},
}
"""By kind of device and backend."""
GPTQ_BYTES = 480 * MIB
"""What gptqmodel and the libraries it imports add on a CPU."""


def baseline_bytes(kind: str, backend: str, scheme: Scheme) -> int:
    """Bytes of that backend's worker on that kind of device before it loads a model; 0 if unknown."""
    more = GPTQ_BYTES if kind == "cpu" and scheme.name.startswith("gptq") else 0
    return BASELINE_BYTES.get(kind, {}).get(backend, 0) + more


def with_baseline(predicted: Prediction, kind: str, backend: str, scheme: Scheme) -> Prediction:
    """The prediction with its baseline added; unchanged if no peak is predicted."""
    if predicted.peak_bytes is None:
        return predicted
    return predicted.model_copy(update={"baseline_bytes": baseline_bytes(kind, backend, scheme)})
