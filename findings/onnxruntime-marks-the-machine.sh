#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: `import onnxruntime` (1.32.0 from PyPI, Linux) leaves no trace; telemetry was Windows' alone for years.
# Seen: before anything is loaded it writes an identifier of the machine below the user's cache folder and `.ses` among
# the temporary files, for telemetry that is on unless ORT_DISABLE_TELEMETRY is set before the import: the Python
# call `disable_telemetry_events` comes too late for both. Set, neither is written.
# Our answer: bench/engines/onnxruntime/__init__.py sets it for itself and every process that it starts.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
written() ( # WORD [NAME=VALUE]: what an import writes, in a home of its own and without a way into the network
  unset CI XDG_CACHE_HOME
  export HOME="$scratch/$1/home" TMPDIR="$scratch/$1/tmp" https_proxy=http://127.0.0.1:9 "${@:2}"
  mkdir -p "$HOME" "$TMPDIR"
  "$venv/bin/python" -c 'import onnxruntime; onnxruntime.disable_telemetry_events()'
  cd "$scratch/$1" && find . -type f | sort
)
plain=$(written plain)
asked=$(written asked ORT_DISABLE_TELEMETRY=1)
echo "written by the import: ${plain:-nothing}"
echo "with ORT_DISABLE_TELEMETRY=1: ${asked:-nothing}"
[ -n "$plain" ] && [ -z "$asked" ]
