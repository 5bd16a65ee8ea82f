# SPDX-License-Identifier: Apache-2.0
"""transformers' own quantized cache, by the hqq package: a new one for every text.

Keys and values are quantized in groups of GROUP along a head (`axis` 1), so that what was quantized stays as it is
when the cache is written anew, which happens every RESIDUAL tokens; the tokens since then are kept in the compute
type. A call attends with its own unquantized keys: only what is read in pieces, or generated, reads the cache.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import Cache, PreTrainedModel, QuantizedCache

from bench.engines.contract import Unsupported
from bench.engines.transformers.kv_settings import kept_in


def maker(model: PreTrainedModel, kv: str | None) -> Callable[[], Cache] | None:
    """What makes an empty cache of that precision, None for the model's own. Raises Unsupported."""
    if kv is None:
        return None

    def make() -> Cache:
        return QuantizedCache(config=model.config, **kept_in(kv))

    try:
        make()
    except (ImportError, ValueError) as error:
        raise Unsupported(
            f"transformers keeps no {kv} cache of this model: {str(error).splitlines()[0][:160]}"
        ) from error
    return make
