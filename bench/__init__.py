# SPDX-License-Identifier: Apache-2.0
"""Memory, speed and quality of catalogue models at fp16, 8-bit and 4-bit, measured on this machine."""
