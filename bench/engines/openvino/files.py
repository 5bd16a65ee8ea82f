# SPDX-License-Identifier: Apache-2.0
"""Names in the folder of an exported model, and whether a file was written whole."""

from __future__ import annotations

import errno
import os
import xml.etree.ElementTree as ET
from pathlib import Path

from bench.engines.exported.proof import proven

MODEL, WEIGHTS = "openvino_model.xml", "openvino_model.bin"


def check_written(folder: Path) -> None:
    """Raise OSError where the weights are shorter than the graph says: a full disk may be met without a word."""
    end = 0
    for _, node in ET.iterparse(folder / MODEL):  # noqa: S314 - written by this project's own process
        if node.tag == "data" and "offset" in node.attrib:
            end = max(end, int(node.attrib["offset"]) + int(node.attrib["size"]))
    if (folder / WEIGHTS).stat().st_size < end:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def proven_mask(folder: Path) -> bool:
    """Whether the export was proven with a plain causal mask in place of its own."""
    return proven(folder, "causal")
