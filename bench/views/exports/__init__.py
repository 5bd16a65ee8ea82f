# SPDX-License-Identifier: Apache-2.0
"""Other people's formats, one module each: rows become the files that another tool reads, by that tool's own library.

Each has `files(asked)`, which gives bytes by their path and says what is left out.
"""

from collections.abc import Callable

from bench.views.exports import eval_results, every_eval_ever, llama_bench, model_index, optimum_benchmark
from bench.views.exports.scored import Asked, Exported

FORMATS: dict[str, Callable[[Asked], Exported]] = {
    "model-index": model_index.files,
    "eval-results": eval_results.files,
    "every-eval-ever": every_eval_ever.files,
    "llama-bench": llama_bench.files,
    "optimum-benchmark": optimum_benchmark.files,
}
"""By the name that `bench export --to` takes."""
NEEDS = {"model-index": "huggingface_hub", "eval-results": "huggingface_hub"}
"""The distribution that makes a format."""

__all__ = ["FORMATS", "NEEDS", "Asked", "Exported"]
