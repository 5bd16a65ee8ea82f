# SPDX-License-Identifier: Apache-2.0
"""Hosts whose link is cut: network namespaces of this machine, where they can be made, and a real Ray cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks import cut_link, namespaces
from benchmarks.lost_node import Log

why = "Ray is not installed" if importlib.util.find_spec("ray") is None else namespaces.lacking()
pytestmark = pytest.mark.skipif(bool(why), reason=why or "all is here")


def test_a_host_whose_link_is_cut_gives_its_cells_back_and_one_that_returns_goes_on(tmp_path: Path) -> None:
    """Cut for two seconds nothing is lost; for good, the other host measures what was given back; each cell once."""
    log = Log()
    code, keys, torn = cut_link.run(log, "gpt2,gpt2-medium")
    said = "\n".join(log.lines)
    assert (code, torn) == (0, [])
    assert len(keys) == 12 and set(keys.values()) == {1}
    moment, _, rest = said.partition("is cut for good")
    assert "the link carries again" in moment and "has gone" not in moment
    assert rest.count("10.77.2.2") > 0 and "has gone" in rest
