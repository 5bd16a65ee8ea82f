# SPDX-License-Identifier: Apache-2.0
"""What there is to ask about: entries read from `catalog/`, their architectures, local and served models."""

__all__ = [
    "address",
    "architecture",
    "config",
    "contents",
    "contexts",
    "dimensions",
    "entries",
    "gguf_file",
    "gguf_folder",
    "gguf_model",
    "gguf_states",
    "hybrid",
    "launch",
    "local_model",
    "model",
    "prompts",
    "remote",
]
