# SPDX-License-Identifier: Apache-2.0
"""Tasks and texts become log-probabilities and item results."""

__all__ = ["anchor", "evaluation", "journal", "lm", "lm_text", "reference", "task_code", "task_files", "tasks"]
