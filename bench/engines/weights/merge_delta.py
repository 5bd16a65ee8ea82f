# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.weights.merge_delta BASE DELTA ROWS FOLDER`: add a weight difference to its base."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines.weights.files import SMALL_FILES, Refused, guarded
from bench.engines.weights.fingerprints import weight_files

if TYPE_CHECKING:
    import torch


def merge(base: Path, delta: Path, folder: Path, rows: str = "zero") -> None:
    """Write base + delta into `folder` with the delta's configuration and tokenizer, in the base's storage type.

    Sums are float32. Rows that the delta has beyond the base's vocabulary are added to nothing (`zero`, as FastChat's
    script sets the base's new rows), or to the `mean` of the base's rows, to which Stanford's resizes. Raises Refused
    where the two do not belong together.
    """
    import torch
    from safetensors.torch import save_file

    held = _tensors(base)
    index: dict[str, str] = {}
    size = 0
    sources = weight_files(delta)
    for number, source in enumerate(sources, 1):
        name = f"model-{number:05}-of-{len(sources):05}.safetensors"
        summed: dict[str, torch.Tensor] = {}
        for key, read in _file(source):
            if key.endswith("rotary_emb.inv_freq"):  # a buffer that older versions stored
                continue
            if key not in held:
                raise Refused(f"the base has no {key}: this difference belongs to another model")
            difference, own = read(), held[key]()
            if own.dim() != difference.dim() or own.shape[1:] != difference.shape[1:] or len(own) > len(difference):
                raise Refused(f"{key} is {tuple(own.shape)} in the base, {tuple(difference.shape)} in the difference")
            total = difference.to(torch.float32, copy=True)
            total[: len(own)] += own.float()
            if rows == "mean" and len(own) < len(total):
                total[len(own) :] += own.float().mean(0)
            summed[key] = total.to(own.dtype).contiguous()
            size += summed[key].numel() * summed[key].element_size()
        save_file(summed, str(folder / name), metadata={"format": "pt"})
        index |= dict.fromkeys(summed, name)
    for pattern in SMALL_FILES:
        for path in delta.glob(pattern):
            if not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)
    written = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(written), encoding="utf-8")
    _copy_config(base, folder)


def _copy_config(base: Path, folder: Path) -> None:
    """The delta's configuration with the storage type of the base."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own = json.loads((base / "config.json").read_text(encoding="utf-8"))
    stored = own.get("dtype") or own.get("torch_dtype")
    config.pop("torch_dtype", None)
    config["dtype"] = stored
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _tensors(folder: Path) -> dict[str, Callable[[], torch.Tensor]]:
    return {key: read for path in weight_files(folder) for key, read in _file(path)}


def _file(path: Path) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Names of a file's tensors, each with a call that reads it; pickles are read as weights only."""
    import torch
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        file = safe_open(path, framework="pt")
        names: Callable[[], Iterable[str]] = (
            file.keys
        )  # the library has no types, or is not here where they are checked
        yield from ((name, partial(file.get_tensor, name)) for name in names())
    else:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        yield from ((key, partial(tensors.__getitem__, key)) for key in tensors)


if __name__ == "__main__":
    base, delta, rows, folder = sys.argv[1:]
    sys.exit(guarded(lambda: merge(Path(base), Path(delta), Path(folder), rows)))
