# SPDX-License-Identifier: Apache-2.0
"""`bench push` against a Hub on loopback: nothing leaves without `--yes`, and no token is ever printed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.cli.push import PLACE
from bench.paths import ROOT

TOKEN = "hf_" + "notARealTokenButLongEnough" * 2
PLACE_ASKED = "hf://datasets/org/figures@main/today"


@dataclass
class Taken:
    """What the server was sent, and how it answers commits."""

    status: int = 200
    url: str = ""
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> tuple[int, object]:
        """As the Hub answers an upload."""
        if path.endswith("/preupload/main"):
            sent = json.loads(body)["files"]
            regular = {"uploadMode": "regular", "shouldIgnore": False}
            return 200, {"files": [{"path": one["path"], **regular} for one in sent]}
        if path.endswith("/commit/main"):
            if self.status != 200:
                return self.status, {"error": f"no: {TOKEN}"}
            for line in body.decode().splitlines():
                one = json.loads(line)
                if one["key"] == "file":
                    self.files[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            return 200, {
                "commitUrl": f"{self.url}/datasets/org/figures/commit/0123abcd",
                "commitOid": "0123abcd",
                "commitTitle": "x",
            }
        return 200, {"id": "org/figures", "sha": "0" * 40, "siblings": []}


@pytest.fixture
def hub() -> Iterator[Taken]:
    """A Hub that takes what it is sent."""
    taken = Taken()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            taken.asked.append(f"{self.command} {self.path}")
            taken.tokens.add(self.headers.get("Authorization") or "")
            status, data = taken.answer(self.path.split("?")[0], body)
            content = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield taken
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one of them in a hidden folder, a half-written one and a link that leads out."""
    made = tmp_path / "made"
    (made / "tiny" / ".eval_results").mkdir(parents=True)
    (made / "tiny" / ".eval_results" / "bf16.yaml").write_text("- value: 1\n")
    (made / "rows.csv").write_text("a,b\n")
    (made / "rows.csv.part-host-1").write_text("a")
    (tmp_path / "secret").write_text("mine")
    (made / "link").symlink_to(tmp_path / "secret")
    return made


def pushed(hub: Taken, folder: Path, *more: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """`bench push` in a process of its own, for the library reads its settings once."""
    home = folder.parent / "home"
    variables = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": token}
    asked = [sys.executable, "-m", "bench", "push", "--to", PLACE_ASKED, "--folder", str(folder), *more]
    return subprocess.run(asked, capture_output=True, text=True, check=False, cwd=ROOT, env=variables)


def test_without_yes_files_are_listed_and_nothing_leaves(hub: Taken, folder: Path) -> None:
    """Neither half-written files nor links are among them."""
    done = pushed(hub, folder)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "     4 B  today/rows.csv", "    11 B  today/tiny/.eval_results/bf16.yaml",
        f"2 files, 15 B, to {PLACE_ASKED}: nothing was uploaded; --yes uploads them",
    ]  # fmt: skip
    assert done.stderr == "left out: link is a link\n"
    assert hub.asked == []


def test_with_yes_the_very_files_arrive_in_one_commit(hub: Taken, folder: Path) -> None:
    """The token goes to the Hub and to no screen."""
    pytest.importorskip("huggingface_hub")
    done = pushed(hub, folder, "--yes")
    assert done.returncode == 0, done.stderr
    assert hub.files == {"today/rows.csv": b"a,b\n", "today/tiny/.eval_results/bf16.yaml": b"- value: 1\n"}
    assert [one for one in hub.asked if "/commit/" in one] == ["POST /api/datasets/org/figures/commit/main"]
    assert f"Bearer {TOKEN}" in hub.tokens
    assert done.stdout.endswith(f"to {PLACE_ASKED}: uploaded as 0123abcd\n")
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "log in with"), (403, "use a token that may write"), (404, "create it first")]
)
def test_a_refusal_is_one_line_without_the_token(hub: Taken, folder: Path, status: int, remedy: str) -> None:
    """Whatever the server says."""
    pytest.importorskip("huggingface_hub")
    hub.status = status
    done = pushed(hub, folder, "--yes")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"bench: the Hub refused org/figures with status {status}; {remedy}")
    assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_a_file_that_holds_the_token_stops_everything(hub: Taken, folder: Path) -> None:
    """It is named, and nothing is sent."""
    pytest.importorskip("huggingface_hub")
    (folder / "log.txt").write_text(f"token={TOKEN}")
    done = pushed(hub, folder, "--yes")
    assert done.returncode == 2
    assert f"{folder / 'log.txt'} holds your token; remove it there; nothing was uploaded" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert hub.asked == []


def test_without_a_token_and_without_a_hub_it_is_one_line(hub: Taken, folder: Path) -> None:
    """With what to do."""
    pytest.importorskip("huggingface_hub")
    without = pushed(hub, folder, "--yes", token="")
    assert (without.returncode, hub.asked) == (2, [])
    assert without.stderr.splitlines()[-1].startswith("bench: the Hub wants a token to upload; log in with")
    hub.url = "http://127.0.0.1:9"  # nothing listens there
    alone = pushed(hub, folder, "--yes")
    assert alone.returncode == 2
    assert alone.stderr.splitlines()[-1].startswith("bench: the Hub cannot be reached: ")


def test_no_token_goes_over_plain_http_to_another_machine(hub: Taken, folder: Path) -> None:
    """Refused before anything is looked up; the address is one that is kept for documents and leads nowhere."""
    pytest.importorskip("huggingface_hub")
    hub.url = "http://192.0.2.1"
    done = pushed(hub, folder, "--yes")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("bench: HF_ENDPOINT, where your token goes: 192.0.2.1 is not this machine, and plain http")
    assert last.endswith("; give its https address, or open a tunnel to it")


@pytest.mark.parametrize(
    "place", ["", "org/name", "hf://org/name", "hf://models/org/name", "hf://datasets/name", "hf://datasets/a/b/../c",
              "https://example.org/x", "hf://datasets/a/b c"],
)  # fmt: skip
def test_what_is_no_data_set_is_refused(place: str) -> None:
    """Before anything is looked at."""
    asked = [sys.executable, "-m", "bench", "push", "--to", place, "--yes"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: ") and "write --to hf://datasets/ORG/NAME" in done.stderr


def test_a_place_has_a_repository_and_may_have_a_branch_and_a_path() -> None:
    """As the Hub's own file system writes them."""
    found = PLACE.fullmatch(PLACE_ASKED)
    assert found and found.groupdict() == {"repo": "org/figures", "revision": "main", "path": "today"}
    assert PLACE.fullmatch("hf://datasets/org/figures")
