# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.fleet.ray_link ADDRESS`: the one process that is a client of Ray, and the only module that knows it.

It takes questions as lines of JSON on stdin and gives what the boxes say as lines on stdout. Ray ends its client where
it loses its head, and may hang in a call; whoever started this process notices, and starts another.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from typing import Any

from bench.fleet import tasks
from bench.fleet.wire import Box, Needs, line, own_output

LOOK_S = 2.0
"""Seconds between two looks at which nodes live."""
LOOPBACK = ("127.", "localhost", "[::1]")
HERE_ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's own switch, 0 where it is to stay on loopback: else it replaces a loopback address by the machine's own."""

LOST = {
    "NodeDiedError": "its node is gone",
    "TaskUnschedulableError": "its node is gone",
    "WorkerCrashedError": "its process at Ray was killed",
    "LocalRayletDiedError": "its node is gone",
    "OutOfMemoryError": "Ray killed it, for the node's memory was nearly full",
    "ObjectLostError": "its node is gone with what it had said",
    "OwnerDiedError": "its node is gone with what it had said",
}
"""What Ray's errors mean for a question, by their names."""


class Client:
    """Asks boxes through Ray. Each question has a thread, which waits for its lines."""

    def __init__(self) -> None:
        self._lines, self._lock = own_output(), threading.Lock()

    def say(self, event: str, **facts: Any) -> None:
        """One line."""
        with self._lock:
            self._lines.write(json.dumps({"event": event, **facts}) + "\n")

    def connect(self, address: str) -> bool:
        """Become a client of the cluster, or say in one line why not."""
        try:
            import ray
            from ray import cloudpickle
        except Exception as error:  # noqa: BLE001 - it imports what else is installed, which may raise anything
            self.say("broken", message=_why(error))
            return False
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:  # noqa: BLE001 - Ray's refusals share no kind
            self.say("refused", message=_why(error))
            return False
        cloudpickle.register_pickle_by_value(tasks)  # a box may have another harness, or none
        self.task = ray.remote(tasks.answered)
        return True

    def ask(self, name: str, box: str, program: str, question: str, needs: Needs) -> None:
        """Hand one question to a box; its lines come as they are said."""
        threading.Thread(target=self._hear, args=(name, box, program, question, needs), daemon=True).start()

    def _hear(self, name: str, box: str, program: str, question: str, needs: Needs) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory_bytes}
        if needs.accelerator:
            asked["accelerator_type"] = needs.accelerator
        try:
            # Ray must run nothing twice: whoever asked knows what is home.
            lines = self.task.options(
                max_retries=0, num_returns="streaming", name=f"bench {name}",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=box, soft=False), **asked,
            ).remote(program, question)  # fmt: skip
            for found in lines:
                self.say("said", name=name, line=ray.get(found))
        except Exception as error:  # noqa: BLE001 - however it is lost, whoever asked decides
            self.say("lost", name=name, why=_why(error))
        else:
            self.say("over", name=name)

    def watch(self) -> None:
        """Say which boxes there are, whenever that has changed, and between that somebody is here."""
        import ray

        last = None
        while True:
            boxes = [_box(node) for node in ray.nodes() if node["Alive"]]
            found = json.dumps([json.loads(line(box)) for box in sorted(boxes, key=lambda box: (box.host, box.id))])
            self.say("alive") if found == last else self.say("boxes", boxes=json.loads(found))
            last = found
            time.sleep(LOOK_S)


def _box(node: dict[str, Any]) -> Box:
    has = node["Resources"]
    kinds = [name.removeprefix("accelerator_type:") for name in has if name.startswith("accelerator_type:")]
    return Box(
        id=node["NodeID"], host=node["NodeManagerAddress"], cpus=has.get("CPU", 0.0), gpus=int(has.get("GPU", 0)),
        memory_bytes=int(has.get("memory", 0)), accelerator=next(iter(kinds), None),
    )  # fmt: skip


def _why(error: Exception) -> str:
    """What it means where that is known, else the first line that says something with the error's kind."""
    if (known := LOST.get(type(error).__name__)) is not None:
        return known
    said = next((text.strip() for text in str(error).splitlines() if text.strip()), "")
    return f"{type(error).__name__}: {said}"[:300]


def main() -> None:
    """Connect, then hand on questions until whoever asks has gone."""
    address = sys.argv[1]
    if address.startswith(LOOPBACK):
        os.environ.setdefault(HERE_ALONE, "0")
    client = Client()
    if not client.connect(address):
        return
    threading.Thread(target=client.watch, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # whoever started us heard it too, and closes our input
        for text in sys.stdin:
            asked = json.loads(text)
            client.ask(asked["name"], asked["box"], asked["program"], asked["question"], Needs(**asked["needs"]))
    os.kill(os.getpid(), 9)  # its tasks end with it; an orderly end would wait for them


if __name__ == "__main__":
    main()
