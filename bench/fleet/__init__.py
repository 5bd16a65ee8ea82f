# SPDX-License-Identifier: Apache-2.0
"""Many boxes: loads are handed out to the nodes of a Ray cluster, and records come home whole or not at all."""

__all__ = ["call", "link", "wire"]
