#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: a key that every-eval-ever 0.3.0 has no field for, `weight_precision` beside a model's name, is refused by its
# validator, or is there when the file is read.
# Seen: the validator passes the file (exit 0, no warning), and the reader drops the key: the precision is lost.
# Our answer: bench/views/exports/every_eval_ever.py writes such keys to `additional_details`, whose values come back.
# Exits with 0 while the library does so, with 1 when it no longer does.
# It asks for Python 3.12; what is used here runs in 3.11 too, so that its own requirements are named one by one.
set -euo pipefail

pins=(every-eval-ever==0.3.0 huggingface_hub==1.33.0)
needs=(jsonschema==4.26.0 pydantic==2.14.3 pyyaml==6.0.3 requests==2.34.2 rich==14.3.4)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[1]}" "${needs[@]}"
"$venv/bin/pip" install -q --no-deps --ignore-requires-python "${pins[0]}"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$venv/bin/python" - "$folder" <<'PY'
import json
import pathlib
import subprocess
import sys

from every_eval_ever.eval_types import EvaluationLog

details = {"deployment_type": "self_deployed", "model_availability": "open_weights", "weight_precision": "int4"}
log = {
    "schema_version": "0.3.0", "evaluation_id": "set/org/model/0", "retrieved_timestamp": "0",
    "source_metadata": {
        "source_type": "evaluation_run", "source_organization_name": "org", "evaluator_relationship": "other",
    },
    "eval_library": {"name": "x", "version": "1"},
    "model_info": {"name": "model", "id": "org/model", "weight_precision": "int4", "additional_details": details},
    "evaluation_results": [{
        "evaluation_name": "set", "source_data": {"dataset_name": "set", "source_type": "other"},
        "metric_config": {"lower_is_better": False}, "score_details": {"score": 0.5},
    }],
}
path = pathlib.Path(sys.argv[1]) / "data/set/org/model/01234567-89ab-4def-8123-456789abcdef.json"
path.parent.mkdir(parents=True)
path.write_text(json.dumps(log))
passed = subprocess.run([sys.executable, "-m", "every_eval_ever.validate", str(path)], capture_output=True).returncode
model = EvaluationLog.model_validate_json(path.read_text()).model_info
print("validator's exit code:", passed)
print("read back beside the name:", model.model_dump().get("weight_precision"))
print("read back from additional_details:", model.additional_details["weight_precision"])
sys.exit(0 if passed == 0 and "weight_precision" not in model.model_dump() else 1)
PY
