# SPDX-License-Identifier: Apache-2.0
"""What is measured and how: one short file per suite, its docstring is the method."""

ORDER = ("memory", "throughput", "divergence", "quality")
"""The order in which one loaded model answers them: the cheap and the fragile first."""
