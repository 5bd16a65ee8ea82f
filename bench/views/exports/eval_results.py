# SPDX-License-Identifier: Apache-2.0
"""`.eval_results/*.yaml` of a model's repository, through huggingface_hub's own EvalResultEntry: one file a precision.

The format has no field for a precision, an interval or a number of items: they are JSON in `notes`. It wants a data set
of the Hub for each score, which records do not hold; a task that the caller names none for is left out. Only the metric
that stands for a task is written, for an entry has no name of its metric either. Pure.
"""

from __future__ import annotations

import json
from collections import defaultdict

from bench.views.exports.scored import Asked, Exported, Scored, scored


def files(asked: Asked) -> Exported:
    """For each model and precision the scores of its tasks."""
    import yaml
    from huggingface_hub import eval_result_entries_to_yaml

    found, left = scored(asked)
    by_file: dict[str, list[Scored]] = defaultdict(list)
    without: dict[str, None] = {}
    for one in found:
        if not one.stands:
            continue
        if one.dataset is None:
            without[one.score.task] = None
        else:
            by_file[f"{one.model_id}/.eval_results/{one.label}.yaml"].append(one)
    if without:
        left.append(f"no data set of the Hub is named for {', '.join(without)}: pass --dataset TASK=ORG/NAME")
    made = {
        path: yaml.safe_dump(eval_result_entries_to_yaml([_entry(one) for one in of_file]), sort_keys=False).encode()
        for path, of_file in by_file.items()
    }
    return Exported(files=made, left_out=tuple(left))


def _entry(one: Scored) -> object:
    from huggingface_hub import EvalResultEntry

    return EvalResultEntry(
        dataset_id=one.dataset or "",
        task_id=one.score.task,
        value=one.score.estimate.value,
        date=one.record.started,
        notes=json.dumps(one.told, ensure_ascii=True),
    )
