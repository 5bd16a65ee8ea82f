# SPDX-License-Identifier: Apache-2.0
"""What engines share: weights found, fetched, merged or quantized, once, into folders that any engine can load."""
