# SPDX-License-Identifier: Apache-2.0
"""What engines share that run an exported graph: texts by the tokenizer's file, log-softmax, rows scored in packs."""
