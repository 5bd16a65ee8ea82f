#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: when the Hub answers 500, huggingface_hub 2.4.0 raises an error that names the status.
# Seen: it raises LocalEntryNotFoundError, which is also an EntryNotFoundError, and the status is only in its cause.
# Our answer: bench/engines/weights/files.py looks at the cause.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(huggingface_hub==2.4.0)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

HF_HOME=$(mktemp -d)
export HF_HOME
trap 'rm -rf "$HF_HOME"' EXIT
"$venv/bin/python" - <<'PY'
import http.server
import os
import sys
import threading


class Refuses(http.server.BaseHTTPRequestHandler):
    """Answers every request with 500."""

    def do_GET(self):
        self.send_error(500)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

try:
    hf_hub_download("some/model", "config.json", etag_timeout=2)
except Exception as error:
    print("raised:", type(error).__name__, "| is an EntryNotFoundError:", isinstance(error, EntryNotFoundError))
    print("message names the status:", "500" in str(error))
    print("cause:", type(error.__cause__).__name__, str(error.__cause__).splitlines()[0])
    sys.exit(0 if isinstance(error, EntryNotFoundError) else 1)
sys.exit(1)
PY
