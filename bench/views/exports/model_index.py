# SPDX-License-Identifier: Apache-2.0
"""`model-index`: the metadata of a model card, one file a model, through huggingface_hub's own EvalResult.

The library groups results by task and data set, and of what stands beside the data set (`dataset_args`, the task's
name) it keeps the first of a group: `findings/huggingface-hub-merges-results.sh`. So the precision goes to the metric,
into `args`, with its label in `config`, and only these come back. Pure.
"""

from __future__ import annotations

from collections import defaultdict

from bench.views.exports.scored import Asked, Exported, Scored, scored

TASK_TYPE = "text-generation"
FILE = "model-index.md"
"""Not README.md, so that nobody's card is overwritten: `huggingface_hub.metadata_update` merges it into one."""


def files(asked: Asked) -> Exported:
    """A card's metadata for each model."""
    from huggingface_hub import ModelCardData

    found, left = scored(asked)
    by_model: dict[str, list[Scored]] = defaultdict(list)
    for one in found:
        by_model[one.model_id].append(one)
    made = {}
    for model_id, of_model in by_model.items():
        card = ModelCardData(model_name=model_id, eval_results=[_result(one) for one in of_model])
        made[f"{model_id}/{FILE}"] = f"---\n{card.to_yaml()}\n---\n".encode()
    return Exported(files=made, left_out=tuple(left))


def _result(one: Scored) -> object:
    from huggingface_hub import EvalResult

    task = one.score.task
    return EvalResult(
        task_type=TASK_TYPE,
        dataset_type=one.dataset or task,
        dataset_name=task,
        dataset_config=task,  # part of what results are grouped by: two tasks of one data set stay two
        metric_type=one.score.metric,
        metric_value=one.score.estimate.value,
        metric_name=f"{one.score.metric} ({one.label})",
        metric_config=one.label,
        metric_args=one.told,
    )
