#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: two results in a model card of huggingface_hub 2.4.0 that differ in `dataset_args` come back as written.
# Seen: results of one task type, data set, configuration, split and revision are one group, and of what stands beside
# the data set (`dataset_args`, `dataset_name`, `task_name`, the source) each gets what the first of its group had: an
# int4 score is read back as bf16. Of the metric's own fields nothing is lost.
# Our answer: bench/views/exports/model_index.py tells the precision in `metric_args` and `metric_config`.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(huggingface_hub==2.4.0)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

"$venv/bin/python" - <<'PY'
import sys

from huggingface_hub import EvalResult, ModelCard, ModelCardData


def result(precision, value):
    return EvalResult(
        task_type="text-generation", dataset_type="org/set", dataset_name="Set", metric_type="acc",
        metric_value=value, dataset_args={"precision": precision}, metric_args={"precision": precision},
    )


card = ModelCardData(model_name="org/model", eval_results=[result("bf16", 0.7), result("int4", 0.5)])
read = ModelCard(f"---\n{card.to_yaml()}\n---\n").data.eval_results
for one in read:
    print(one.metric_value, "dataset_args:", one.dataset_args, "metric_args:", one.metric_args)
kept = [one.metric_args["precision"] for one in read] == ["bf16", "int4"]
sys.exit(0 if kept and [one.dataset_args["precision"] for one in read] == ["bf16", "bf16"] else 1)
PY
