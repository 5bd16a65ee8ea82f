# SPDX-License-Identifier: Apache-2.0
"""What the kill drill does to a run besides killing: another time of day, and a network whose connections are cut."""

from __future__ import annotations

import contextlib
import json
import mmap
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile double *ahead;
static int (*real)(clockid_t, struct timespec *);
static void begin(void) {
  if (real) return;
  const char *path = getenv("DRILL_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) { ahead = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0); close(file); }
  real = dlsym(RTLD_NEXT, "clock_gettime");
}
int clock_gettime(clockid_t id, struct timespec *now) {
  begin();
  int code = real(id, now);
  if (code == 0 && id == CLOCK_REALTIME && ahead) now->tv_sec += (time_t)*ahead;
  return code;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec told;
  int code = clock_gettime(CLOCK_REALTIME, &told);
  (void)zone;
  now->tv_sec = told.tv_sec; now->tv_usec = told.tv_nsec / 1000;
  return code;
}
time_t time(time_t *now) {
  struct timespec told;
  clock_gettime(CLOCK_REALTIME, &told);
  if (now) *now = told.tv_sec;
  return told.tv_sec;
}
"""
WORD_S = 0.004
"""Between two words of the server, so that many a cut meets an answer in its middle."""


class MovedClock:
    """Another time of day for the processes that load its library before the C library."""

    def __init__(self, folder: Path) -> None:
        self.library, self.ahead = folder / "clock.so", folder / "ahead"
        source = folder / "clock.c"
        source.write_text(CLOCK)
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        self.ahead.write_bytes(struct.pack("d", 0.0))
        self.works = sys.platform == "linux" and compiler is not None
        if self.works:
            command = [str(compiler), "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"]
            self.works = subprocess.run(command, check=False).returncode == 0

    def environment(self) -> dict[str, str]:
        """Of a process whose clock moves; empty without a compiler."""
        return {"LD_PRELOAD": str(self.library), "DRILL_CLOCK": str(self.ahead)} if self.works else {}

    def move(self, seconds: float) -> None:
        """So far from the true time, for all that runs and will run."""
        with self.ahead.open("r+b") as file, mmap.mmap(file.fileno(), 8) as held:
            held[:8] = struct.pack("d", seconds)


class Answering(BaseHTTPRequestHandler):
    """Streams as many words as it is asked for, in OpenAI's form."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One answer, word by word."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        wanted = int(body.get("max_completion_tokens") or body.get("max_tokens") or 16)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(wanted):
            time.sleep(WORD_S)
            self._event({"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]})
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        self._event({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": wanted}})
        self._piece("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, event: dict[str, Any]) -> None:
        self._piece(f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'model': 'm', **event})}\n\n")

    def _piece(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def log_message(self, *facts: object) -> None:
        """Nothing."""


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Answering)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember who is connected."""
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget it."""
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no news."""


class CutServer:
    """A server on loopback, whose connections are cut in the middle, and which is not there for a while."""

    def __init__(self) -> None:
        self._server = _Listening(0)
        self.port = int(self._server.server_address[1])
        self._serve()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def cut(self) -> int:
        """Reset all connections, as a router that has restarted does; returns how many there were."""
        found = list(self._server.open)
        for connection in found:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RD)
            with contextlib.suppress(OSError):
                connection.close()
            self._server.open.discard(connection)
        return len(found)

    def away(self, seconds: float) -> int:
        """Cut them, and refuse new ones for so long; returns how many there were."""
        self._server.shutdown()
        self._server.server_close()
        met = self.cut()
        time.sleep(seconds)  # what is drilled is real time
        self._server = _Listening(self.port)
        self._serve()
        return met

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self.cut()
