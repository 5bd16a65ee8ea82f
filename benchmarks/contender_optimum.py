# SPDX-License-Identifier: Apache-2.0
"""optimum-benchmark as a contender of `validate.py`: runs in its own environment and knows nothing of this project.

python contender_optimum.py inline|process FOLDER PROMPT TOKENS REPEATS
"""

import json
import sys

from optimum_benchmark import Benchmark, BenchmarkConfig, InferenceConfig, InlineConfig, ProcessConfig, PyTorchConfig


def main() -> None:
    """Measure as its own users do, print tokens per second of its median latencies."""
    launcher, folder = sys.argv[1:3]
    prompt, tokens, repeats = map(int, sys.argv[3:])
    config = BenchmarkConfig(
        name="peer",
        launcher=InlineConfig() if launcher == "inline" else ProcessConfig(),
        scenario=InferenceConfig(
            latency=True, memory=False, warmup_runs=1, iterations=repeats, duration=0,
            input_shapes={"batch_size": 1, "sequence_length": prompt},
            generate_kwargs={"max_new_tokens": tokens, "min_new_tokens": tokens},
        ),
        backend=PyTorchConfig(model=folder, device="cpu", torch_dtype="float32", task="text-generation"),
    )  # fmt: skip
    found = Benchmark.launch(config)
    rates = {
        "prefill": [prompt / value for value in found.prefill.latency.values],
        "decode": [(tokens - 1) / value for value in found.decode.latency.values],
        "chosen": [],
    }
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
