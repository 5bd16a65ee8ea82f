# SPDX-License-Identifier: Apache-2.0
"""What is measured and how: one short file per suite, its docstring is the method."""

ORDER = ("memory", "throughput", "divergence", "quality", "capacity")
"""The order in which one loaded model answers them: the cheap and the fragile first, what goes to the limit last."""
DEFAULT = ORDER[:4]
"""What is measured where no suite is named; the rest is asked for by name."""
DEATHS = {"capacity": 4}
"""How often a cell is begun again when its process is killed for memory, where the suite learns from that."""
