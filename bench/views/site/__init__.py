# SPDX-License-Identifier: Apache-2.0
"""The figures as a static site that opens from disk: tables without JavaScript, a plot and limits with it."""

__all__ = ["publish"]
