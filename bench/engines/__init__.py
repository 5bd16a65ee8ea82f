# SPDX-License-Identifier: Apache-2.0
"""How models are loaded and run: one folder or file for each engine, all with one contract."""

__all__ = ["abilities", "contract", "registry", "weights"]
