# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of several nodes on this machine, listening on loopback alone: to try `bench run --ray` with.

    python -m benchmarks.loopback_cluster --nodes 2

prints the address and each node's process, and waits for Ctrl-C; `kill -9` of a node's process is a box that dies.
Ray replaces 127.0.0.1 by the machine's own address and then listens on every interface, unless its switch for Windows
and macOS says that there is no cluster (seen with 2.60). `ray start` refuses to join nodes then; this starts them as
Ray's own tests do.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from typing import Any

import psutil

SURROUNDINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0",
}  # fmt: skip
SMALL = {"include_dashboard": False, "object_store_memory": 80 * 2**20}


class Cluster:
    """A head that measures nothing, and nodes that do."""

    def __init__(
        self, nodes: int, *, cpus: float = 1.0, surroundings: dict[str, str] | None = None, port: int | None = None
    ) -> None:
        os.environ |= SURROUNDINGS | (surroundings or {})
        from ray._private import ray_constants
        from ray.cluster_utils import Cluster as Started

        assert not ray_constants.ENABLE_RAY_CLUSTER, "ray reads its switch when it is imported, and that was before"

        head = {"num_cpus": 0, **SMALL} | ({"gcs_server_port": port} if port else {})
        self.cluster = Started(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        self.nodes: list[Any] = []
        for _ in range(nodes):
            self.add(cpus=cpus)

    @property
    def address(self) -> str:
        """Of the head."""
        return str(self.cluster.address)

    def add(self, *, cpus: float = 1.0, only: Sequence[int] = (), **more: Any) -> Any:
        """One more node; with `only`, on these CPUs alone, which makes it another device."""
        before = os.sched_getaffinity(0)
        try:
            if only:
                os.sched_setaffinity(0, only)
            node = self.cluster.add_node(num_cpus=cpus, wait=False, **SMALL, **more)
        finally:
            os.sched_setaffinity(0, before)
        self.nodes.append(node)
        return node

    def kill(self, node: Any) -> None:
        """As a power cut does."""
        for process in processes(node):
            process.send_signal(signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.remove(node)

    def listening(self) -> set[str]:
        """The addresses on which anything of this cluster listens for connections."""
        mine = {p.pid for node in (self.cluster.head_node, *self.nodes) for p in processes(node)}
        found = psutil.net_connections("inet")
        return {c.laddr.ip for c in found if c.pid in mine and c.status == psutil.CONN_LISTEN}

    def close(self) -> None:
        """End all of it."""
        self.cluster.shutdown()


def processes(node: Any) -> list[psutil.Process]:
    """All processes of a node, what its tasks started included."""
    roots = [entry.process.pid for entries in node.all_processes.values() for entry in entries]
    found: list[psutil.Process] = []
    for pid in roots:
        if psutil.pid_exists(pid):
            root = psutil.Process(pid)
            found += [*root.children(recursive=True), root]
    return found


def raylet(node: Any) -> int:
    """The process whose death is the node's."""
    return int(node.all_processes["raylet"][0].process.pid)


def main() -> None:
    """Start, tell, wait."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--nodes", type=int, default=2)
    asked.add_argument("--cpus", type=float, default=float(os.cpu_count() or 1))
    options = asked.parse_args()
    cluster = Cluster(options.nodes, cpus=options.cpus)
    try:
        print(f"bench run --ray {cluster.address}", flush=True)
        for node in cluster.nodes:
            print(f"node {node.node_id[:6]}: kill -9 {raylet(node)}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
