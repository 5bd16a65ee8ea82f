# SPDX-License-Identifier: Apache-2.0
"""Every Eval Ever 0.3.0: one JSON file a task, precision and model, in the folders of its datastore.

Its schema has no field for a precision. Unknown keys pass its validator and are dropped by its reader, so the agreed
keys go to `model_info.additional_details`, whose values are text. Records of several precisions of a model would stand
in one folder of its datastore, where its export takes them for one: each precision has a datastore of its own here.
File names and times come from the records, so that writing twice changes no byte. Pure.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import defaultdict

from bench.judge.stats import Estimate
from bench.records.record import moment
from bench.views.exports import identity
from bench.views.exports.scored import Asked, Exported, Scored, scored

VERSION = "0.3.0"
"""Of the schema."""
ENGINES = {
    "transformers": "transformers", "llamacpp": "llama_cpp_python", "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}  # fmt: skip
"""The package that an engine is, as records name it."""
Json = dict[str, object]


def files(asked: Asked) -> Exported:
    """LABEL/data/TASK/OWNER/MODEL/UUID.json."""
    found, left = scored(asked)
    by_file: dict[str, list[Scored]] = defaultdict(list)
    for one in found:
        name = f"{one.model_id}/{one.label}/{one.score.task}/{one.row.device}/{one.record.id}"
        unique = uuid.UUID(hex=hashlib.sha256(name.encode()).hexdigest()[:32], version=4)
        by_file[f"{one.label}/data/{identity.component(one.score.task)}/{one.model_id}/{unique}.json"].append(one)
    made = {
        path: (json.dumps(_log(of_file, asked.organisation), indent=2, sort_keys=True) + "\n").encode()
        for path, of_file in by_file.items()
    }
    return Exported(files=made, left_out=tuple(left))


def _log(of_file: list[Scored], organisation: str) -> Json:
    first = of_file[0]
    record, versions = first.record, first.record.versions
    when = str(int(moment(record.started).timestamp()))
    return {
        "schema_version": VERSION,
        "evaluation_id": f"{first.score.task}-{first.label}/{first.model_id}/{when}",
        "evaluation_timestamp": when,
        "retrieved_timestamp": when,
        "source_metadata": {
            "source_name": "bench",
            "source_type": "evaluation_run",
            "source_organization_name": organisation,
            "evaluator_relationship": "third_party",
        },
        "eval_library": {
            "name": "bench",
            "version": versions.bench,
            "additional_details": {
                "git": versions.git or "unknown", "lm_eval": versions.packages.get("lm_eval", "unknown"),
            },
        },
        "model_info": {
            "name": first.row.model,
            "id": first.model_id,
            "developer": first.model_id.split("/")[0],
            "inference_engine": {
                "name": first.row.backend,
                "version": versions.packages.get(ENGINES.get(first.row.backend, ""), "unknown"),
            },
            "additional_details": identity.told(first.row, record)
            | {"deployment_type": "self_deployed", "model_availability": "open_weights"},
        },
        "evaluation_results": [_result(one) for one in of_file],
    }  # fmt: skip


def _result(one: Scored) -> Json:
    task = one.score.task
    source: Json = {"dataset_name": task, "source_type": "other"}
    if one.dataset:
        source = {"dataset_name": task, "source_type": "hf_dataset", "hf_repo": one.dataset}
    config: Json = {
        "evaluation_description": f"{one.score.metric} of {task}",
        "metric_id": one.score.metric,
        "metric_name": one.score.metric,
        "lower_is_better": one.lower_is_better,
    }
    if one.score.share:
        config |= {"metric_unit": "proportion", "score_type": "continuous", "min_score": 0.0, "max_score": 1.0}
    return {
        "evaluation_result_id": f"{task}/{one.score.metric}",
        "evaluation_name": task,
        "source_data": source,
        "metric_config": config,
        "score_details": {
            "score": one.score.estimate.value,
            "uncertainty": _uncertainty(one.score.estimate, one.score.items),
        },
    }


def _uncertainty(estimate: Estimate, items: int) -> Json:
    found: Json = {"num_samples": items}
    if estimate.low is not None and estimate.high is not None:
        found["confidence_interval"] = {"lower": estimate.low, "upper": estimate.high, "confidence_level": 0.95}
    return found
