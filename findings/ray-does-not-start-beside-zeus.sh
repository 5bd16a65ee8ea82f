#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: Ray 2.60.0 and zeus 0.16.0, which measures energy, work in one environment. Where a machine has no AMD card,
# nothing of AMD's is needed.
# Seen: zeus requires `amdsmi`. Ray imports that, if it is there, while it is imported itself, and passes over nothing
# but ImportError; without AMD's own library beside it the package (7.0.2) ends in KeyError: 'libamd_smi.so'. So `import
# ray` fails on every machine without ROCm, whether or not anybody asked for a GPU.
# Our answer: bench/fleet/ray_link.py imports Ray in a process of its own and tells the failure in one line.
# Exits with 0 while the library does so, with 1 when it no longer does (or where AMD's library is installed).
set -euo pipefail

pins=(ray==2.60.0 amdsmi==7.0.2)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$venv/bin/pip" download -q --no-deps --dest "$folder" zeus==0.16.0
"$venv/bin/python" - "$folder" <<'PY'
import pathlib
import subprocess
import sys
import zipfile

(wheel,) = pathlib.Path(sys.argv[1]).glob("zeus-*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    wanted = "Requires-Dist: amdsmi" in archive.read(name).decode().splitlines()
print("zeus requires amdsmi:", wanted)


def imported(code):
    """The last line of an import in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.returncode, (done.stderr.splitlines() or ["no error"])[-1]


beside = imported("import ray")
without = imported("import sys; sys.modules['amdsmi'] = None; import ray")
print("import ray, amdsmi beside it:", beside[1])
print("import ray, amdsmi hidden:", without[1])
sys.exit(0 if wanted and beside == (1, "KeyError: 'libamd_smi.so'") and without[0] == 0 else 1)
PY
